"""The order of system calls in a push to a running registry (D07), with negative controls."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from faults import Faults
from syscalls import Call, Trace, read_trace, traced
from wire import OCI_MANIFEST, Client, digest_of

CONFIG, LAYER = b"{}", b"layer" * 50_000


def pushed(tmp_path: Path, without: str = "") -> tuple[Trace, Path]:
    """Push two blobs and a manifest to a traced registry; the calls and the root directory."""
    registry = Faults(tmp_path, without).registry()
    registry.start()
    try:
        assert registry.process is not None
        with traced(tmp_path, registry.process) as record:
            client = Client(registry)
            config = client.descriptor("team/app", CONFIG)
            location = client.start("team/app").location
            half = len(LAYER) // 2
            for start in (0, half):
                headers = {"Content-Range": f"{start}-{start + half - 1}"}
                reply = client.call("PATCH", location, LAYER[start : start + half], headers)
                assert reply.status == 202
            digest = digest_of(LAYER)
            assert client.call("PUT", location, b"", digest=digest).status == 201
            layer = {"mediaType": "x/y", "digest": digest, "size": len(LAYER)}
            reply = client.manifest("team/app", "latest", manifest(config, layer))
            assert reply.status == 201
            client.close()
            registry.stop()
    finally:
        registry.stop()
    return Trace(read_trace(record)), registry.root


def manifest(config: object, layer: object) -> bytes:
    """A manifest of one layer."""
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config,
        "layers": [layer],
    }
    return json.dumps(document).encode()


def check_push(trace: Trace, root: Path) -> None:
    """Every object of the push: durable bytes, then a durable transaction, the link, the answer."""
    tree = root / "docker/registry/v2"
    objects = [Path(call.paths[-1]) for call in trace.calls if call.names]
    contents = [path for path in objects if path.name == "data" and tree / "blobs" in path.parents]
    assert contents[:2] == [content(tree, CONFIG), content(tree, LAYER)]
    assert len(contents) == 3
    answers = [call for call in trace.calls if call.answers]
    assert len(answers) == 3
    repository = tree / "repositories/team/app"
    links = [
        repository / "_layers" / digest_of(CONFIG).replace(":", "/") / "link",
        repository / "_layers" / digest_of(LAYER).replace(":", "/") / "link",
        repository / "_manifests/tags/latest/current/link",
    ]
    journal = root / "txregistry/metadata.sqlite3-wal"
    for path, link, answer in zip(contents, links, answers, strict=True):
        durable = trace.check_publication(path, answer.begin)
        linked = trace.named(link)
        assert linked.end < answer.begin
        written = trace.first("transaction", lambda call: writes(call, journal), durable.end)
        trace.synced(journal, "sync of the transaction", written.end, linked.begin)
        # The link itself is synced later, before the database forgets that it is due.
        last = trace.calls[-1].end
        trace.synced(link, "sync of the link", linked.end, last)
        synced = trace.synced(link.parent, "directory sync of the link", linked.end, last)
        trace.first("end of the pending change", lambda call: writes(call, journal), synced.end)


def content(tree: Path, data: bytes) -> Path:
    """Where the bytes of a blob are."""
    encoded = digest_of(data).partition(":")[2]
    return tree / "blobs/sha256" / encoded[:2] / encoded / "data"


def writes(call: Call, path: Path) -> bool:
    """Whether a call writes to a file."""
    return "write" in call.name and call.paths[:1] == (str(path),)


def test_order_of_a_push(tmp_path: Path) -> None:
    check_push(*pushed(tmp_path))


@pytest.mark.parametrize(
    ("without", "found"),
    [
        ("data", "no file sync"),
        ("directories", "no sync of the parent|no directory sync"),
        ("database", "no sync of the transaction"),
    ],
)
def test_a_registry_that_forgets_to_sync_is_found(tmp_path: Path, without: str, found: str) -> None:
    with pytest.raises(AssertionError, match=found):
        check_push(*pushed(tmp_path, without))


def test_an_answer_that_comes_too_early_is_found(tmp_path: Path) -> None:
    """The negative control of the order: the last answer of a good push, put at its beginning."""
    trace, root = pushed(tmp_path)
    calls = sorted(trace.calls, key=lambda call: not call.answers)
    with pytest.raises(AssertionError, match="no directory sync"):
        check_push(Trace(early(calls)), root)


def early(calls: list[Call]) -> list[Call]:
    """The calls in another order, each as if it had ended before the next one began."""
    return [
        Call(call.name, call.paths, 2 * place, 2 * place + 1) for place, call in enumerate(calls)
    ]
