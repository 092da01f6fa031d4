"""Bad input in every place a client can put it: a clear refusal, and nothing opened or changed."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from running import Running
from wire import OCI_MANIFEST, Client, digest_of

TRAVERSAL = [
    "..",
    "../..",
    "../../etc/passwd",
    "a/../b",
    "a/../../etc/passwd",
    "./a",
    "a/./b",
    "/etc/passwd",
    "//etc/passwd",
    "a//b",
    "a/",
    "/a",
    "a/%2e%2e/b",
    "%2e%2e%2fetc%2fpasswd",
    "..%2f..%2fetc",
    "a\\b",
    "..\\..\\windows",
    "C:\\x",
    "file:///etc/passwd",
    "a/_layers",
    "_uploads",
    "_manifests/tags",
    "a/_manifests/revisions",
    "~root",
    "$HOME",
    "`id`",
    "$(id)",
    "a;id",
    "a|b",
    "a&b",
    "a'b",
    'a"b',
    "a<script>",
    "a{b}",
    "a*",
    "a?",
    "a#b",
    "a%00b",
    "\x00",
    "a\x00b",
    "a\nb",
    "a\r\nX: y",
    "a\tb",
    "\x7f",
    "\x1b[31m",
    "a b",
    " a",
    "a ",
    "A",
    "abc/Def",
    "aBc",
    "ä",
    "İ",
    "\uff41",
    "\u0430",
    "a\u200bb",
    "\u202ea",
    "a\ufeff",
    "🐳",
    "-a",
    "a-",
    "_a",
    "a_",
    ".a",
    "a.",
    "a..b",
    "a___b",
    "a._b",
    "a.-b",
    "a-_b",
    "a__.b",
    "a/-b",
    "a/.b",
    "a/b-",
    "a:b",
    "a:5000/b",
    "a@b",
    "a@sha256:" + "0" * 64,
    "a+b",
    "a=b",
    "a,b",
    "a" * 256,
    "a/" * 127 + "aa",
    "a" * 4000,
    "a/b" * 1000,
    ".",
    "...",
    "....//....//etc/passwd",
    "%",
    "%zz",
    "%ff",
    "%c0%ae%c0%ae/",
    "%u002e",
    "0x41",
    "null\x00.json",
    "con",
    "aux.txt/../x",
    "*",
    "''",
    "1 OR 1=1",
    "'; DROP TABLE tag; --",
    "${jndi:ldap://x}",
    "{{7*7}}",
    "%s%s%n",
    "\ud7ff\ue000",
]
VALID_NAMES = {"con", "0x41"}
NAMES = [text for text in TRAVERSAL if text not in VALID_NAMES]
VALID_TAGS = {
    *("A", "aBc", "_uploads", "a-", "_a", "a_", "a.", "a..b", "a___b", "a._b", "a.-b"),
    *("a-_b", "a__.b", "0x41", "con"),
}
TAGS = [text for text in TRAVERSAL if text not in VALID_TAGS]
GOOD = digest_of(b"x")


def refused(reply: object, *statuses: int) -> None:
    """The answer is a refusal in the words of the specification."""
    status = reply.status  # type: ignore[attr-defined]
    assert status in (statuses or (400, 404, 405, 414)), reply
    assert reply.headers["content-type"] == "application/json"  # type: ignore[attr-defined]
    assert "location" not in reply.headers  # type: ignore[attr-defined]
    assert reply.code  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", NAMES, ids=range(len(NAMES)))
def test_repository_names(client: Client, text: str) -> None:
    for written in {quote(text, safe=""), quote(text, safe="/%:@+=,;&'()*!$~")}:
        refused(client.call("GET", f"/v2/{written}/tags/list"))
        refused(client.call("GET", f"/v2/{written}/manifests/latest"))
        refused(client.call("GET", f"/v2/{written}/blobs/{GOOD}"))
        refused(client.call("GET", f"/v2/{written}/referrers/{GOOD}"))
        refused(client.call("POST", f"/v2/{written}/blobs/uploads/", b""))
        refused(client.call("PUT", f"/v2/{written}/manifests/t", b"{}"))
        refused(client.call("DELETE", f"/v2/{written}/manifests/t"))


@pytest.mark.parametrize("text", NAMES, ids=range(len(NAMES)))
def test_repository_names_in_parameters(client: Client, name: str, text: str) -> None:
    path = f"/v2/{name}/blobs/uploads/"
    refused(client.call("POST", path, b"", mount=GOOD, **{"from": text}), 400)
    if text != "/a"[1:]:
        refused(client.call("GET", "/v2/_catalog", last=text), 400)


@pytest.mark.parametrize("text", TAGS, ids=range(len(TAGS)))
def test_references(client: Client, name: str, text: str) -> None:
    written = quote(text, safe="")
    refused(client.call("GET", f"/v2/{name}/manifests/{written}"))
    refused(client.call("DELETE", f"/v2/{name}/manifests/{written}"))
    refused(
        client.call("PUT", f"/v2/{name}/manifests/{written}", b"{}", {"Content-Type": OCI_MANIFEST})
    )
    refused(client.call("GET", f"/v2/{name}/tags/list", last=text), 400)


@pytest.mark.parametrize("text", TRAVERSAL, ids=range(len(TRAVERSAL)))
def test_digests(client: Client, name: str, text: str) -> None:
    for digest in (text, f"sha256:{text}", f"{text}:{'0' * 64}"):
        written = quote(digest, safe="")
        refused(client.call("GET", f"/v2/{name}/blobs/{written}"))
        refused(client.call("DELETE", f"/v2/{name}/blobs/{written}"))
        refused(client.call("GET", f"/v2/{name}/referrers/{written}"))
        path = f"/v2/{name}/blobs/uploads/"
        for parameter in ("digest", "mount", "digest_algorithm"):
            refused(client.call("POST", path, b"", **{parameter: digest}), 400)


@pytest.mark.parametrize("text", TRAVERSAL, ids=range(len(TRAVERSAL)))
def test_upload_identifiers(client: Client, name: str, text: str) -> None:
    written = quote(text, safe="")
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        reply = client.call(method, f"/v2/{name}/blobs/uploads/{written}?digest={GOOD}")
        refused(reply)


@pytest.mark.parametrize("path", ["/v2/a/../b/tags/list", "//evil.example/v2/", "/v2//x", "/v1/"])
@pytest.mark.parametrize("host", ["evil.example:7080", 'a"b', "[::1]", "x y", "\xff", ""])
def test_no_host_and_no_redirect_comes_back(registry: Running, path: str, host: str) -> None:
    import socket

    with socket.create_connection(("127.0.0.1", registry.port), timeout=10) as channel:
        for field in ("Host", "X-Forwarded-Host", "Forwarded"):
            extra = "" if field == "Host" else "Host: x\r\n"
            channel.sendall(
                f"GET {path} HTTP/1.1\r\n{extra}{field}: {host}\r\n\r\n".encode("latin-1")
            )
            answer = channel.recv(65536).decode("latin-1")
            assert answer.split()[1] in ("400", "404")
            assert "location:" not in answer.lower()
            assert "evil" not in answer
            assert "Server:" not in answer


def test_answers_have_nothing_a_browser_would_act_on(client: Client, name: str) -> None:
    page = b"<html><script>alert(1)</script>"
    digest = client.blob(name, page)
    blob = client.call("GET", f"/v2/{name}/blobs/{digest}")
    error = client.call("GET", f"/v2/{name}/manifests/<script>")
    for reply in (blob, error):
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert "server" not in reply.headers
    assert blob.headers["content-type"] == "application/octet-stream"
    assert blob.headers["content-disposition"] == "attachment"


def test_nothing_was_written_outside_the_root(registry: Running) -> None:
    entries = {path.name for path in registry.directory.iterdir()}
    assert entries <= {"config.yml", "log", "storage"}
    if registry.driver == "filesystem":
        assert {path.name for path in registry.root.iterdir()} <= {"docker", "txregistry"}
