"""Settings for what becomes of content: when it goes, and how long is remembered where it was.

May import the model's options and attrs.
"""

from __future__ import annotations

from attrs import frozen, validators

from ..model.options import Duration, option


@frozen
class Collection:
    """Removing what nobody holds any more, while the registry serves."""

    enabled: bool | None = option(
        "Collect garbage. Without it: where clients may delete (storage.delete.enabled).",
        default=None,
        example="true",
    )
    interval: Duration = option(
        "Time between two looks for what is due.",
        default=Duration(60.0),
        validator=validators.gt(0),
    )
    delay: Duration = option(
        "How long a manifest or a blob is kept after it has lost its last tag, index or manifest.",
        default=Duration(24 * 3600),
    )
    lease: Duration = option(
        "How long a client may rely on what it was told to be there: from a push, a mount, or a "
        "HEAD of a blob or manifest, to the manifest that refers to it.",
        default=Duration(3600),
    )
    grace: Duration = option(
        "How long bytes are kept after the last repository has let go of them.",
        default=Duration(3600),
    )
    untagged: bool = option(
        "Remove manifests, too, that have lost their last tag and that no index or subject holds. "
        "Those that were untagged already when this registry took over a tree of another one stay "
        "until txregistry gc --sweep --untagged.",
        default=True,
    )
    sweep: Duration = option(
        "Time between two searches of everything stored for what a crash has left; 0 for never, "
        "which is right wherever another registry writes to the same tree: what only that one "
        "knows would be removed. txregistry gc --sweep does it once.",
        default=Duration(0.0),
    )


@frozen
class History:
    """What tags have pointed at, when, and who moved them."""

    keep: Duration = option(
        "How long moves are remembered; 0 for ever.", default=Duration(90 * 24 * 3600)
    )
    protect: Duration = option(
        "How long a manifest is kept after a tag has left it, so that the tag can be restored. "
        "gc.delay counts from the same moment: the longer of both decides.",
        default=Duration(0.0),
    )
