"""Why txAWS is no dependency, recorded so that it is noticed when that changes.

Its last release, 0.5.0 of 2018, has modules for S3 that Python 3 cannot compile. The line below is
one of ``txaws/s3/client.py`` in that release; where txAWS is installed, the module itself is tried.
"""

from __future__ import annotations

import importlib
from configparser import ConfigParser
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

OF_ITS_CLIENT = """
class S3Client(BaseClient):
    def _parse_list_buckets(self, (response, xml_bytes)):
        pass
"""


def test_its_client_is_no_python_3() -> None:
    with pytest.raises(SyntaxError):
        compile(OF_ITS_CLIENT, "txaws/s3/client.py", "exec")
    try:
        installed = version("txaws")
    except PackageNotFoundError:
        return
    with pytest.raises((ImportError, SyntaxError)):
        importlib.import_module("txaws.s3.client")
    assert installed == "0.5.0", (
        "there is a new release: see whether it can take our client's place"
    )


def test_it_is_not_required_and_the_readme_says_why() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    required = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    assert "txaws" not in "\n".join(required).lower()
    readme = (ROOT / "README.rst").read_text()
    assert "txAWS is not a dependency" in readme
    assert "0.5.0" in readme
