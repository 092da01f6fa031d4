"""What cannot be read is kept: a tree that crashes of another registry have torn, collected."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from attrs import frozen
from running import Running
from trees import ROOT, Tree, into, stored_in
from waste import links_of
from wire import digest_of

GC = {"delay": "0s", "lease": "0s", "grace": "0s"}
LOOSE = b"a blob that no manifest refers to"


@frozen
class Torn:
    """A repository with an image and a blob that nothing holds.

    :param blobs: the digests of the image's configuration and layers.
    """

    tree: Tree
    name: str
    body: bytes
    blobs: list[str]

    @property
    def digest(self) -> str:
        """The digest of the manifest."""
        return digest_of(self.body)

    @property
    def image(self) -> set[str]:
        """The digests of everything of the image."""
        return {self.digest, *self.blobs}


def torn(tree: Tree, name: str) -> Torn:
    """Make one, whole as yet, with a tag."""
    body = tree.document(name, layers=2)
    tree.tag(name, "1", tree.revision(name, body))
    tree.layer(name, LOOSE)
    document = json.loads(body)
    blobs = [blob["digest"] for blob in (document["config"], *document["layers"])]
    return Torn(tree, name, body, blobs)


@pytest.fixture
def registry(tmp_path: Path) -> Running:
    """A registry that is not started."""
    return Running(tmp_path, settings={"gc": GC, "history": {"protect": "0s"}})


def run(registry: Running, *words: str, code: int = 0) -> str:
    """Run a command; what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "txregistry", *words, str(registry.configure())],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def layers(registry: Running, name: str) -> set[str]:
    """The blobs of a repository."""
    return {
        digest for kind, owner, digest in links_of(registry.root) if (kind, owner) == ("blob", name)
    }


def collect(registry: Running) -> set[str]:
    """Collect all that can be found, in any way; the digests that are left."""
    for number in range(7):
        done = run(registry, "gc", "--now", "--sweep", "--untagged", "--json")
        if number and not any(json.loads(done)["removed"].values()):
            return stored_in(registry.root)
    raise AssertionError(done)


def test_what_is_torn_is_kept(registry: Running) -> None:
    """Links of no bytes, as a crash leaves them, and manifests whose bytes have rotted or are gone.

    Nothing of an image goes that could be mended.
    """
    tree = Tree(into(registry.root))
    revision, layer, tag, rotten, gone = (
        torn(tree, f"torn/{what}") for what in ("revision", "layer", "tag", "rotten", "gone")
    )
    whole = torn(tree, "whole")
    hexadecimal = revision.digest.partition(":")[2]
    tree.link(revision.name, f"_manifests/revisions/sha256/{hexadecimal}", b"")
    tree.link(layer.name, f"_layers/{layer.blobs[1].replace(':', '/')}", b"")
    tree.link(tag.name, "_manifests/tags/1/current", b"")
    tree.data(b"x" * len(rotten.body), rotten.digest)
    bytes_of = gone.digest.partition(":")[2]
    (registry.root / f"{ROOT}/blobs/sha256/{bytes_of[:2]}/{bytes_of}/data").unlink()
    run(registry, "reindex")
    left = collect(registry)
    for each in (revision, layer, tag, rotten):
        assert each.image <= left, each.name
    assert set(gone.blobs) <= left
    assert whole.image <= left
    # A torn tag is no reason to keep what is known to be loose.
    for each in (whole, tag):
        assert layers(registry, each.name) == set(each.blobs)
    # An empty link is written anew where there are bytes; a torn tag is removed.
    run(registry, "check", "--repair", code=1)
    left = collect(registry)
    for each in (revision, layer, whole):
        assert each.image <= left, each.name
        assert layers(registry, each.name) == set(each.blobs), each.name
    assert left.isdisjoint(tag.image | gone.image)
    assert digest_of(LOOSE) in layers(registry, rotten.name)
