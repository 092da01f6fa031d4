"""The official conformance suite, where its program is at hand."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from running import Running

VARIABLE = "OCI_CONFORMANCE_BINARY"


@pytest.mark.skipif(VARIABLE not in os.environ, reason=f"{VARIABLE} names no program")
@pytest.mark.parametrize("version", ["1.0", "1.1", "dev"])
def test_official_suite(registry: Running, tmp_path: Path, version: str) -> None:
    """Every check of a version of the specification passes."""
    settings = {
        "OCI_REGISTRY": registry.host,
        "OCI_TLS": "disabled",
        "OCI_REPO1": "official/one",
        "OCI_REPO2": "official/two",
        "OCI_VERSION": version,
        "OCI_RESULTS_DIR": str(tmp_path),
    }
    done = subprocess.run(
        [os.environ[VARIABLE]],
        cwd=tmp_path,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"^ *FAIL\.+: +0$", done.stdout, re.MULTILINE)
