"""Blobs: pulling, and every way of pushing (distribution-spec 1.1)."""

from __future__ import annotations

import secrets

import pytest
from wire import Client, digest_of, fresh_name, pieces

ALGORITHMS = ["sha256", "sha512"]


def check_blob(client: Client, name: str, data: bytes, digest: str) -> None:
    """The blob is there, with all that an answer has to carry."""
    head = client.call("HEAD", f"/v2/{name}/blobs/{digest}")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(data))
    assert head.headers["docker-content-digest"] == digest
    found = client.call("GET", f"/v2/{name}/blobs/{digest}")
    assert (found.status, found.body) == (200, data)
    assert found.headers["docker-content-digest"] == digest
    assert found.headers["content-type"] == "application/octet-stream"
    assert found.headers["etag"] == f'"{digest}"'


def test_support_is_told(client: Client) -> None:
    for path in ("/v2/", "/v2"):
        reply = client.call("GET", path)
        assert (reply.status, reply.body) == (200, b"{}")
        assert reply.headers["docker-distribution-api-version"] == "registry/2.0"


def test_unknown_blob(client: Client, name: str) -> None:
    digest = digest_of(b"never pushed")
    assert client.call("HEAD", f"/v2/{name}/blobs/{digest}").status == 404
    reply = client.call("GET", f"/v2/{name}/blobs/{digest}")
    assert (reply.status, reply.code) == (404, "BLOB_UNKNOWN")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_post_alone(client: Client, name: str, algorithm: str) -> None:
    data = secrets.token_bytes(2000)
    digest = digest_of(data, algorithm)
    reply = client.call("POST", f"/v2/{name}/blobs/uploads/", data, digest=digest)
    assert reply.status == 201
    assert reply.location == f"/v2/{name}/blobs/{digest}"
    check_blob(client, name, data, digest)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_post_then_put(client: Client, name: str, algorithm: str) -> None:
    data = secrets.token_bytes(3000)
    digest = digest_of(data, algorithm)
    session = client.start(name)
    assert session.location.startswith(f"/v2/{name}/blobs/uploads/")
    assert session.headers["range"] == "0-0"
    reply = client.call("PUT", session.location, data, digest=digest)
    assert reply.status == 201
    assert reply.headers["docker-content-digest"] == digest
    assert client.call("GET", reply.location).body == data
    check_blob(client, name, data, digest)


@pytest.mark.parametrize("slash", ["", "/"])
def test_session_with_and_without_slash(client: Client, name: str, slash: str) -> None:
    assert client.call("POST", f"/v2/{name}/blobs/uploads{slash}", b"").status == 202


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("announced", [True, False])
def test_chunks(client: Client, name: str, algorithm: str, announced: bool) -> None:
    data = secrets.token_bytes(3 * 1024)
    digest = digest_of(data, algorithm)
    query = {"digest_algorithm": algorithm} if announced else {}
    location = client.start(name, **query).location
    for start in range(0, len(data), 1024):
        chunk = data[start : start + 1024]
        span = f"{start}-{start + len(chunk) - 1}"
        reply = client.call("PATCH", location, chunk, {"Content-Range": span})
        assert reply.status == 202
        assert reply.headers["range"] == f"0-{start + len(chunk) - 1}"
        location = reply.location
    assert client.call("PUT", location, b"", digest=digest).status == 201
    check_blob(client, name, data, digest)


def test_last_chunk_in_put(client: Client, name: str) -> None:
    data = secrets.token_bytes(2048)
    digest = digest_of(data)
    location = client.start(name).location
    location = client.call("PATCH", location, data[:1024], {"Content-Range": "0-1023"}).location
    wrong = client.call("PUT", location, data[1024:], {"Content-Range": "1000-2023"}, digest=digest)
    assert wrong.status == 416
    reply = client.call("PUT", location, data[1024:], {"Content-Range": "1024-2047"}, digest=digest)
    assert reply.status == 201
    check_blob(client, name, data, digest)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_stream(client: Client, name: str, algorithm: str) -> None:
    data = secrets.token_bytes(300_000)
    digest = digest_of(data, algorithm)
    location = client.start(name).location
    reply = client.call("PATCH", location, pieces(data, 10_000))
    assert (reply.status, reply.headers["range"]) == (202, f"0-{len(data) - 1}")
    assert client.call("PUT", reply.location, b"", digest=digest).status == 201
    check_blob(client, name, data, digest)


def test_chunks_out_of_order(client: Client, name: str) -> None:
    data = secrets.token_bytes(2048)
    first = client.start(name).location
    early = client.call("PATCH", first, data[1024:], {"Content-Range": "1024-2047"})
    assert (early.status, early.code) == (416, "BLOB_UPLOAD_INVALID")
    assert early.headers["range"] == "0-0"
    assert early.location.startswith(f"/v2/{name}/blobs/uploads/")
    assert client.call("PATCH", first, data[:1024], {"Content-Range": "0-1023"}).status == 202
    # The first address stays good.
    again = client.call("PATCH", first, data[:1024], {"Content-Range": "0-1023"})
    assert (again.status, again.headers["range"]) == (416, "0-1023")
    status = client.call("GET", first)
    assert (status.status, status.headers["range"]) == (204, "0-1023")
    reply = client.call("PATCH", status.location, data[1024:], {"Content-Range": "1024-2047"})
    assert reply.status == 202
    digest = digest_of(data)
    assert client.call("PUT", reply.location, b"", digest=digest).status == 201
    check_blob(client, name, data, digest)


