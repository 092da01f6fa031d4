"""Settings for what becomes of content: when it goes, and how long is remembered where it was.

May import the model's options, attrs and the globs of access rules.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from attrs import Attribute, frozen, validators

from ..model.globs import repository_glob, tag_glob
from ..model.options import Duration, Size, option

TIME = r"([01]\d|2[0-3]):[0-5]\d"


def _repositories(_: Any, attribute: Attribute[Any], value: Sequence[str]) -> None:
    for text in value:
        repository_glob(text)


def _tags(_: Any, attribute: Attribute[Any], value: Sequence[str]) -> None:
    for text in value:
        tag_glob(text)


def _window(_: Any, attribute: Attribute[Any], value: str | None) -> None:
    if value is not None and not re.fullmatch(f"{TIME}-{TIME}", value):
        raise ValueError("has to be a time of the day, such as 22:00-05:30")


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


@frozen
class KeepTags:
    """A rule of a policy. Without a count and a time it keeps all tags that match.

    Where any rule is about pulls, they are recorded, and a rule lets nothing go before that has
    been done for ``pulledwithin``, without it for a week. Checks whether a tag is there count as
    pulls, and so does a push.
    """

    patterns: Sequence[str] = option(
        "Globs of tags, with * for any characters.", default=("*",), validator=_tags
    )
    mostrecentlypushedcount: int | None = option(
        "How many of those pushed last are kept.",
        default=None,
        example="10",
        validator=validators.optional(validators.ge(0)),
    )
    pushedwithin: Duration | None = option(
        "How long after it was pushed a tag is kept.", default=None, example="720h"
    )
    mostrecentlypulledcount: int | None = option(
        "How many of those pulled last are kept.",
        default=None,
        example="10",
        validator=validators.optional(validators.ge(0)),
    )
    pulledwithin: Duration | None = option(
        "How long after it was pulled a tag is kept.", default=None, example="2160h"
    )


@frozen
class RetentionPolicy:
    """Which tags of some repositories are kept.

    Of several policies the first one that matches a repository decides; of its rules the first one
    that matches a tag. Tags that no rule matches go, unless there are no rules.
    """

    repositories: Sequence[str] = option(
        "Globs of names: * is any part of a component, ** any components.", validator=_repositories
    )
    keeptags: Sequence[KeepTags] = option("Rules, the first that matches decides.", factory=tuple)


@frozen
class Retention:
    """Removing tags by rules."""

    policies: Sequence[RetentionPolicy] = option(
        "Policies; without any every tag stays.",
        factory=tuple,
        example="[{repositories: ['ci/**'], keeptags: [{patterns: ['v*']}, "
        "{mostrecentlypushedcount: 10, pushedwithin: 720h}]}]",
    )
    interval: Duration = option(
        "Time between two looks at all tags.", default=Duration(24 * 3600.0)
    )
    window: str | None = option(
        "Time of the day, by the local clock, in which tags may be removed.",
        default=None,
        example="22:00-05:30",
        validator=_window,
    )
    dryrun: bool = option("Only log what would be removed.", default=False)

    @property
    def by_pulls(self) -> bool:
        """Whether a rule has to know when tags were pulled."""
        return any(
            rule.mostrecentlypulledcount is not None or rule.pulledwithin is not None
            for policy in self.policies
            for rule in policy.keeptags
        )


@frozen
class Quota:
    """How much all repositories together may hold that match."""

    repositories: Sequence[str] = option(
        "Globs of names: * is any part of a component, ** any components.", validator=_repositories
    )
    bytes: Size | None = option(
        "Bytes of distinct blobs and manifests.", default=None, example="100GiB"
    )
    tags: int | None = option(
        "Number of tags.", default=None, validator=validators.optional(validators.ge(0))
    )
