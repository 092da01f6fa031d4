"""How images are called: on the command line, and in the index of a layout.

The names in an index are annotations (image-spec 1.1, "Image Layout", ``index.json``), whose
grammar allows repositories as well as tags. May import the model.
"""

from __future__ import annotations

from attrs import frozen

from ..model.digests import Digest
from ..model.names import Reference, RepositoryName, Tag

REF_NAME = "org.opencontainers.image.ref.name"


@frozen
class ImageName:
    """A repository, and a tag or a digest in it; None for all of its tags."""

    repository: RepositoryName
    reference: Reference | None = None

    @classmethod
    def parse(cls, text: str) -> ImageName:
        """Read ``repository``, ``repository:tag`` or ``repository@digest``.

        :raises RegistryError: a part of it is none.
        """
        name, at, digest = text.partition("@")
        if at:
            return cls(RepositoryName.parse(name), Digest.parse(digest))
        name, colon, tag = text.rpartition(":")
        if colon:
            return cls(RepositoryName.parse(name), Tag.parse(tag))
        return cls(RepositoryName.parse(text))

    def __str__(self) -> str:
        if self.reference is None:
            return self.repository
        return f"{self.repository}{'@' if ':' in self.reference else ':'}{self.reference}"


def target(name: str | None, digest: Digest, into: RepositoryName | None) -> ImageName:
    """Where an entry of an index belongs.

    :param name: what the index calls it, None if it has no name.
    :param into: the repository that was chosen, which wins over the one in the name.
    :raises ValueError: the name has no repository, and none was chosen.
    :raises RegistryError: the name is outside the grammar.
    """
    if not name:
        found = ImageName(into, digest) if into is not None else None
    elif into is not None:
        # Whatever stands before the tag, be it another registry's address, is replaced.
        before, _, last = name.rpartition("/")
        tag = "" if "@" in name or (before and ":" not in last) else last.rpartition(":")[2]
        found = ImageName(into, Tag.parse(tag) if tag else digest)
    else:
        found = ImageName.parse(name) if any(mark in name for mark in ":@/") else None
    if found is None:
        raise ValueError(
            f"the layout does not say which repository {name or digest} belongs to: name one"
        )
    return found if found.reference is not None else ImageName(found.repository, digest)