@pytest.mark.parametrize(
    ("span", "status"),
    [("0-99", 400), ("10-5", 400), ("a-b", 400), ("-5", 400), ("0-" + "9" * 40, 400)],
)
def test_chunk_ranges_that_cannot_be(client: Client, name: str, span: str, status: int) -> None:
    location = client.start(name).location
    assert client.call("PATCH", location, b"x" * 50, {"Content-Range": span}).status == status
    assert client.call("GET", location).headers["range"] == "0-0"


def test_cancel(client: Client, name: str) -> None:
    location = client.start(name).location
    client.call("PATCH", location, b"some bytes")
    assert client.call("DELETE", location).status == 204
    for method in ("GET", "DELETE", "PATCH", "PUT"):
        query = {"digest": digest_of(b"")} if method == "PUT" else {}
        reply = client.call(method, location, **query)
        assert (reply.status, reply.code) == (404, "BLOB_UPLOAD_UNKNOWN")


def test_session_of_another_repository(client: Client, name: str) -> None:
    location = client.start(name).location
    foreign = location.replace(name, fresh_name())
    assert client.call("GET", foreign).status == 404
    assert client.call("GET", location).status == 204


@pytest.mark.parametrize("data", [b"", b"{}"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_tiny_blobs(client: Client, name: str, data: bytes, algorithm: str) -> None:
    digest = digest_of(data, algorithm)
    location = client.start(name).location
    location = client.call("PATCH", location, pieces(data, 1)).location
    assert client.call("PUT", location, b"", digest=digest).status == 201
    check_blob(client, name, data, digest)


@pytest.mark.parametrize("data", [b"", b"{}"])
def test_tiny_blobs_in_one_post(client: Client, name: str, data: bytes) -> None:
    digest = digest_of(data)
    assert client.call("POST", f"/v2/{name}/blobs/uploads/", data, digest=digest).status == 201
    check_blob(client, name, data, digest)


BAD_DIGESTS = [
    digest_of(b"other content"),
    digest_of(b"other content", "sha512"),
    "sha256:" + "A" * 64,
    digest_of(b"payload").upper(),
    "sha256:totallywrong",
    "sha256:" + "a" * 63,
    "sha256:" + "a" * 65,
    "md5:d41d8cd98f00b204e9800998ecf8427e",
    "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "sha256",
    ":",
    "",
    "sha256:../../../../etc/passwd",
    "sha256:" + "a" * 63 + "\n",
]


@pytest.mark.parametrize("digest", BAD_DIGESTS)
@pytest.mark.parametrize("style", ["post", "put", "patch"])
def test_bad_digest(client: Client, name: str, digest: str, style: str) -> None:
    data = b"payload"
    if style == "post":
        reply = client.call("POST", f"/v2/{name}/blobs/uploads/", data, digest=digest)
    else:
        location = client.start(name).location
        if style == "patch":
            location, data = client.call("PATCH", location, data).location, b""
        reply = client.call("PUT", location, data, digest=digest)
    assert (reply.status, reply.code) == (400, "DIGEST_INVALID")
    assert client.call("GET", f"/v2/{name}/blobs/{digest_of(b'payload')}").status == 404


def test_malformed_digest_keeps_the_session(client: Client, name: str) -> None:
    location = client.start(name).location
    client.call("PATCH", location, b"payload")
    assert client.call("PUT", location, b"").code == "DIGEST_INVALID"
    assert client.call("PUT", location, b"", digest="nonsense").code == "DIGEST_INVALID"
    assert client.call("PUT", location, b"", digest=digest_of(b"payload")).status == 201


def test_wrong_digest_ends_the_session(client: Client, name: str) -> None:
    location = client.start(name).location
    client.call("PUT", location, b"payload", digest=digest_of(b"other"))
    assert client.call("GET", location).status == 404


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "blake3", "", "../x"])
def test_unknown_algorithm(client: Client, name: str, algorithm: str) -> None:
    reply = client.call("POST", f"/v2/{name}/blobs/uploads/", b"", digest_algorithm=algorithm)
    assert (reply.status, reply.code) == (400, "DIGEST_INVALID")


def test_same_content_under_two_algorithms(client: Client, name: str) -> None:
    data = secrets.token_bytes(100)
    first = client.blob(name, data)
    assert client.call("HEAD", f"/v2/{name}/blobs/{digest_of(data, 'sha512')}").status == 404
    second = client.blob(name, data, "sha512")
    check_blob(client, name, data, first)
    check_blob(client, name, data, second)


# --- mounting --------------------------------------------------------------------------------


