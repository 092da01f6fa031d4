"""Lists: tags, catalog, referrers (distribution-spec 1.1, "Content Discovery")."""

from __future__ import annotations

import json
import re
import secrets
from typing import Any

import pytest
from wire import OCI_EMPTY, OCI_INDEX, OCI_MANIFEST, Client, digest_of, fresh_name


def next_page(reply: Any) -> str | None:
    """The address of the next page."""
    link = reply.headers.get("link")
    if link is None:
        return None
    match = re.fullmatch(r'<([^>]+)>; rel="next"', link)
    assert match is not None
    return match[1]


def tagged(client: Client, name: str, tags: list[str]) -> None:
    """Push one image under many tags."""
    body = json.dumps(client.image(name)).encode()
    for start in range(0, len(tags), 20):
        some = tags[start : start + 20]
        reply = client.manifest(name, digest_of(body), body, media_type=OCI_MANIFEST, tag=some)
        assert reply.status == 201


def test_unknown_repository(client: Client, name: str) -> None:
    reply = client.call("GET", f"/v2/{name}/tags/list")
    assert (reply.status, reply.code) == (404, "NAME_UNKNOWN")


def test_tags_in_byte_order(client: Client, name: str) -> None:
    tags = ["v1", "V1", "_x", "10", "9", "a.b", "a-b", "a", "ab", "Z", "v1.0", "v1-0"]
    tagged(client, name, tags)
    reply = client.call("GET", f"/v2/{name}/tags/list")
    assert reply.json() == {"name": name, "tags": sorted(tags)}
    assert "link" not in reply.headers


def test_pages_of_tags_hold_each_tag_once(client: Client, name: str) -> None:
    tags = [*sorted(f"tag-{number}" for number in range(57)), "tag-1.0", "tag-1-0"]
    tagged(client, name, tags)
    for size in (1, 7, 10, 58, 59, 60, 10**12):
        found: list[str] = []
        address: str | None = f"/v2/{name}/tags/list?n={size}"
        while address is not None:
            reply = client.call("GET", address)
            page = reply.json()["tags"]
            assert 0 < len(page) <= size
            found += page
            address = next_page(reply)
        assert found == sorted(tags)


def test_tags_behind_one(client: Client, name: str) -> None:
    tagged(client, name, ["a", "b", "d", "e"])
    path = f"/v2/{name}/tags/list"
    assert client.call("GET", path, last="b").json()["tags"] == ["d", "e"]
    assert client.call("GET", path, last="c").json()["tags"] == ["d", "e"]
    assert client.call("GET", path, last="c", n=1).json()["tags"] == ["d"]
    assert client.call("GET", path, last="e").json()["tags"] == []
    assert client.call("GET", path, last="").json()["tags"] == ["a", "b", "d", "e"]


@pytest.mark.parametrize("path", ["tags", "catalog"])
def test_page_sizes(client: Client, name: str, path: str) -> None:
    tagged(client, name, ["a"])
    address = f"/v2/{name}/tags/list" if path == "tags" else "/v2/_catalog"
    for bad in ("-1", "x", "1.5", " 1", "1e3", "٣", "", "0x10"):
        reply = client.call("GET", address, n=bad)
        assert (reply.status, reply.code) == (400, "PAGINATION_NUMBER_INVALID")
    none = client.call("GET", address, n="0")
    assert (none.status, "link" in none.headers) == (200, False)
    assert none.json()["tags" if path == "tags" else "repositories"] == []
    assert client.call("GET", address, n="9" * 3000).status == 200


def test_a_repository_without_tags(client: Client, name: str) -> None:
    client.pushed(name, "only")
    client.call("DELETE", f"/v2/{name}/manifests/only")
    assert client.call("GET", f"/v2/{name}/tags/list").json() == {"name": name, "tags": []}


def test_catalog(client: Client) -> None:
    base = fresh_name("zz-catalog")
    names = sorted(base + tail for tail in ("", "-a", "/a", "/a/b", "a", "0", "_a", ".a"))
    for name in names:
        client.pushed(name, "t")
    client.blob(f"{base}/only-a-blob", b"x")
    for size in (1, 2, 3, 100):
        found: list[str] = []
        address: str | None = f"/v2/_catalog?n={size}&last=zz"
        while address is not None:
            reply = client.call("GET", address)
            found += reply.json()["repositories"]
            address = next_page(reply)
        assert [name for name in found if name.startswith(base)] == names
        assert found == sorted(set(found))


# --- referrers -------------------------------------------------------------------------------


