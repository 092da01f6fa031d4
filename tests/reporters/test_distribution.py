"""Our envelopes beside those of CNCF distribution, for the same requests to both."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from distribution import distribution
from receiving import Received, receiving
from running import Running, running
from wire import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Client,
    digest_of,
)

FIELDS = {"User-Agent": "probe/1 <ü&>", "Host": "registry.example:5000"}
COUNT = 18


def everything(registry: Running) -> None:
    """Push, pull, mount and delete in every way that distribution knows."""
    client = Client(registry, FIELDS)
    layer, config = b"a layer", b'{"architecture":"amd64","os":"linux"}'
    blob, wanted = client.blob("team/app", layer), client.blob("team/app", config)
    client.blob("team/app", b"")
    image = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": wanted, "size": len(config)},
        "layers": [
            {
                "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "digest": blob,
                "size": len(layer),
            }
        ],
    }
    body = json.dumps(image).encode()
    digest = digest_of(body)
    accept = {"Accept": f"{DOCKER_MANIFEST}, {OCI_INDEX}"}
    client.manifest("team/app", "v1", body, media_type=DOCKER_MANIFEST)
    client.manifest("team/app", digest, body, media_type=DOCKER_MANIFEST)
    oci = {**image, "mediaType": OCI_MANIFEST, "annotations": {"a": "b"}}
    oci["layers"] = [{**oci["layers"][0], "annotations": {"title": "a & b"}}]
    client.manifest("team/app", "oci", json.dumps(oci).encode(), media_type=OCI_MANIFEST)
    entry = {"mediaType": DOCKER_MANIFEST, "digest": digest, "size": len(body)}
    entry["platform"] = {"architecture": "amd64", "os": "linux"}
    for media_type in (OCI_INDEX, DOCKER_LIST):
        index = {"schemaVersion": 2, "mediaType": media_type, "manifests": [entry]}
        client.manifest("team/app", "index", json.dumps(index).encode(), media_type=media_type)
    for method, path in (
        ("GET", "manifests/v1"),
        ("GET", "manifests/v1"),
        ("HEAD", f"manifests/{digest}"),
        ("GET", f"blobs/{blob}"),
        ("HEAD", f"blobs/{blob}"),
    ):
        assert client.call(method, f"/v2/team/app/{path}", None, accept).status == 200
    part = client.call("GET", f"/v2/team/app/blobs/{blob}", None, {"Range": "bytes=0-1"})
    assert part.status == 206
    query = {"mount": blob, "from": "team/app"}
    mounted = client.call("POST", "/v2/other/blobs/uploads/", b"", **query)
    assert mounted.status == 201
    for path in (f"other/blobs/{blob}", f"team/app/manifests/{digest}"):
        assert client.call("DELETE", f"/v2/{path}").status == 202
    client.close()


def configured(url: str) -> dict[str, Any]:
    """The settings of both."""
    endpoint = {"name": "one", "url": url, "headers": {"X-Test": ["a", "b"]}, "timeout": "5s"}
    endpoint |= {"threshold": 3, "backoff": "1s", "ignore": {"mediatypes": [], "actions": []}}
    return {
        "storage": {"maintenance": {"uploadpurging": {"enabled": False}}},
        "notifications": {"events": {"includereferences": True}, "endpoints": [endpoint]},
    }


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[Any], list[Any]]]:
    """What each of the two has sent."""
    directory = tmp_path_factory.mktemp("envelopes")
    with receiving() as theirs, receiving() as ours:
        settings = configured(theirs.url)
        with distribution(directory / "their", directory / "data", settings=settings) as registry:
            everything(registry)
            theirs.wait_for(COUNT)
        with running(directory / "our", settings=configured(ours.url)) as registry:
            everything(registry)
            ours.wait_for(COUNT)
        yield _in_order(theirs.seen), _in_order(ours.seen)


def _in_order(seen: list[Received]) -> list[Received]:
    """Events in an order that does not depend on when pulls are written down."""
    found = sorted(seen, key=lambda each: each.event["timestamp"])
    return sorted(found, key=lambda each: each.event["action"])


VARYING = {
    "id": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "instanceID": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "timestamp": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d*[1-9])?(Z|[+-]\d\d:\d\d)",
}


def test_the_same_events(both: tuple[list[Received], list[Received]]) -> None:
    theirs, ours = both
    assert [each.told() for each in ours] == [each.told() for each in theirs]
    assert len(theirs) == COUNT


@pytest.mark.parametrize("number", range(COUNT))
def test_byte_for_byte(both: tuple[list[Received], list[Received]], number: int) -> None:
    """All but identifiers, times, ports; also white space and the order of fields."""
    theirs, ours = both[0][number], both[1][number]
    for name, pattern in VARYING.items():
        value = ours.event.get(name) or ours.event["source"][name]
        assert re.fullmatch(pattern, value), value
    assert _masked(ours.body) == _masked(theirs.body)


def _masked(body: bytes) -> str:
    text = body.decode()
    for name in ("id", "instanceID", "timestamp"):
        text = re.sub(rf'"{name}": "[^"]+"', f'"{name}": "..."', text)
    return re.sub(r'("addr": "[^"]+):\d+"', r'\1:0"', text)


def test_the_same_head(both: tuple[list[Received], list[Received]]) -> None:
    theirs, ours = both[0][0].fields, both[1][0].fields
    for name in ("content-type", "x-test"):
        assert ours[name] == theirs[name]
    assert ours["user-agent"].startswith("txregistry/")