def test_mount(client: Client, name: str) -> None:
    source, data = fresh_name(), secrets.token_bytes(100)
    digest = client.blob(source, data)
    reply = client.call("POST", f"/v2/{name}/blobs/uploads/", b"", mount=digest, **{"from": source})
    assert (reply.status, reply.location) == (201, f"/v2/{name}/blobs/{digest}")
    check_blob(client, name, data, digest)
    # A link, not a loan: the source may drop it.
    assert client.call("DELETE", f"/v2/{source}/blobs/{digest}").status == 202
    check_blob(client, name, data, digest)


def test_mount_without_source(client: Client, name: str) -> None:
    data = secrets.token_bytes(100)
    digest = client.blob(fresh_name(), data)
    assert client.call("POST", f"/v2/{name}/blobs/uploads/", b"", mount=digest).status == 201
    check_blob(client, name, data, digest)


@pytest.mark.parametrize("source", [None, "nobody/here"])
def test_mount_of_what_is_not_there_opens_a_session(
    client: Client, name: str, source: str | None
) -> None:
    data = secrets.token_bytes(100)
    digest = digest_of(data)
    query = {"mount": digest} | ({"from": source} if source else {})
    reply = client.start(name, **query)
    assert client.call("PUT", reply.location, data, digest=digest).status == 201
    check_blob(client, name, data, digest)


def test_blobs_are_visible_in_their_repository_only(client: Client, name: str) -> None:
    digest = client.blob(fresh_name(), b"private to its repository")
    assert client.call("GET", f"/v2/{name}/blobs/{digest}").status == 404


# --- ranges and conditions -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=500-1499", 500, 1500),
        ("bytes=500-", 500, 2048),
        ("bytes=-500", 1548, 2048),
        ("bytes=-5000", 0, 2048),
        ("bytes=2000-5000", 2000, 2048),
        ("bytes=0-0", 0, 1),
        ("bytes=2047-2048", 2047, 2048),
    ],
)
def test_range(client: Client, name: str, header: str, start: int, stop: int) -> None:
    data = secrets.token_bytes(2048)
    path = f"/v2/{name}/blobs/{client.blob(name, data)}"
    reply = client.call("GET", path, headers={"Range": header})
    assert (reply.status, reply.body) == (206, data[start:stop])
    assert reply.headers["content-range"] == f"bytes {start}-{stop - 1}/2048"
    assert reply.headers["content-length"] == str(stop - start)


@pytest.mark.parametrize(
    "header", ["bytes=500-0", "bytes=5000-10000", "bytes=2048-", "bytes=-0", "bytes=x-y", "bytes="]
)
def test_range_that_holds_nothing(client: Client, name: str, header: str) -> None:
    path = f"/v2/{name}/blobs/{client.blob(name, secrets.token_bytes(2048))}"
    reply = client.call("GET", path, headers={"Range": header})
    assert (reply.status, reply.code) == (416, "RANGE_INVALID")
    assert reply.headers["content-range"] == "bytes */2048"


@pytest.mark.parametrize("header", ["bytes=0-1,5-6", "lines=1-2", "nonsense"])
def test_range_that_may_be_ignored(client: Client, name: str, header: str) -> None:
    data = secrets.token_bytes(2048)
    path = f"/v2/{name}/blobs/{client.blob(name, data)}"
    reply = client.call("GET", path, headers={"Range": header})
    assert (reply.status, reply.body) == (200, data)


def test_conditions(client: Client, name: str) -> None:
    data = secrets.token_bytes(100)
    digest = client.blob(name, data)
    path, tag = f"/v2/{name}/blobs/{digest}", f'"{digest}"'
    for value in (tag, f"W/{tag}", f'"x", {tag}', "*", digest):
        reply = client.call("GET", path, headers={"If-None-Match": value})
        assert (reply.status, reply.body) == (304, b"")
    assert client.call("GET", path, headers={"If-None-Match": '"x"'}).status == 200
    assert client.call("GET", path, headers={"If-Match": '"x"'}).status == 412
    assert client.call("GET", path, headers={"If-Match": tag}).status == 200
    ranged = {"Range": "bytes=0-9", "If-Range": tag}
    assert client.call("GET", path, headers=ranged).status == 206
    ranged["If-Range"] = '"x"'
    assert client.call("GET", path, headers=ranged).body == data


# --- deleting --------------------------------------------------------------------------------


def test_delete(client: Client, name: str) -> None:
    other, data = fresh_name(), secrets.token_bytes(100)
    digest = client.blob(name, data)
    client.blob(other, data)
    assert client.call("DELETE", f"/v2/{name}/blobs/{digest}").status == 202
    assert client.call("HEAD", f"/v2/{name}/blobs/{digest}").status == 404
    assert client.call("DELETE", f"/v2/{name}/blobs/{digest}").code == "BLOB_UNKNOWN"
    check_blob(client, other, data, digest)
    assert client.blob(name, data) == digest
    check_blob(client, name, data, digest)


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH"])
def test_methods_that_an_address_does_not_take(client: Client, name: str, method: str) -> None:
    reply = client.call(method, f"/v2/{name}/blobs/{digest_of(b'x')}", b"")
    assert (reply.status, reply.code) == (405, "UNSUPPORTED")
    assert reply.headers["allow"] == "DELETE, GET, HEAD"
