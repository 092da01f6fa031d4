"""curl: the wire by hand, with the one Expect: 100-continue that real clients send."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from urllib.parse import urljoin

import pytest
from images import run
from sites import Site
from tools import require_tool


@pytest.mark.parametrize("chunked", [False, True])
def test_upload_and_resumed_download(site: Site, tmp_path: Path, chunked: bool) -> None:
    data = tmp_path / "data"
    data.write_bytes(os.urandom(5_000_000))
    digest = "sha256:" + hashlib.sha256(data.read_bytes()).hexdigest()
    trust = ["--cacert", str(site.authority)] if site.authority is not None else []
    curl = [require_tool("curl"), "--silent", "--show-error", "--fail", *trust]
    base = site.registry.url
    headers = run(*curl, "-X", "POST", "-D", "-", f"{base}/v2/curl/blobs/uploads/")
    location = next(
        line.partition(":")[2].strip()
        for line in headers.splitlines()
        if line.lower().startswith("location:")
    )
    coding = ["-H", "Transfer-Encoding: chunked"] if chunked else []
    verbose = run(*curl, "-v", *coding, "-T", data, f"{urljoin(base, location)}?digest={digest}")
    assert "100 Continue" in verbose
    assert "201 Created" in verbose
    part = tmp_path / "part"
    part.write_bytes(data.read_bytes()[:1_234_567])
    run(*curl, "-C", "-", "-o", part, f"{base}/v2/curl/blobs/{digest}")
    assert part.read_bytes() == data.read_bytes()
