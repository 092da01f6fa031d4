"""``txregistry check``: compare tree, database and bytes; mend what differs.

May import everything.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..tap import load_or_complain
from . import BAD, GOOD

if TYPE_CHECKING:
    from ..assembly import Registry
    from ..registry.findings import Finding

SHOWN_NOTES = 20


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    command = commands.add_parser(
        "check",
        help="compare tree, database and bytes in storage, and mend what differs",
        description="Compare tree, database and bytes in storage. The exit code is 1 if anything "
        "is wrong, or was and could not be mended. What a running server changes meanwhile is "
        "looked at twice; mending needs it stopped.",
    )
    command.add_argument("file", nargs="?", type=Path, help="the configuration file")
    command.add_argument("--bytes", action="store_true", help="read and hash every byte")
    command.add_argument("--repair", action="store_true", help="mend what can be mended")
    command.add_argument("--json", action="store_true", help="one JSON object for each finding")
    command.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Check, and tell."""
    from .offline import offline

    loaded = load_or_complain(chosen.file)
    teller = Teller(chosen.json)

    async def work(registry: Registry) -> int:
        return await Check(registry, chosen.bytes, chosen.repair, teller).run()

    return offline(loaded, work, alone=chosen.repair)


class Check:
    """One check of a registry."""

    def __init__(self, registry: Registry, hashing: bool, repair: bool, teller: Teller) -> None:
        from ..metadata.inventory import SqliteInventory
        from ..metadata.sqlite import SqliteMetadata

        metadata = registry.core.metadata
        assert isinstance(metadata, SqliteMetadata)
        self._registry = registry
        self._inventory = SqliteInventory(metadata)
        self._hashing = hashing
        self._repair = repair
        self._teller = teller

    async def run(self) -> int:
        """Check everything; the exit code."""
        from ..interfaces import AdoptionState
        from ..registry.checking import BytesCheck, leftovers

        core = self._registry.core
        progress = self._registry.adopter.adoption.progress()
        if await self._registry.adopter.start() and progress.state is not AdoptionState.COMPLETE:
            self._teller.say("the tree is not read to the end: start the server, or run reindex")
            return BAD
        for name in await self._names():
            await self._repository(name)
        async for finding in BytesCheck(
            core.driver, core.manifests.quarantine, self._inventory, self._hashing
        ).findings():
            await self._tell(finding)
        async for finding in leftovers(core.driver):
            await self._tell(finding)
        return self._teller.end()

    async def _names(self) -> list[Any]:
        """Repositories that the tree or the database knows."""
        names: set[Any] = set()
        async for found in self._registry.adopter.reader.repositories():
            names.update(name for name, _ in found)
        after = ""
        while page := await self._inventory.names(after, 1000):
            names.update(page)
            after = page[-1]
        return sorted(names)

    async def _repository(self, name: Any) -> None:
        findings = await self._look(name)
        if findings and not self._repair:
            # What changed just then is right the second time.
            again = await self._look(name)
            findings = [finding for finding in findings if finding in again]
        for finding in findings:
            await self._tell(finding)

    async def _look(self, name: Any) -> list[Finding]:
        from ..model.events import Origin
        from ..registry.checking import RepositoryCheck
        from ..registry.stored import StoredRegistry

        core, adopter = self._registry.core, self._registry.adopter
        check = RepositoryCheck(
            name,
            core.driver,
            adopter.reader,
            self._inventory,
            adopter.adoption,
            StoredRegistry(core, Origin()),
        )
        return [finding async for finding in check.findings()]

    async def _tell(self, finding: Finding) -> None:
        mended = False
        if self._repair and finding.mend is not None:
            await finding.mend()
            mended = True
        self._teller.tell(finding, mended)


class Teller:
    """Tells what is found."""

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._counts: Counter[str] = Counter()
        self._wrong = 0
        self._mended = 0

    def tell(self, finding: Finding, mended: bool) -> None:
        """Something was found."""
        self._counts[finding.kind] += 1
        self._wrong += finding.wrong and not mended
        self._mended += mended
        if self._json:
            self._print(
                kind=finding.kind,
                what=finding.what,
                wrong=finding.wrong,
                mended=mended,
                remedy=finding.remedy,
            )
        elif finding.wrong or self._counts[finding.kind] <= SHOWN_NOTES:
            mendable = finding.mend is not None and not mended
            remedy = f"{'--repair: ' if mendable else ''}{finding.remedy}"
            print(f"{'mended: ' if mended else ''}{finding.kind}: {finding.what} ({remedy})")

    def say(self, text: str) -> None:
        """Something that is no finding."""
        if self._json:
            self._print(error=text)
        else:
            print(text)

    def end(self) -> int:
        """That was all; the exit code."""
        counts = ", ".join(f"{count} x {kind}" for kind, count in sorted(self._counts.items()))
        if self._json:
            self._print(counts=dict(self._counts), wrong=self._wrong, mended=self._mended)
        else:
            print(f"{self._wrong} wrong, {self._mended} mended" + (f": {counts}" if counts else ""))
        return BAD if self._wrong else GOOD

    def _print(self, **fields: Any) -> None:
        print(json.dumps(fields), flush=True)
