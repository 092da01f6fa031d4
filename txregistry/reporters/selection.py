"""Which events somebody wants to be told.

May import the model.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from attrs import frozen

from ..model.events import FAMILIAR, Event
from ..model.globs import repository_glob, tag_glob


@frozen
class Selection:
    """Events by their action, media type, repository and tag."""

    actions: frozenset[str]
    ignored: frozenset[str]
    repositories: Sequence[re.Pattern[str]]
    tags: Sequence[re.Pattern[str]]

    @classmethod
    def of(
        cls,
        actions: Collection[str] = FAMILIAR,
        ignored: Collection[str] = (),
        repositories: Collection[str] = (),
        tags: Collection[str] = (),
    ) -> Selection:
        """Events that any of the globs means; without globs all.

        :param ignored: media types that are not wanted.
        :param tags: globs, with which only events of such a tag are wanted.
        :raises ValueError: with a sentence, if a glob could match nothing.
        """
        return cls(
            frozenset(actions),
            frozenset(ignored),
            [repository_glob(text) for text in repositories],
            [tag_glob(text) for text in tags],
        )

    def wants(self, event: Event) -> bool:
        """Whether an event is told."""
        if event.action not in self.actions or event.media_type in self.ignored:
            return False
        name, tag = event.repository, event.tag
        if self.repositories and not any(each.fullmatch(name) for each in self.repositories):
            return False
        if not self.tags:
            return True
        return tag is not None and any(each.fullmatch(tag) for each in self.tags)
