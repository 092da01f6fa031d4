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

from ..interfaces import IInventory, ILastPulls, TagRecord
from ..model.attachments import subject_of
from ..model.errors import ManifestUnknown
from ..model.events import Origin
from ..model.names import RepositoryName, Tag
from .manifests import Manifests
from .occasions import Occasion

PAGE = 1000

PROBATION = 7 * 86_400.0
"""Seconds for which pulls have to be recorded before a rule that only counts them may decide."""

ORIGIN = Origin(user_agent="txregistry", actor="retention")

_log = Logger()


@frozen
class KeepRule:
    """Keeps some of the tags that match one of its patterns.

    :param count: how many of those pushed last are kept; None for no such reason.
    :param within: for how many seconds after it was pushed a tag is kept; None for no such reason.
    :param pulled_count: as ``count``, of those pulled last.
    :param pulled_within: as ``within``, after it was pulled. Without any reason all are kept.
    """

    name: str
    patterns: Sequence[re.Pattern[str]]
    count: int | None = None
    within: float | None = None
    pulled_count: int | None = None
    pulled_within: float | None = None

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


def judge(
    policy: Policy, tags: Sequence[TagRecord], now: float, since: float | None = None
) -> list[Verdict]:
    """Decide about every tag of a repository, in the order given.

    :param now: in seconds since the epoch.
    :param since: the time since when pulls are recorded, None if they are not.
    """
    if not policy.rules:
        return [Verdict(tag, True, f"{policy.name} has no rules") for tag in tags]
    found: dict[Tag, Verdict] = {}
    matched: list[list[TagRecord]] = [[] for _ in policy.rules]
    for record in tags:
        number = next((n for n, rule in enumerate(policy.rules) if rule.matches(record.tag)), None)
        if subject_of(record.tag) is not None:
            found[record.tag] = Verdict(record, True, "it goes with the image that it belongs to")
        elif number is None:
            found[record.tag] = Verdict(record, False, f"no rule of {policy.name} matches it")
        else:
            matched[number].append(record)
    for rule, records in zip(policy.rules, matched, strict=True):
        pushed, pulled = _ranks(records, lambda each: each.updated), _ranks(records, _used)
        for record in records:
            case = Case(now, record, pushed[record.tag], pulled[record.tag], since)
            kept, why = _by_rule(rule, case)
            found[record.tag] = Verdict(record, kept, f"{policy.name}.{rule.name}: {why}")
    return [found[record.tag] for record in tags]


@frozen
class Case:
    """A tag that a rule matches, with its places among those pushed and those pulled last."""

    now: float
    tag: TagRecord
    pushed: int
    pulled: int
    since: float | None


def _used(record: TagRecord) -> float:
    """When somebody cared about a tag last."""
    return max(record.updated, record.pulled)


def _ranks(records: Sequence[TagRecord], time: Callable[[TagRecord], float]) -> dict[Tag, int]:
    """The place of each tag, the latest first."""
    ordered = sorted(records, key=lambda each: (-time(each), each.tag))
    return {record.tag: place for place, record in enumerate(ordered, 1)}


def _by_rule(rule: KeepRule, case: Case) -> tuple[bool, str]:
    against: list[str] = []
    for place, count, what in (
        (case.pushed, rule.count, "pushed"),
        (case.pulled, rule.pulled_count, "pulled"),
    ):
        if count is not None and place <= count:
            return True, f"number {place} of the {count} {what} last"
        if count is not None:
            against.append(f"not among the {count} {what} last")
    for moment, within, what in (
        (case.tag.updated, rule.within, "pushed"),
        (_used(case.tag), rule.pulled_within, "pulled"),
    ):
        if within is not None and case.now - moment < within:
            return True, f"{what} within {within:.0f} s"
        if within is not None:
            against.append(f"not {what} within {within:.0f} s")
    if not against:
        return True, "keeps all that match"
    if rule.pulled_count is not None or rule.pulled_within is not None:
        enough = PROBATION if rule.pulled_within is None else rule.pulled_within
        if case.since is None:
            return True, "pulls are not recorded yet"
        if case.now - case.since < enough:
            return True, f"pulls have been recorded for less than {enough:.0f} s"
    return False, " and ".join(against)


@define(eq=False)
class Retention:
    """Removes tags that the policies let go.

    :param immutable: whether a tag is one that nobody may delete.
    :param dry: whether what would go is only logged.
    :param window: when that happens; None for any time.
    """

    inventory: IInventory
    manifests: Manifests
    pulls: ILastPulls
    policies: Sequence[Policy]
    immutable: Callable[[RepositoryName, Tag], bool]
    occasion: Occasion
    dry: bool = False
    window: Window | None = None
    stopped: bool = False
    removed: int = 0
    """Tags that this process has let go."""
    looked: int = 0
    """Repositories that the present run has looked at."""

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
        before, self.looked = self.removed, 0
        async for repository, verdicts in self.verdicts(now):
            gone = [verdict for verdict in verdicts if not verdict.kept]
            for verdict in gone:
                if self.stopped:
                    return self.removed - before
                await self._let_go(repository, verdict)
        return self.removed - before

    async def size(self) -> int:
        """How many repositories a run has to look at."""
        return sum([1 async for _ in self._names(None)])

    async def verdicts(
        self, now: float, only: RepositoryName | None = None
    ) -> AsyncIterator[tuple[RepositoryName, list[Verdict]]]:
        """Decide about all tags of the repositories that a policy matches."""
        since = await self.pulls.since()
        async for repository in self._names(only):
            self.looked += 1
            policy = next((each for each in self.policies if each.matches(repository)), None)
            if policy is None:
                continue
            verdicts = judge(policy, await self._tags(repository), now, since)
            yield repository, [self._unless_immutable(repository, each) for each in verdicts]

    def _unless_immutable(self, repository: RepositoryName, verdict: Verdict) -> Verdict:
        if verdict.kept or not self.immutable(repository, verdict.tag.tag):
            return verdict
        return Verdict(verdict.tag, True, "it is immutable")

    async def _let_go(self, repository: RepositoryName, verdict: Verdict) -> None:
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
            return
        try:
            # Unless somebody has pushed it meanwhile.
            await self.manifests.delete_tag(repository, record.tag, ORIGIN, record.updated)
        except ManifestUnknown:
            return
        self.removed += 1

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
