"""Storage keys: the tree of CNCF distribution 2.x and 3.x, built here and nowhere else.

Keys are built from parsed values only. Link objects hold the bare digest, without a newline.
May import the model and the interfaces.
"""

from __future__ import annotations

from ..interfaces import TreeChange
from ..model.digests import Digest
from ..model.errors import DigestInvalid
from ..model.names import RepositoryName, Tag

ROOT = "docker/registry/v2"
REPOSITORIES = f"{ROOT}/repositories"
BLOBS = f"{ROOT}/blobs"

LAYERS = "_layers"
REVISIONS = "_manifests/revisions"
TAGS = "_manifests/tags"
MARKS = frozenset({"_layers", "_manifests", "_uploads"})
"""Names below that of a repository which are not the beginning of another one's."""


def content(digest: Digest) -> str:
    """Where the bytes of a blob or a manifest are."""
    return f"{BLOBS}/{digest.algorithm}/{digest.hex[:2]}/{digest.hex}/data"


def layer_link(repository: RepositoryName, digest: Digest) -> str:
    """The link that lets a repository hold a blob."""
    return f"{REPOSITORIES}/{repository}/{LAYERS}/{digest.algorithm}/{digest.hex}/link"


def revision_link(repository: RepositoryName, digest: Digest) -> str:
    """The link that lets a repository hold a manifest."""
    return f"{REPOSITORIES}/{repository}/{REVISIONS}/{digest.algorithm}/{digest.hex}/link"


def tag_prefix(repository: RepositoryName, tag: Tag) -> str:
    """Below this lies everything about a tag."""
    return f"{REPOSITORIES}/{repository}/{TAGS}/{tag}"


def tag_current(repository: RepositoryName, tag: Tag) -> str:
    """The link that says where a tag points."""
    return f"{tag_prefix(repository, tag)}/current/link"


def tag_index(repository: RepositoryName, tag: Tag, digest: Digest) -> str:
    """The link that remembers a manifest which the tag points at, or pointed at once."""
    return f"{tag_prefix(repository, tag)}/index/{digest.algorithm}/{digest.hex}/link"


def upload_hint(repository: RepositoryName, upload: str) -> str:
    """Where an upload session would lie in this tree."""
    return f"{REPOSITORIES}/{repository}/_uploads/{upload}/data"


def link(key: str, digest: Digest) -> TreeChange:
    """Write a link to a digest."""
    return TreeChange(key, digest.encode())


def unlink(key: str) -> TreeChange:
    """Remove a link."""
    return TreeChange(key, None)


def read_link(content: bytes) -> Digest | None:
    """The digest that a link holds, None if it holds none.

    Space around it is none of ours; an empty link is what a crash left of one.
    """
    try:
        return Digest.parse(content.decode("ascii").strip())
    except (UnicodeDecodeError, DigestInvalid):
        return None


def data_digest(key: str) -> Digest | None:
    """The digest that the key of some bytes stands for, None if it is no such key."""
    parts = key.removeprefix(f"{BLOBS}/").split("/")
    try:
        digest = Digest.parse(f"{parts[0]}:{parts[2]}") if len(parts) == 4 else None
    except DigestInvalid:
        return None
    return digest if digest is not None and content(digest) == key else None
