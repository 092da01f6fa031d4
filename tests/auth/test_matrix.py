"""Every route for every kind of identity: allowed, refused, and no more told than that.

The rows are compared with the table of routes: a route that is added without one fails here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from accounts import basic, password_file, token
from attrs import evolve, frozen
from authority import Authority
from running import Running, running

from txregistry.http.routes import KEY_ROUTES, ROUTES, TOKEN_ROUTES
from txregistry.model.access import Right
from txregistry.model.descriptors import OCI_MANIFEST
from txregistry.model.digests import Digest

PRIVATE, PUBLIC, ABSENT = "private/app", "public/app", "private/none"
LAYER = b"a layer"
CONFIG = b"{}"
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Digest.of(CONFIG),
            "size": len(CONFIG),
        },
        "layers": [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": Digest.of(LAYER),
                "size": len(LAYER),
            }
        ],
    }
).encode()
OTHER = MANIFEST.replace(b'"schemaVersion": 2', b'"schemaVersion":2')

RIGHTS: Mapping[str, set[Right]] = {
    "reader": {Right.PULL},
    "lister": {Right.LIST},
    "creator": {Right.PULL, Right.PUSH},
    "writer": {Right.PULL, Right.PUSH, Right.OVERWRITE},
    "cleaner": {Right.DELETE},
    "admin": set(Right),
    "outsider": set(),
}

SETTINGS = {
    "access": {
        "rules": [
            {"repositories": ["public/**"], "anonymous": ["pull", "list"]},
            {
                "repositories": ["private/**", "public/**"],
                "users": {
                    name: [right.value for right in rights]
                    for name, rights in RIGHTS.items()
                    if rights
                },
            },
            {"repositories": ["foreign/**"], "users": {"outsider": ["*"]}},
        ]
    }
}


@frozen
class Row:
    """A request of a route: what it needs, and how it is made for a repository.

    :param needs: any of these rights is enough; None if everybody with an identity may.
    """

    needs: frozenset[Right] | None
    target: Callable[[str], str]
    body: bytes | None = None
    headers: Mapping[str, str] = {}


def one(*rights: Right) -> frozenset[Right]:
    return frozenset(rights)


SESSION = "0" * 32

ROWS: dict[tuple[str, str], Row] = {
    ("alive", "GET"): Row(None, lambda name: "/"),
    ("catalog", "GET"): Row(None, lambda name: "/v2/_catalog"),
    ("tags", "GET"): Row(one(Right.PULL, Right.LIST), lambda name: f"/v2/{name}/tags/list"),
    ("manifest", "GET"): Row(one(Right.PULL), lambda name: f"/v2/{name}/manifests/v1"),
    ("manifest", "PUT"): Row(
        one(Right.PUSH),
        lambda name: f"/v2/{name}/manifests/v1",
        MANIFEST,
        {"Content-Type": OCI_MANIFEST},
    ),
    ("manifest", "DELETE"): Row(one(Right.DELETE), lambda name: f"/v2/{name}/manifests/gone"),
    ("blob", "GET"): Row(one(Right.PULL), lambda name: f"/v2/{name}/blobs/{Digest.of(LAYER)}"),
    ("blob", "DELETE"): Row(
        one(Right.DELETE), lambda name: f"/v2/{name}/blobs/{Digest.of(b'gone')}"
    ),
    ("blob_upload", "POST"): Row(one(Right.PUSH), lambda name: f"/v2/{name}/blobs/uploads/"),
    ("blob_upload_chunk", "GET"): Row(
        one(Right.PUSH), lambda name: f"/v2/{name}/blobs/uploads/{SESSION}"
    ),
    ("blob_upload_chunk", "PATCH"): Row(
        one(Right.PUSH), lambda name: f"/v2/{name}/blobs/uploads/{SESSION}", b"x"
    ),
    ("blob_upload_chunk", "PUT"): Row(
        one(Right.PUSH),
        lambda name: f"/v2/{name}/blobs/uploads/{SESSION}?digest={Digest.of(LAYER)}",
        LAYER,
    ),
    ("blob_upload_chunk", "DELETE"): Row(
        one(Right.PUSH), lambda name: f"/v2/{name}/blobs/uploads/{SESSION}"
    ),
    ("referrers", "GET"): Row(
        one(Right.PULL), lambda name: f"/v2/{name}/referrers/{Digest.of(MANIFEST)}"
    ),
}

APART = {
    ("base", "GET"),
    ("token", "GET"),
    ("token", "POST"),
    ("token_keys", "GET"),
    ("keys", "GET"),
    ("keys", "POST"),
    ("key", "DELETE"),
}
"""Routes whose answers are not about a repository, with tests of their own below and elsewhere."""

REFUSED = (401, 403)


def test_every_route_has_a_row() -> None:
    routes = ROUTES + TOKEN_ROUTES + KEY_ROUTES
    served = {(route.name, method) for route in routes for method in route.methods}
    assert served == set(ROWS) | APART


def push(registry: Running, name: str, tag: str, headers: Mapping[str, str]) -> None:
    for content in (LAYER, CONFIG):
        target = f"/v2/{name}/blobs/uploads/?digest={Digest.of(content)}"
        assert registry.request("POST", target, content, headers)[0] == 201
    typed = {**headers, "Content-Type": OCI_MANIFEST}
    assert registry.request("PUT", f"/v2/{name}/manifests/{tag}", MANIFEST, typed)[0] == 201


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module", params=[True, False], ids=["deletes", "no-deletes"])
def registry(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("matrix")
    accounts = password_file(directory / "htpasswd", *RIGHTS)
    auth = {"certificate": {}, "htpasswd": {"path": str(accounts)}}
    tls = {
        "clientcas": [str(authority.path)],
        "clientauth": "verify-client-cert-if-given",
    }
    settings: dict[str, Any] = {**SETTINGS, "auth": auth, "http": {"tls": tls}}
    settings["storage"] = {"delete": {"enabled": request.param}}
    pair = authority.issue("server")
    with running(directory / "registry", tls=pair, settings=settings) as found:
        for name in (PRIVATE, PUBLIC):
            push(found, name, "v1", basic("admin"))
        push(found, "foreign/app", "v1", basic("outsider"))
        yield found


@pytest.fixture(scope="module")
def certified(registry: Running, authority: Authority) -> Mapping[str | None, Running]:
    """The registry for clients with the certificate of somebody, or without."""
    pairs = {name: authority.issue(name, client=True) for name in RIGHTS}
    return {None: registry, **{name: evolve(registry, client=pairs[name]) for name in pairs}}


def deletes(registry: Running) -> bool:
    return bool(registry.settings["storage"]["delete"]["enabled"])


def ask(
    registry: Running, row: tuple[str, str], name: str, headers: Mapping[str, str]
) -> tuple[int, dict[str, str], bytes]:
    found = ROWS[row]
    fields = {**headers, **found.headers}
    return registry.request(row[1], found.target(name), found.body, fields)


def code_of(body: bytes) -> str | None:
    try:
        code: str = json.loads(body)["errors"][0]["code"]
    except (ValueError, KeyError, TypeError):
        return None
    return code


@pytest.mark.parametrize("row", ROWS, ids=":".join)
@pytest.mark.parametrize("who", [*RIGHTS, None])
@pytest.mark.parametrize("way", ["direct", "token", "certificate"])
def test_matrix(
    registry: Running,
    certified: Mapping[str | None, Running],
    row: tuple[str, str],
    who: str | None,
    way: str,
) -> None:
    needs = ROWS[row].needs
    if way == "certificate":
        registry = certified[who]
    for name in (PRIVATE, PUBLIC, ABSENT):
        if way == "direct":
            headers = {} if who is None else basic(who)
        elif way == "certificate":
            headers = {}
        else:
            scopes = [f"repository:{name}:pull,push,delete,list", "registry:catalog:*"]
            headers = token(registry, who, *scopes)
        rights = set(RIGHTS[who]) if who is not None else set()
        if name == PUBLIC:
            rights |= {Right.PULL, Right.LIST}
        status, fields, body = ask(registry, row, name, headers)
        context = (row, who, way, name, status, body)
        if needs is None or rights & needs:
            assert status not in REFUSED, context
            assert status < 500, context
            if row[1] == "DELETE" and row[0] in ("blob", "manifest"):
                assert status == (404 if deletes(registry) else 405), context
        elif who is None or way == "token":
            assert (status, code_of(body)) == (401, "UNAUTHORIZED"), context
            assert fields["www-authenticate"].startswith("Bearer "), context
            assert f"repository:{name}:" in fields["www-authenticate"], context
        else:
            assert (status, code_of(body)) == (403, "DENIED"), context
            assert "www-authenticate" not in fields, context


@pytest.mark.parametrize("who", [*RIGHTS, None])
def test_the_catalog_shows_what_one_may_see(registry: Running, who: str | None) -> None:
    headers = {} if who is None else basic(who)
    status, _, body = registry.request("GET", "/v2/_catalog", headers=headers)
    assert status == 200
    expected = {PUBLIC}
    if who is not None and Right.LIST in RIGHTS[who]:
        expected.add(PRIVATE)
    if who == "outsider":
        expected.add("foreign/app")
    names = json.loads(body)["repositories"]
    assert names == sorted(expected)
    paged: list[str] = []
    target = "/v2/_catalog?n=1"
    while target:
        status, fields, body = registry.request("GET", target, headers=headers)
        paged += json.loads(body)["repositories"]
        link = fields.get("link", "")
        target = link[1 : link.index(">")] if link else ""
    assert paged == names


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("kind", ["manifests/v1", f"blobs/{Digest.of(LAYER)}", "tags/list"])
def test_what_one_may_not_see_is_as_if_absent(registry: Running, method: str, kind: str) -> None:
    for headers in ({}, basic("outsider"), token(registry, "outsider")):
        answers = []
        for name in (PRIVATE, ABSENT):
            status, fields, body = registry.request(method, f"/v2/{name}/{kind}", headers=headers)
            told = {
                key: value.replace(name, "")
                for key, value in fields.items()
                if key not in ("date", "x-request-id", "content-length")
            }
            answers.append((status, told, body.replace(name.encode(), b"")))
        assert answers[0] == answers[1]
        assert answers[0][0] in REFUSED


def test_mounts_need_the_source(registry: Running) -> None:
    """A03: whether a blob is elsewhere cannot be found out by mounting it."""
    secret = b"a secret of others"
    target = f"/v2/foreign/app/blobs/uploads/?digest={Digest.of(secret)}"
    assert registry.request("POST", target, secret, basic("outsider"))[0] == 201
    for source in ("&from=foreign/app", "&from=foreign/none", ""):
        target = f"/v2/{PRIVATE}/blobs/uploads/?mount={Digest.of(secret)}{source}"
        status, fields, _ = registry.request("POST", target, headers=basic("writer"))
        assert status == 202
        cancel = registry.request("DELETE", fields["location"], headers=basic("writer"))
        assert cancel[0] == 204
    blob = f"/v2/{PRIVATE}/blobs/{Digest.of(secret)}"
    assert registry.request("GET", blob, headers=basic("reader"))[0] == 404
    allowed = f"/v2/{PRIVATE}/blobs/uploads/?mount={Digest.of(LAYER)}&from={PUBLIC}"
    assert registry.request("POST", allowed, headers=basic("writer"))[0] == 201


def test_sessions_are_of_use_to_their_owner_only(registry: Running) -> None:
    """A04."""
    target = f"/v2/{PRIVATE}/blobs/uploads/"
    status, fields, _ = registry.request("POST", target, headers=basic("writer"))
    assert status == 202
    location = fields["location"]
    elsewhere = location.replace(PRIVATE, PUBLIC)
    closing = f"?digest={Digest.of(LAYER)}"
    for headers, address in ((basic("creator"), location), (basic("writer"), elsewhere)):
        assert registry.request("GET", address, headers=headers)[0] == 404
        assert registry.request("PATCH", address, b"x", headers)[0] == 404
        assert registry.request("PUT", address + closing, LAYER, headers)[0] == 404
        assert registry.request("DELETE", address, headers=headers)[0] == 404
    assert registry.request("PUT", location + closing, LAYER, basic("writer"))[0] == 201


def test_creating_is_not_overwriting(registry: Running) -> None:
    typed = {"Content-Type": OCI_MANIFEST}
    target = f"/v2/{PRIVATE}/manifests/v1"
    creator, writer = {**basic("creator"), **typed}, {**basic("writer"), **typed}
    status, _, body = registry.request("PUT", target, OTHER, creator)
    assert (status, code_of(body)) == (403, "DENIED")
    assert registry.request("PUT", target, MANIFEST, creator)[0] == 201
    new = f"/v2/{PRIVATE}/manifests/new"
    assert registry.request("PUT", new, OTHER, creator)[0] == 201
    assert registry.request("PUT", new, MANIFEST, creator)[0] == 403
    assert registry.request("PUT", new, MANIFEST, writer)[0] == 201


def test_the_base_tells_how_to_authenticate(registry: Running) -> None:
    status, fields, _ = registry.request("GET", "/v2/")
    assert status == 401
    expected = f'Bearer realm="{registry.url}/auth/token",service="txregistry"'
    assert fields["www-authenticate"] == expected
    for headers in (basic("outsider"), token(registry, None), token(registry, "reader")):
        assert registry.request("GET", "/v2/", headers=headers)[0] == 200
    wrong = [basic("reader", "wrong"), basic("nobody"), {"Authorization": "Bearer x.y.z"}]
    wrong += [{"Authorization": text} for text in ("", "Basic", "Basic !", "Digest x", "Bearer")]
    for headers in wrong:
        status, fields, _ = registry.request("GET", "/v2/", headers=headers)
        assert status == 401
        assert fields["www-authenticate"].startswith("Bearer ")


def test_hosts_that_are_none_come_back_to_nobody(registry: Running) -> None:
    headers = {"Host": 'evil"/x'}
    status, fields, _ = registry.request("GET", f"/v2/{PRIVATE}/tags/list", headers=headers)
    assert status in (400, 401)
    assert "evil" not in fields.get("www-authenticate", "")
