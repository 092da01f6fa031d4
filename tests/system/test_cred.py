"""A checker of twisted.cred lets in who pulls and pushes, in a running process."""

from __future__ import annotations

import json
from pathlib import Path

from accounts import basic, token
from running import running


def test_a_file_of_twisted(tmp_path: Path) -> None:
    path = tmp_path / "plain"
    path.write_text("alice:correct horse\n")
    settings = {"auth": {"cred": {"checker": f"file:{path}", "realm": "here"}}}
    with running(tmp_path / "registry", settings=settings) as registry:
        status, fields, _ = registry.get("/v2/")
        assert status == 401
        assert fields["www-authenticate"] == 'Basic realm="here", charset="UTF-8"'
        assert registry.request("GET", "/v2/", headers=basic("alice"))[0] == 200
        assert registry.request("GET", "/v2/", headers=basic("alice", "wrong"))[0] == 401
        assert registry.request("GET", "/v2/", headers=basic("bob"))[0] == 401
        assert "correct horse" not in registry.log()


def test_tokens_of_our_own(tmp_path: Path) -> None:
    path = tmp_path / "plain"
    path.write_text("alice:correct horse\n")
    settings = {
        "auth": {"cred": {"checker": f"file:{path}"}, "tokenservice": {"enabled": True}},
    }
    with running(tmp_path / "registry", settings=settings) as registry:
        headers = token(registry, "alice", "repository:app:pull,push")
        start = registry.request("POST", "/v2/app/blobs/uploads/", headers=headers)
        assert start[0] == 202
        status, _, body = registry.request("GET", "/auth/token", headers=basic("alice"))
        assert (status, json.loads(body)["expires_in"]) == (200, 60)
        assert registry.request("GET", "/auth/token", headers=basic("bob"))[0] == 401
