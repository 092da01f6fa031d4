"""Pointing a tag again at what it has pointed at before.

May import the model and the interfaces.
"""

from __future__ import annotations

from ..interfaces import IRegistry
from ..model.digests import Digest
from ..model.errors import ManifestUnknown
from ..model.names import RepositoryName, Tag


async def restore(
    registry: IRegistry, repository: RepositoryName, tag: Tag, digest: Digest, fixed: bool = False
) -> None:
    """Point a tag at a manifest, as a push of that would.

    :param fixed: whether the tag must not move if it is there.
    :raises ManifestUnknown: the manifest is not there any more.
    :raises Denied: the tag points elsewhere, and must not move.
    """
    try:
        manifest = await registry.get_manifest(repository, digest)
    except ManifestUnknown:
        raise ManifestUnknown(
            f"{digest} is not there any more: it was deleted or collected; push it again",
            {"reference": digest},
        ) from None
    kind = manifest.descriptor.media_type
    tags = [tag]
    await registry.put_manifest(
        repository, digest, tags, kind, manifest.body, tags if fixed else ()
    )
