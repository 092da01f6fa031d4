"""Manifests: pushing, pulling, checking, deleting (distribution-spec and image-spec 1.1)."""

from __future__ import annotations

import json
import random
import secrets
from typing import Any

import pytest
from wire import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_EMPTY,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Client,
    digest_of,
    fresh_name,
    pieces,
)


def check_manifest(client: Client, name: str, reference: str, body: bytes, kind: str) -> None:
    """The manifest is there, byte for byte."""
    digest = digest_of(body, "sha512" if reference.startswith("sha512:") else "sha256")
    path = f"/v2/{name}/manifests/{reference}"
    head, found = client.call("HEAD", path), client.call("GET", path)
    assert (head.status, head.body, found.status, found.body) == (200, b"", 200, body)
    for reply in (head, found):
        assert reply.headers["content-length"] == str(len(body))
        assert reply.headers["content-type"] == kind
        assert reply.headers["docker-content-digest"] == digest


def put(client: Client, name: str, document: Any, kind: str = OCI_MANIFEST) -> bytes:
    """Push a document by tag and check it by tag and digest."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    reply = client.manifest(name, "tag", body, media_type=kind)
    assert reply.status == 201, reply.body
    assert reply.headers["docker-content-digest"] == digest_of(body)
    assert client.call("GET", reply.location).body == body
    check_manifest(client, name, "tag", body, kind)
    check_manifest(client, name, digest_of(body), body, kind)
    return body


WORDS = ("manifests", "blobs", "blobs/uploads", "tags", "tags/list", "referrers", "v2", "uploads")


@pytest.mark.parametrize("word", WORDS)
def test_names_with_words_of_the_api(client: Client, name: str, word: str) -> None:
    """A repository may be called like a part of an address."""
    for repository in (f"{name}/{word}", f"{word}/{name}", f"{name}/{word}/{word}"):
        pushed = client.pushed(repository, "tags")
        manifest = client.call("GET", f"/v2/{repository}/manifests/tags")
        assert manifest.headers["docker-content-digest"] == pushed["digest"]
        layer = manifest.json()["layers"][0]
        blob = client.call("GET", f"/v2/{repository}/blobs/{layer['digest']}")
        assert (blob.status, len(blob.body)) == (200, layer["size"])
        tags = client.call("GET", f"/v2/{repository}/tags/list")
        assert tags.json() == {"name": repository, "tags": ["tags"]}
        refers = client.pushed(repository, subject=pushed)
        listed = client.call("GET", f"/v2/{repository}/referrers/{pushed['digest']}").json()
        assert [each["digest"] for each in listed["manifests"]] == [refers["digest"]]
        session = client.start(repository)
        assert client.call("GET", session.location).status == 204
        assert client.call("DELETE", session.location).status == 204


@pytest.mark.parametrize("reference", ["latest", digest_of(b"x"), digest_of(b"x", "sha512")])
def test_unknown(client: Client, name: str, reference: str) -> None:
    for method in ("GET", "HEAD", "DELETE"):
        assert client.call(method, f"/v2/{name}/manifests/{reference}").status == 404
    assert client.call("GET", f"/v2/{name}/manifests/{reference}").code == "MANIFEST_UNKNOWN"


@pytest.mark.parametrize("reference", [".INVALID_MANIFEST_NAME", "-x", "a" * 129, "a b", "ä"])
def test_what_is_no_tag_is_unknown(client: Client, name: str, reference: str) -> None:
    from urllib.parse import quote

    path = f"/v2/{name}/manifests/{quote(reference)}"
    assert client.call("GET", path).status == 404
    reply = client.call("PUT", path, b"{}", {"Content-Type": OCI_MANIFEST})
    assert (reply.status, reply.code) == (400, "TAG_INVALID")


@pytest.mark.parametrize("reference", ["sha256:totallywrong", "sha256:short", "md5:abc", "a:b"])
def test_malformed_digest(client: Client, name: str, reference: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        reply = client.call(method, f"/v2/{name}/manifests/{reference}", b"{}")
        assert (reply.status, reply.code) == (400, "DIGEST_INVALID")


@pytest.mark.parametrize("kind", [OCI_MANIFEST, DOCKER_MANIFEST])
@pytest.mark.parametrize("stated", [True, False])
def test_image(client: Client, name: str, kind: str, stated: bool) -> None:
    document = client.image(name, layers=3)
    document["mediaType"] = kind
    if not stated:
        del document["mediaType"]
    put(client, name, document, kind)


@pytest.mark.parametrize("kind", [OCI_INDEX, DOCKER_LIST])
def test_index(client: Client, name: str, kind: str) -> None:
    platforms = [{"architecture": "amd64", "os": "linux"}, {"architecture": "arm64", "os": "linux"}]
    children = [{**client.pushed(name), "platform": platform} for platform in platforms]
    unknown = {"architecture": "unknown", "os": "unknown"}
    children.append({**client.pushed(name), "platform": unknown})
    inner = {"schemaVersion": 2, "mediaType": kind, "manifests": children}
    body = put(client, name, inner, kind)
    nested = {"mediaType": kind, "digest": digest_of(body), "size": len(body)}
    put(client, name, {"schemaVersion": 2, "mediaType": kind, "manifests": [nested]}, kind)


def test_empty_index(client: Client, name: str) -> None:
    put(client, name, {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}, OCI_INDEX)


def test_index_whose_children_are_blobs(client: Client, name: str) -> None:
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [
            client.descriptor(name, b"a layer"),
            client.descriptor(name, b"{}", "application/vnd.buildkit.cacheconfig.v0"),
        ],
    }
    put(client, name, document, OCI_INDEX)


def test_artifact(client: Client, name: str) -> None:
    empty = client.descriptor(name, b"{}", OCI_EMPTY)
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": "application/vnd.example.thing",
        "config": {**empty, "data": "e30="},
        "layers": [empty],
    }
    put(client, name, document)


def test_withdrawn_artifact_manifest(client: Client, name: str) -> None:
    kind = "application/vnd.oci.artifact.manifest.v1+json"
    document = {
        "mediaType": kind,
        "artifactType": "application/vnd.example.thing",
        "blobs": [client.descriptor(name, b"content")],
    }
    put(client, name, document, kind)


def test_no_layers(client: Client, name: str) -> None:
    put(client, name, client.image(name, layers=0))


def test_same_layer_twice(client: Client, name: str) -> None:
    document = client.image(name)
    document["layers"] *= 3
    put(client, name, document)


@pytest.mark.parametrize("urls", [None, ["https://example.com/layer"]])
def test_layers_that_are_kept_elsewhere(client: Client, name: str, urls: Any) -> None:
    layer = {
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "digest": digest_of(secrets.token_bytes(8)),
        "size": 123456,
    }
    if urls:
        layer["urls"] = urls
    document = client.image(name)
    document["layers"].append(layer)
    put(client, name, document)


def test_unknown_fields_and_types(client: Client, name: str) -> None:
    document = client.image(name, annotations={"": "", "org.example.ключ": "значение 🐳"})
    document["newUnspecifiedField"] = {"deep": [1, 2.5, None, True, {"x": "y"}]}
    document["config"]["mediaType"] = "application/vnd.nobody.knows+json"
    document["layers"][0]["mediaType"] = "application/wasm"
    put(client, name, document)


def test_odd_formatting_is_kept(client: Client, name: str) -> None:
    document = client.image(name)
    text = json.dumps(document, indent=7, ensure_ascii=False) + "\n\n \t\n"
    put(client, name, b"\n  " + text.replace("\n", "\r\n").encode())


def test_a_large_manifest_sent_in_chunks(client: Client, name: str) -> None:
    document = client.image(name, annotations={"filler": "x" * 3_900_000})
    body = json.dumps(document).encode()
    headers = {"Content-Type": OCI_MANIFEST}
    path = f"/v2/{name}/manifests/large"
    assert client.call("PUT", path, pieces(body, 65536), headers).status == 201
    check_manifest(client, name, "large", body, OCI_MANIFEST)


@pytest.mark.parametrize("chunked", [True, False])
def test_manifest_size(client: Client, name: str, chunked: bool) -> None:
    limit = 4 * 1024 * 1024
    plain = json.dumps(client.image(name)).encode()
    for size, status in ((limit, 201), (limit + 1, 413)):
        body = plain + b" " * (size - len(plain))
        sent: Any = pieces(body, 65536) if chunked else body
        path = f"/v2/{name}/manifests/size"
        reply = client.call("PUT", path, sent, {"Content-Type": OCI_MANIFEST})
        assert reply.status == status
        client.close()


@pytest.mark.parametrize("kind", ["", None, "application/json", f"{OCI_MANIFEST}; charset=utf-8"])
def test_content_type_is_taken_liberally(client: Client, name: str, kind: str | None) -> None:
    body = json.dumps(client.image(name)).encode()
    reply = client.manifest(name, "tag", body, media_type=kind)
    assert reply.status == 201
    check_manifest(client, name, "tag", body, OCI_MANIFEST)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_push_by_digest(client: Client, name: str, algorithm: str) -> None:
    body = json.dumps(client.image(name)).encode()
    digest = digest_of(body, algorithm)
    reply = client.manifest(name, digest, body, media_type=OCI_MANIFEST)
    assert (reply.status, reply.location) == (201, f"/v2/{name}/manifests/{digest}")
    check_manifest(client, name, digest, body, OCI_MANIFEST)
    assert client.call("GET", f"/v2/{name}/tags/list").json()["tags"] == []


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_push_by_another_digest(client: Client, name: str, algorithm: str) -> None:
    body = json.dumps(client.image(name)).encode()
    wrong = digest_of(b"other", algorithm)
    reply = client.manifest(name, wrong, body, media_type=OCI_MANIFEST)
    assert (reply.status, reply.code) == (400, "DIGEST_INVALID")
    assert client.call("GET", f"/v2/{name}/manifests/{digest_of(body)}").status == 404


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_tags_with_a_push_by_digest(client: Client, name: str, algorithm: str) -> None:
    body = json.dumps(client.image(name)).encode()
    digest = digest_of(body, algorithm)
    tags = [f"t{number}" for number in range(12)]
    reply = client.manifest(name, digest, body, media_type=OCI_MANIFEST, tag=tags)
    assert reply.status == 201
    assert reply.all("OCI-Tag") == tags
    for tag in tags:
        found = client.call("GET", f"/v2/{name}/manifests/{tag}")
        assert (found.body, found.headers["docker-content-digest"]) == (body, digest)


def test_digest_with_a_push_by_tag(client: Client, name: str) -> None:
    body = json.dumps(client.image(name)).encode()
    digest = digest_of(body, "sha512")
    reply = client.manifest(name, "t", body, media_type=OCI_MANIFEST, digest=digest)
    assert (reply.status, reply.headers["docker-content-digest"]) == (201, digest)
    found = client.call("GET", f"/v2/{name}/manifests/t")
    assert found.headers["docker-content-digest"] == digest


def test_not_modified(client: Client, name: str) -> None:
    digest = client.pushed(name, "t")["digest"]
    for value in (f'"{digest}"', digest):
        reply = client.call("GET", f"/v2/{name}/manifests/t", headers={"If-None-Match": value})
        assert (reply.status, reply.body, reply.headers["etag"]) == (304, b"", f'"{digest}"')


@pytest.mark.parametrize("accept", ["text/html", "application/vnd.oci.image.index.v1+json", "*/*"])
def test_stored_type_is_sent_whatever_is_accepted(client: Client, name: str, accept: str) -> None:
    client.pushed(name, "t")
    reply = client.call("GET", f"/v2/{name}/manifests/t", headers={"Accept": accept})
    assert (reply.status, reply.headers["content-type"]) == (200, OCI_MANIFEST)


# --- what is refused -------------------------------------------------------------------------


def test_missing_content(client: Client, name: str) -> None:
    document = client.image(name, layers=2)
    absent = [digest_of(b"absent 1"), digest_of(b"absent 2", "sha512")]
    document["layers"] += [
        {"mediaType": OCI_LAYER, "digest": digest, "size": 8} for digest in absent
    ]
    reply = client.manifest(name, "t", document)
    assert reply.status == 400
    errors = reply.json()["errors"]
    assert [each["code"] for each in errors] == ["MANIFEST_BLOB_UNKNOWN"] * 2
    assert [each["detail"] for each in errors] == absent
    assert client.call("GET", f"/v2/{name}/manifests/t").status == 404


def test_content_of_another_repository_is_missing(client: Client, name: str) -> None:
    reply = client.manifest(name, "t", client.image(fresh_name()))
    assert (reply.status, reply.code) == (400, "MANIFEST_BLOB_UNKNOWN")


def test_missing_child(client: Client, name: str) -> None:
    child = client.pushed(fresh_name())
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child]}
    reply = client.manifest(name, "t", index)
    assert (reply.status, reply.code) == (400, "MANIFEST_BLOB_UNKNOWN")


def test_descriptor_of_an_algorithm_that_is_not_stored(client: Client, name: str) -> None:
    document = client.image(name)
    document["layers"][0]["digest"] = "blake3:" + "a" * 64
    reply = client.manifest(name, "t", document)
    assert (reply.status, reply.code) == (400, "MANIFEST_BLOB_UNKNOWN")


BASE: dict[str, Any] = {"schemaVersion": 2, "config": {}, "layers": []}
INVALID: list[Any] = [
    b"",
    b"null",
    b"[]",
    b'"text"',
    b"{",
    b"{}",
    b'{"schemaVersion":2}',
    b"\xef\xbb\xbf{}",
    '{"schemaVersion":2}'.encode("utf-16"),
    b'{"schemaVersion":2,"schemaVersion":2,"config":{},"layers":[]}',
    b'{"schemaVersion":2,"config":{},"layers":[],"x":NaN}',
    b'{"schemaVersion":2,"config":{},"layers":[],"x":Infinity}',
    b'{"schemaVersion":2,"config":{},"layers":[],"x":' + b"9" * 5000 + b"}",
    b'{"schemaVersion":2,"config":{},"layers":[],"x":"\\ud800"}',
    b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"a":' + b"[" * 70 + b"]" * 70 + b"}",
    b'{"x":[' + b"{}," * 1_300_000 + b"{}]}",
    b"{" + b",".join(b'"%d":0' % number for number in range(250_000)) + b"}",
    {**BASE, "schemaVersion": 1},
    {**BASE, "schemaVersion": "2"},
    {**BASE, "schemaVersion": True},
    {**BASE, "manifests": []},
    {**BASE, "mediaType": 7},
    {**BASE, "layers": {}},
    {**BASE, "layers": [7]},
    {**BASE, "config": None},
    {**BASE, "config": {"digest": "sha256:short", "size": 1}},
    {**BASE, "config": {"digest": digest_of(b""), "size": -1}},
    {**BASE, "config": {"digest": digest_of(b""), "size": "1"}},
    {**BASE, "config": {"digest": digest_of(b""), "size": 0}, "annotations": {"a": 1}},
    {**BASE, "config": {"digest": digest_of(b""), "size": 0}, "subject": {"digest": "x"}},
    {"schemaVersion": 1, "fsLayers": [{"blobSum": digest_of(b"")}], "history": []},
]


@pytest.mark.parametrize("document", INVALID, ids=range(len(INVALID)))
def test_invalid(client: Client, name: str, document: Any) -> None:
    reply = client.manifest(name, "t", document, media_type=OCI_MANIFEST)
    assert (reply.status, reply.code) == (400, "MANIFEST_INVALID")
    assert client.call("GET", f"/v2/{name}/manifests/t").status == 404


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        (OCI_INDEX, {"schemaVersion": 2, "manifests": [], "layers": []}),
        (OCI_INDEX, {"schemaVersion": 2, "manifests": [], "config": {}}),
        (OCI_INDEX, {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "manifests": []}),
        (OCI_MANIFEST, {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}),
        ("text/html", {"schemaVersion": 2, "manifests": []}),
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", {"schemaVersion": 1}),
    ],
)
def test_ambiguous(client: Client, name: str, kind: str, document: Any) -> None:
    reply = client.manifest(name, "t", document, media_type=kind)
    assert (reply.status, reply.code) == (400, "MANIFEST_INVALID")


def test_encoded_body(client: Client, name: str) -> None:
    headers = {"Content-Type": OCI_MANIFEST, "Content-Encoding": "gzip"}
    reply = client.call("PUT", f"/v2/{name}/manifests/t", b"\x1f\x8b", headers)
    assert (reply.status, reply.code) == (415, "UNSUPPORTED")


def test_random_valid_documents_come_back_the_same(client: Client, name: str) -> None:
    chance = random.Random(7)
    base = client.image(name)

    def value(depth: int) -> Any:
        kind = chance.randrange(6 if depth else 4)
        if kind == 4:
            return [value(depth - 1) for _ in range(chance.randrange(4))]
        if kind == 5:
            return {secrets.token_hex(3): value(depth - 1) for _ in range(chance.randrange(4))}
        choices: list[Any] = [chance.random(), chance.randrange(10**9), None, 'ü\\u0000"🐳']
        return choices[kind]

    for number in range(200):
        document = {**base, "x": value(4), "n": number}
        spaces = chance.choice([None, 0, 1, 4])
        body = json.dumps(document, indent=spaces, ensure_ascii=chance.random() < 0.5).encode()
        assert client.manifest(name, "t", body, media_type=OCI_MANIFEST).status == 201
        assert client.call("GET", f"/v2/{name}/manifests/{digest_of(body)}").body == body


# --- deleting --------------------------------------------------------------------------------


def test_delete_tag(client: Client, name: str) -> None:
    digest = client.pushed(name, "one")["digest"]
    client.call(
        "PUT",
        f"/v2/{name}/manifests/two",
        client.call("GET", f"/v2/{name}/manifests/one").body,
        {"Content-Type": OCI_MANIFEST},
    )
    assert client.call("DELETE", f"/v2/{name}/manifests/one").status == 202
    assert client.call("GET", f"/v2/{name}/manifests/one").status == 404
    assert client.call("DELETE", f"/v2/{name}/manifests/one").status == 404
    for reference in ("two", digest):
        assert client.call("GET", f"/v2/{name}/manifests/{reference}").status == 200
    assert client.call("GET", f"/v2/{name}/tags/list").json()["tags"] == ["two"]


def test_delete_manifest_takes_its_tags(client: Client, name: str) -> None:
    body = json.dumps(client.image(name)).encode()
    digest = digest_of(body)
    client.manifest(name, digest, body, media_type=OCI_MANIFEST, tag=["one", "two"])
    kept = client.pushed(name, "kept")
    assert client.call("DELETE", f"/v2/{name}/manifests/{digest}").status == 202
    for reference in (digest, "one", "two"):
        assert client.call("HEAD", f"/v2/{name}/manifests/{reference}").status == 404
    assert client.call("DELETE", f"/v2/{name}/manifests/{digest}").code == "MANIFEST_UNKNOWN"
    assert client.call("GET", f"/v2/{name}/tags/list").json()["tags"] == ["kept"]
    assert client.call("GET", f"/v2/{name}/manifests/{kept['digest']}").status == 200
    assert client.manifest(name, "one", body, media_type=OCI_MANIFEST).status == 201
    assert client.call("GET", f"/v2/{name}/manifests/one").body == body


def test_move_a_tag(client: Client, name: str) -> None:
    first = client.pushed(name, "t")["digest"]
    second = client.pushed(name, "t")["digest"]
    found = client.call("HEAD", f"/v2/{name}/manifests/t")
    assert found.headers["docker-content-digest"] == second
    assert client.call("GET", f"/v2/{name}/manifests/{first}").status == 200
    assert client.call("GET", f"/v2/{name}/tags/list").json()["tags"] == ["t"]
