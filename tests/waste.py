"""A registry with something of everything that collectors of garbage have to tell apart."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attrs import define, field
from trees import links_in
from wire import OCI_INDEX, OCI_MANIFEST, Client, digest_of

Key = tuple[str, str, str]
"""What may be asked for: blob, manifest or tag; its repository; its digest or name."""


@define(eq=False)
class Heap:
    """Pushes images, and deletes some of them; knows what has to stay.

    :param prefix: what the names of its repositories begin with.
    :param kept: what has to be there in the end, with the digest of its bytes.
    :param children: manifests of that which only an index holds; ``attached`` are those that only
        a subject holds.
    :param followers: tags that go because they are named after something that goes.
    """

    client: Client
    prefix: str = ""
    kept: dict[Key, str] = field(factory=dict)
    children: set[str] = field(factory=set)
    attached: set[str] = field(factory=set)
    followers: dict[Key, str] = field(factory=dict)
    shared: list[dict[str, Any]] = field(factory=list)

    @property
    def stored(self) -> set[str]:
        """The digests whose bytes have to be in the storage, and no others."""
        return set(self.kept.values())

    @property
    def links(self) -> set[tuple[str, str, str]]:
        """Kind, repository and digest of the links that have to be in the tree."""
        return {key for key in self.kept if key[0] != "tag"}

    def keep(self, name: str, body: bytes, *tags: str) -> str:
        """A manifest has to stay, with its blobs and by its tags."""
        digest, document, name = digest_of(body), json.loads(body), self.prefix + name
        self.kept["manifest", name, digest] = digest
        self.kept.update({("tag", name, tag): digest for tag in tags})
        for blob in [document["config"], *document["layers"]] if "config" in document else ():
            self.kept["blob", name, blob["digest"]] = blob["digest"]
        return digest

    def image(self, name: str, *references: str, **extra: Any) -> bytes:
        """Push an image by some tags, or by its digest."""
        document = self.client.image(self.prefix + name, **extra)
        document["layers"] += [self.mounted(name, each) for each in self.shared[:1]]
        return self.push(name, json.dumps(document).encode(), references)

    def push(self, name: str, body: bytes, references: Iterable[str] = ()) -> bytes:
        """Push a manifest by some tags, or by its digest."""
        media_type = json.loads(body)["mediaType"]
        for reference in references or [digest_of(body)]:
            reply = self.client.manifest(self.prefix + name, reference, body, media_type=media_type)
            assert reply.status == 201, reply.body
        return body

    def mounted(self, name: str, layer: dict[str, Any]) -> dict[str, Any]:
        """A layer that every image holds, from the first repository."""
        path = f"/v2/{self.prefix}{name}/blobs/uploads/"
        query = {"mount": layer["digest"], "from": f"{self.prefix}a"}
        reply = self.client.call("POST", path, b"", **query)
        assert reply.status == 201, reply.body
        return layer

    def index(self, name: str, tag: str, *children: bytes) -> bytes:
        """Push an index."""
        parts = [described(child) for child in children]
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": parts}
        return self.push(name, json.dumps(document).encode(), [tag])

    def delete(self, name: str, reference: str) -> None:
        """Delete a manifest, or the tag alone."""
        reply = self.client.call("DELETE", f"/v2/{self.prefix}{name}/manifests/{reference}")
        assert reply.status == 202, reply.body

    def pile(self, tags_go_alone: bool = True) -> Heap:
        """All of it, in three repositories, two of them nested.

        :param tags_go_alone: whether the registry can delete a tag without its manifest; else
            another image takes it.
        """
        self.shared.append(self.client.descriptor(f"{self.prefix}a", b"a layer of all"))
        again = self.image("a", "1", "2")
        self.let_go("2", tags_go_alone)
        self.keep("a", again, "1")
        old = self.image("a", "latest")
        self.keep("a", self.image("a", "latest"), "latest")
        self._indexes(tags_go_alone)
        self._attached(again, old)
        gone = self.image("a", "3")
        self.image("a", subject=described(gone))
        self.delete("a", digest_of(gone))
        self.image("a")
        self.client.blob(f"{self.prefix}a", b"nobody's blob")
        self._elsewhere(old)
        return self

    def let_go(self, tag: str, alone: bool) -> None:
        """A tag of the first repository goes, or moves to something else that stays."""
        if alone:
            self.delete("a", tag)
        else:
            self.keep("a", self.image("a", tag), tag)

    def _indexes(self, tags_go_alone: bool) -> None:
        """Two indexes with a child in common; one of them goes, and its other child."""
        children = [self.image("a"), self.image("a"), self.image("a")]
        self.keep("a", self.index("a", "all", *children[:2]), "all")
        self.index("a", "gone", *children[1:])
        self.let_go("gone", tags_go_alone)
        self.children.update(self.keep("a", child) for child in children[:2])

    def _attached(self, kept: bytes, old: bytes) -> None:
        """Referrers and signatures of one image that stays, and of one that goes."""
        referrer = self.image("a", subject=described(kept))
        about = self.image("a", subject=described(referrer))
        self.attached.update(self.keep("a", each) for each in (referrer, about))
        self.image("a", subject=described(old))
        named = digest_of(kept).replace(":", "-") + ".sig"
        self.keep("a", self.image("a", named), named)
        named = digest_of(old).replace(":", "-") + ".sig"
        self.followers["tag", f"{self.prefix}a", named] = digest_of(self.image("a", named))

    def _elsewhere(self, old: bytes) -> None:
        """A repository within that holds what the outer one lets go, and one of which nothing is
        left.
        """
        document = json.loads(old)
        for blob in [document["config"], *document["layers"]]:
            self.mounted("a/b", blob)
        self.keep("a/b", self.push("a/b", old, ["old"]), "old")
        self.keep("a/b", self.image("a/b", "1"), "1")
        self.delete("c", digest_of(self.image("c", "1", "2")))

    def served(self, client: Client) -> dict[Key, str | None]:
        """What a registry serves of what has to stay, by the digests of its bytes."""
        found: dict[Key, str | None] = {}
        accept = {"Accept": f"{OCI_MANIFEST}, {OCI_INDEX}"}
        for key in self.kept:
            kind, name, what = key
            place = "blobs" if kind == "blob" else "manifests"
            reply = client.call("GET", f"/v2/{name}/{place}/{what}", headers=accept)
            found[key] = digest_of(reply.body) if reply.status == 200 else None
        return found


def described(body: bytes) -> dict[str, Any]:
    """How others refer to a manifest."""
    media_type = json.loads(body)["mediaType"]
    return {"mediaType": media_type, "digest": digest_of(body), "size": len(body)}


def links_of(root: Path) -> set[tuple[str, str, str]]:
    """Kind, repository and digest of all links to blobs and manifests in a tree."""
    found = set()
    for place in links_in(root):
        name, _, rest = place.partition("/_")
        kind = {"layers": "blob", "manifests/revisions": "manifest"}.get(rest.split("/sha256/")[0])
        if kind is not None:
            found.add((kind, name, f"sha256:{rest.split('/')[-2]}"))
    return found