def referring(client: Client, name: str, subject: Any, kind: str | None, **extra: Any) -> Any:
    """Push an artifact that refers to a subject; the entry that lists should have."""
    empty = client.descriptor(name, b"{}", OCI_EMPTY)
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": empty,
        "layers": [empty],
        "subject": subject,
        "annotations": {"n": secrets.token_hex(4)},
        **extra,
    }
    if kind is not None:
        document["artifactType"] = kind
    body = json.dumps(document).encode()
    digest = digest_of(body)
    reply = client.manifest(name, digest, body, media_type=OCI_MANIFEST)
    assert (reply.status, reply.headers["oci-subject"]) == (201, subject["digest"])
    return {
        "mediaType": OCI_MANIFEST,
        "digest": digest,
        "size": len(body),
        "artifactType": kind or OCI_EMPTY,
        "annotations": document["annotations"],
    }


def listed(reply: Any) -> list[Any]:
    """The entries of a list of referrers."""
    assert reply.status == 200
    assert reply.headers["content-type"] == OCI_INDEX
    document = reply.json()
    assert (document["schemaVersion"], document["mediaType"]) == (2, OCI_INDEX)
    found: list[Any] = document["manifests"]
    return found


@pytest.mark.parametrize("digest", [digest_of(b"none"), "sha256:" + "0" * 64])
def test_no_referrers(client: Client, name: str, digest: str) -> None:
    assert listed(client.call("GET", f"/v2/{name}/referrers/{digest}")) == []


@pytest.mark.parametrize("digest", ["sha256:x", "nonsense", "md5:" + "0" * 32])
def test_referrers_of_what_is_no_digest(client: Client, name: str, digest: str) -> None:
    reply = client.call("GET", f"/v2/{name}/referrers/{digest}")
    assert (reply.status, reply.code) == (400, "DIGEST_INVALID")


@pytest.mark.parametrize("there", [True, False])
def test_referrers(client: Client, name: str, there: bool) -> None:
    subject = (
        client.pushed(name)
        if there
        else {"mediaType": OCI_MANIFEST, "digest": digest_of(b"later"), "size": 5}
    )
    expected = [
        referring(client, name, subject, "application/vnd.example.sbom"),
        referring(client, name, subject, "application/vnd.example.signature"),
        referring(client, name, subject, "application/vnd.example.signature"),
        referring(client, name, subject, None),
    ]
    index = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [],
        "subject": subject,
    }
    body = json.dumps(index).encode()
    reply = client.manifest(name, "index", body, media_type=OCI_INDEX)
    assert reply.headers["oci-subject"] == subject["digest"]
    expected.append({"mediaType": OCI_INDEX, "digest": digest_of(body), "size": len(body)})
    expected.sort(key=lambda entry: entry["digest"])
    path = f"/v2/{name}/referrers/{subject['digest']}"
    assert listed(client.call("GET", path)) == expected
    assert listed(client.call("GET", path.replace(name, fresh_name()))) == []
    kind = "application/vnd.example.signature"
    filtered = client.call("GET", path, artifactType=kind)
    assert filtered.headers["oci-filters-applied"] == "artifactType"
    assert listed(filtered) == [each for each in expected if each.get("artifactType") == kind]
    both = client.call("GET", path, artifactType=[kind, "application/vnd.example.sbom"])
    assert len(listed(both)) == 3
    # Deleting a referrer takes it off the list; deleting the subject does not.
    if there:
        assert client.call("DELETE", f"/v2/{name}/manifests/{subject['digest']}").status == 202
    gone = expected.pop(0)
    assert client.call("DELETE", f"/v2/{name}/manifests/{gone['digest']}").status == 202
    assert listed(client.call("GET", path)) == expected


def test_pages_of_referrers(client: Client, name: str) -> None:
    subject = client.pushed(name)
    filler = {"annotations": {"filler": "x" * 900_000}}
    expected = {
        referring(client, name, subject, "a/b", **filler | {"x": number})["digest"]
        for number in range(8)
    }
    found: list[str] = []
    address: str | None = f"/v2/{name}/referrers/{subject['digest']}?artifactType=a%2Fb"
    count = 0
    while address is not None:
        reply = client.call("GET", address)
        assert len(reply.body) < 4 * 1024 * 1024
        assert reply.headers["oci-filters-applied"] == "artifactType"
        found += [entry["digest"] for entry in listed(reply)]
        address = next_page(reply)
        count += 1
    assert (sorted(found), count > 1) == (sorted(expected), True)


def test_referrer_with_a_subject_of_another_algorithm(client: Client, name: str) -> None:
    subject = {"mediaType": OCI_MANIFEST, "digest": digest_of(b"s", "sha512"), "size": 1}
    entry = referring(client, name, subject, "a/b")
    assert listed(client.call("GET", f"/v2/{name}/referrers/{subject['digest']}")) == [entry]
