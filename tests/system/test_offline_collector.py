"""The same tree collected by CNCF distribution's offline collector and by ours.

What differs is listed here, and each difference is shown to be a loss on its side, or something
left behind that serves nobody.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from contents import indexed
from distribution import Distribution, distribution
from running import Running, running
from trees import links_in, stored_in
from waste import Heap, Key, links_of
from wire import OCI_INDEX, OCI_MANIFEST, Client

GC = {"enabled": False, "delay": "0s", "lease": "0s", "grace": "0s"}


@frozen
class Ground:
    """A tree that both registries have filled.

    :param heaps: what is in it: the one pushed through the other registry, and ours.
    """

    directory: Path
    data: Path
    heaps: list[Heap]

    @property
    def kept(self) -> dict[Key, str]:
        """What has to stay."""
        return {key: digest for heap in self.heaps for key, digest in heap.kept.items()}

    def copy(self, name: str) -> Path:
        """A copy of the tree, with the database."""
        target = self.directory / name
        shutil.copytree(self.data, target)
        return target


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    """The tree."""
    directory = tmp_path_factory.mktemp("ground")
    data = directory / "data"
    heaps = []
    with distribution(directory / "theirs", data) as theirs:
        client = Client(theirs)
        heaps.append(Heap(client, "theirs/").pile(tags_go_alone=False))
        client.close()
    with ours(directory, data) as registry:
        indexed(registry)
        client = Client(registry)
        heaps.append(Heap(client, "ours/").pile())
        client.close()
    return Ground(directory, data, heaps)


@contextmanager
def ours(directory: Path, data: Path, **gc: Any) -> Iterator[Running]:
    """Our registry on some data."""
    with running(directory / "ours", settings=settings(data, **gc)) as registry:
        yield registry


def settings(data: Path, **gc: Any) -> dict[str, Any]:
    """The configuration of ours."""
    storage = {"filesystem": {"rootdirectory": str(data)}}
    return {"gc": {**GC, **gc}, "history": {"protect": "0s"}, "storage": storage}


def collect(ground: Ground, data: Path, *options: str, **gc: Any) -> None:
    """Have ours collect until there is nothing more to do."""
    registry = Running(ground.directory / "ours", settings=settings(data, **gc))
    words = ["gc", "--now", "--sweep", "--json", *options, str(registry.configure())]
    for number in range(6):
        done = subprocess.run(
            [sys.executable, "-m", "txregistry", *words],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        # What the sweep finds is due in the pass behind it.
        if number and not any(json.loads(done.stdout)["removed"].values()):
            return
    raise AssertionError(done.stdout)


def offline(ground: Ground, data: Path, *options: str) -> None:
    """Have theirs collect."""
    registry = Distribution(ground.directory / "theirs", data=data)
    words = registry.garbage_collect(*options)
    assert "error" not in words.lower(), words


def links(data: Path, kind: str) -> set[tuple[str, str, str]]:
    """The links of one kind: blob, manifest, or tag with what it points at."""
    if kind != "tag":
        return {each for each in links_of(data) if each[0] == kind}
    found = links_in(data).items()
    return {("tag", place, digest) for place, digest in found if place.endswith("current/link")}


def served(registry: Running, keys: dict[Key, str]) -> dict[Key, int]:
    """What a registry answers when it is asked for things."""
    client = Client(registry)
    answers = {}
    for key in keys:
        kind, name, what = key
        path = f"/v2/{name}/{'blobs' if kind == 'blob' else 'manifests'}/{what}"
        accept = {"Accept": f"{OCI_MANIFEST}, {OCI_INDEX}"}
        answers[key] = client.call("GET", path, headers=accept).status
    client.close()
    return answers


def test_untagged_manifests_stay(ground: Ground) -> None:
    """Without ``--delete-untagged``: the same bytes, revisions and tags. Theirs leaves links to
    layers behind: of bytes that are gone, and of what only other repositories hold.
    """
    theirs, mine = ground.copy("theirs-plain"), ground.copy("ours-plain")
    offline(ground, theirs)
    collect(ground, mine, untagged=False)
    assert stored_in(theirs) == stored_in(mine) < stored_in(ground.data)
    for kind in ("manifest", "tag"):
        assert links(theirs, kind) == links(mine, kind) == links(ground.data, kind)
    assert links(theirs, "blob") == links(ground.data, "blob") > links(mine, "blob")
    left = dict.fromkeys(links(theirs, "blob") - links(mine, "blob"), "")
    shared = {("blob", f"{heap.prefix}c", heap.shared[0]["digest"]) for heap in ground.heaps}
    assert {key for key in left if key[2] in stored_in(theirs)} == shared
    with distribution(ground.directory / "theirs", theirs) as registry:
        answers = served(registry, left)
    assert {key for key, status in answers.items() if status != 404} == shared


def test_untagged_manifests_go(ground: Ground) -> None:
    """With ``--delete-untagged`` theirs loses the children of tagged indexes, and referrers."""
    theirs, mine = ground.copy("theirs-all"), ground.copy("ours-all")
    offline(ground, theirs, "--delete-untagged")
    collect(ground, mine, "--untagged")
    # Ours: all that is to stay and nothing else.
    assert stored_in(mine) == {digest for heap in ground.heaps for digest in heap.stored}
    assert links(mine, "blob") | links(mine, "manifest") == {
        key for heap in ground.heaps for key in heap.links
    }
    # Revisions. Theirs keeps signatures named after an image that it removes, and has lost:
    followers = {
        ("manifest", name, digest)
        for heap in ground.heaps
        for (_, name, _), digest in heap.followers.items()
    }
    lost = {
        ("manifest", f"{heap.prefix}a", digest)
        for heap in ground.heaps
        for digest in heap.children | heap.attached
    }
    assert links(theirs, "manifest") - links(mine, "manifest") == followers
    assert links(mine, "manifest") - links(theirs, "manifest") == lost
    assert len(lost) == 4 * len(ground.heaps)
    # Tags, but for those of the signatures; and links to layers, of which theirs removes none.
    named = {
        ("tag", f"{name}/_manifests/tags/{tag}/current/link", digest)
        for heap in ground.heaps
        for (_, name, tag), digest in heap.followers.items()
    }
    assert links(theirs, "tag") - links(mine, "tag") == named
    assert links(mine, "tag") <= links(theirs, "tag")
    assert links(theirs, "blob") == links(ground.data, "blob")
    check_bytes(ground, theirs, mine, {digest for _, _, digest in lost})
    check_served(ground, theirs, mine, lost)


def check_bytes(ground: Ground, theirs: Path, mine: Path, lost: set[str]) -> None:
    """Theirs keeps the bytes of the signatures, and has lost those of what it has lost, but for
    the manifests that an index names: it looks one level deep.
    """
    more = stored_in(theirs) - stored_in(mine)
    less = stored_in(mine) - stored_in(theirs)
    children = {digest for heap in ground.heaps for digest in heap.children}
    assert less & lost == lost - children
    held = {digest for digest in less if digest not in lost}
    # The configuration and a layer of each; the other layer is one of all.
    assert len(held) == 2 * len(lost)
    signatures = {digest for heap in ground.heaps for digest in heap.followers.values()}
    assert signatures <= more
    assert len(more) == 3 * len(signatures)


def check_served(ground: Ground, theirs: Path, mine: Path, lost: set[tuple[str, str, str]]) -> None:
    """Their loss is one for clients: what tags and subjects hold is not found, theirs alone."""
    kept = ground.kept
    with distribution(ground.directory / "theirs", theirs) as registry:
        answers = served(registry, kept)
    missing = {key for key, status in answers.items() if status != 200}
    assert {key for key in missing if key[0] == "manifest"} == lost
    assert not {key for key in missing if key[0] == "tag"}
    assert len([key for key in missing if key[0] == "blob"]) == 2 * len(lost)
    for use in (
        ours(ground.directory, mine),
        distribution(ground.directory / "theirs", mine),
    ):
        with use as registry:
            assert set(served(registry, kept).values()) == {200}
    marked, blobs, manifests, _ = Distribution(ground.directory / "theirs", data=mine).collect()
    assert (marked, blobs, manifests) == (len(stored_in(mine)), 0, 0)
