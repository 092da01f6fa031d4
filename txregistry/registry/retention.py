"""Retention: which tags of a repository stay, decided by rules, with a reason for each.

The words are those of zot's configuration. What a tag leaves behind is collected as always: after
its time, and only if nothing else holds it.
May import the model, the interfaces and other modules of this room.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable, Sequence

from attrs import define, frozen
from twisted.logger import Logger

from ..interfaces import IInventory, TagRecord
from ..model.attachments import subject_of
from ..model.errors import ManifestUnknown
from ..model.events import Origin
from ..model.names import RepositoryName, Tag
from .manifests import Manifests
from .occasions import Occasion

PAGE = 1000
ORIGIN = Origin(user_agent="txregistry", actor="retention")

_log = Logger()


@frozen
class KeepRule:
    """Keeps some of the tags that match one of its patterns.

    :param count: how many of those pushed last are kept; None for no such reason.
    :param within: for how many seconds after it was pushed a tag is kept; None for no such reason.
        Without either all are kept.
    """

    name: str
    patterns: Sequence[re.Pattern[str]]
    count: int | None = None
    within: float | None = None

    def matches(self, tag: Tag) -> bool:
        """Whether it decides about a tag."""
        return any(pattern.fullmatch(tag) for pattern in self.patterns)


@frozen
class Policy:
    """Decides about the tags of some repositories: the first rule that matches a tag does.

    Without rules all stay; with some, those go that no rule matches.
    """

    name: str
    repositories: Sequence[re.Pattern[str]]
    rules: Sequence[KeepRule]

    def matches(self, repository: RepositoryName) -> bool:
        """Whether it decides about a repository."""
        return any(pattern.fullmatch(repository) for pattern in self.repositories)


@frozen
class Verdict:
    """Whether a tag stays, and why, in words for an operator."""

    tag: TagRecord
    kept: bool
    because: str


@frozen
class Window:
    """A time of the day, in minutes after midnight of the local time; it may go over midnight."""

    begin: int
    end: int

    @classmethod
    def parse(cls, text: str) -> Window:
        """Read ``22:00-05:30``.

        :raises ValueError: it is none.
        """
        found = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)", text)
        if found is None:
            raise ValueError(f"{text!r} is no time of the day; write 22:00-05:30")
        numbers = [int(each) for each in found.groups()]
        return cls(numbers[0] * 60 + numbers[1], numbers[2] * 60 + numbers[3])

    def open(self, now: float) -> bool:
        """Whether a time, in seconds since the epoch, lies in it."""
        local = time.localtime(now)
        minute = local.tm_hour * 60 + local.tm_min
        if self.begin <= self.end:
            return self.begin <= minute < self.end
        return minute >= self.begin or minute < self.end


def judge(policy: Policy, tags: Sequence[TagRecord], now: float) -> list[Verdict]:
    """Decide about every tag of a repository, in the order given.

    :param now: in seconds since the epoch.
    """
    if not policy.rules:
        return [Verdict(tag, True, f"{policy.name} has no rules") for tag in tags]
    found: dict[Tag, Verdict] = {}
    ranks = dict.fromkeys(range(len(policy.rules)), 0)
    for record in sorted(tags, key=lambda each: (-each.updated, each.tag)):
        if subject_of(record.tag) is not None:
            found[record.tag] = Verdict(record, True, "it goes with the image that it belongs to")
            continue
        number = next((n for n, rule in enumerate(policy.rules) if rule.matches(record.tag)), None)
        if number is None:
            found[record.tag] = Verdict(record, False, f"no rule of {policy.name} matches it")
            continue
        ranks[number] += 1
        kept, why = _by_rule(policy.rules[number], ranks[number], now - record.updated)
        found[record.tag] = Verdict(
            record, kept, f"{policy.name}.{policy.rules[number].name}: {why}"
        )
    return [found[record.tag] for record in tags]


def _by_rule(rule: KeepRule, rank: int, age: float) -> tuple[bool, str]:
    if rule.count is None and rule.within is None:
        return True, "keeps all that match"
    if rule.count is not None and rank <= rule.count:
        return True, f"number {rank} of the {rule.count} pushed last"
    if rule.within is not None and age < rule.within:
        return True, f"pushed within {rule.within:.0f} s"
    reasons = []
    if rule.count is not None:
        reasons.append(f"not among the {rule.count} pushed last")
    if rule.within is not None:
        reasons.append(f"not pushed within {rule.within:.0f} s")
    return False, " and ".join(reasons)


@define(eq=False)
class Retention:
    """Removes tags that the policies let go.

    :param immutable: whether a tag is one that nobody may delete.
    :param dry: whether what would go is only logged.
    :param window: when that happens; None for any time.
    """

    inventory: IInventory
    manifests: Manifests
    policies: Sequence[Policy]
    immutable: Callable[[RepositoryName, Tag], bool]
    occasion: Occasion
    dry: bool = False
    window: Window | None = None
    stopped: bool = False

    async def run_if_due(self, now: float) -> None:
        """Let tags go, if it is time.

        :param now: in seconds since the epoch.
        """
        if not self.policies or (self.window is not None and not self.window.open(now)):
            return
        if await self.occasion.due(now):
            await self.run(now)
            if not self.stopped:
                await self.occasion.done(now)

    async def run(self, now: float) -> int:
        """Let tags go now; how many these were."""
        count = 0
        async for repository, verdicts in self.verdicts(now):
            gone = [verdict for verdict in verdicts if not verdict.kept]
            for verdict in gone:
                if self.stopped:
                    return count
                count += await self._let_go(repository, verdict)
        return count

    async def verdicts(
        self, now: float, only: RepositoryName | None = None
    ) -> AsyncIterator[tuple[RepositoryName, list[Verdict]]]:
        """Decide about all tags of the repositories that a policy matches."""
        async for repository in self._names(only):
            policy = next((each for each in self.policies if each.matches(repository)), None)
            if policy is None:
                continue
            verdicts = judge(policy, await self._tags(repository), now)
            yield repository, [self._unless_immutable(repository, each) for each in verdicts]

    def _unless_immutable(self, repository: RepositoryName, verdict: Verdict) -> Verdict:
        if verdict.kept or not self.immutable(repository, verdict.tag.tag):
            return verdict
        return Verdict(verdict.tag, True, "it is immutable")

    async def _let_go(self, repository: RepositoryName, verdict: Verdict) -> int:
        record = verdict.tag
        _log.info(
            "{what} {repository}:{tag}: {because}",
            what="would remove" if self.dry else "removing",
            repository=repository,
            tag=record.tag,
            because=verdict.because,
            event="retention",
        )
        if self.dry:
            return 0
        try:
            # Unless somebody has pushed it meanwhile.
            await self.manifests.delete_tag(repository, record.tag, ORIGIN, record.updated)
        except ManifestUnknown:
            return 0
        return 1

    async def _names(self, only: RepositoryName | None) -> AsyncIterator[RepositoryName]:
        if only is not None:
            yield only
            return
        after = ""
        while names := await self.inventory.names(after, PAGE):
            for name in names:
                yield name
            after = names[-1]

    async def _tags(self, repository: RepositoryName) -> list[TagRecord]:
        found: list[TagRecord] = []
        after = ""
        while page := await self.inventory.tag_records(repository, after, PAGE):
            found += page
            after = page[-1].tag
        return found
