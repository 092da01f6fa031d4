"""Health checks: when they begin to fail, what each of them finds, what follows."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from txregistry.health import ANYTHING, BY_HAND, OFF, STORAGE, Check, Health
from txregistry.shared import SharedFlags


@define
class Thing:
    """What is looked at."""

    broken: bool = False
    looks: int = 0

    async def probe(self) -> None:
        """Whether it works."""
        self.looks += 1
        if self.broken:
            raise OSError("it is broken")


@define
class Scene:
    """Two checks of things, made by a clock."""

    clock: Clock = field(factory=Clock)
    flags: SharedFlags = field(factory=SharedFlags)
    storage: Thing = field(factory=Thing)
    other: Thing = field(factory=Thing)
    health: Health = field(init=False)

    def __attrs_post_init__(self) -> None:
        checks = [
            Check("storage", self.storage.probe, 10, 3, flag=STORAGE),
            Check("other", self.other.probe, 7, 1),
        ]
        self.health = Health(self.clock, checks, self.flags)
        self.health.start()

    def told(self) -> tuple[bool, bool, bool]:
        """What other processes see."""
        return self.flags[STORAGE], self.flags[ANYTHING], self.flags[OFF]


@pytest.fixture
def scene() -> Scene:
    """Checks that have just begun."""
    return Scene()


def test_a_check_fails_after_several_failures_in_a_row(scene: Scene) -> None:
    assert (scene.storage.looks, scene.other.looks) == (1, 1)
    scene.storage.broken = True
    for _ in range(2):
        scene.clock.advance(10)
        assert scene.health.failing() == {}
    scene.storage.broken = False
    scene.clock.advance(10)
    scene.storage.broken = True
    for _ in range(2):
        scene.clock.advance(10)
        assert scene.told() == (False, False, False)
    scene.clock.advance(10)
    assert scene.health.failing() == {"storage": "it is broken"}
    assert scene.told() == (True, True, False)
    scene.storage.broken = False
    scene.clock.advance(10)
    assert (scene.health.failing(), scene.told()) == ({}, (False, False, False))


def test_other_checks_do_not_concern_the_storage(scene: Scene) -> None:
    scene.other.broken = True
    scene.clock.advance(7)
    assert scene.told() == (False, True, False)
    scene.health.stop()
    assert not scene.clock.getDelayedCalls()


def test_by_hand(scene: Scene) -> None:
    scene.health.switch(True)
    assert scene.health.failing() == {BY_HAND: "switched off by hand"}
    assert scene.told() == (False, False, True)
    # A process that takes over this duty finds it so.
    assert Health(scene.clock, (), scene.flags).failing() == scene.health.failing()
    scene.health.switch(False)
    assert scene.health.failing() == {}


def test_what_does_not_answer_is_given_up() -> None:
    clock, waiting = Clock(), []

    async def probe() -> None:
        waiting.append(Deferred())
        await waiting[-1]

    health = Health(clock, [Check("hung", probe, 10, 2, timeout=3)], SharedFlags())
    health.start()
    clock.pump([10, 3, 10, 3])
    assert health.failing() == {"hung": "no answer within 3 s"} or "hung" in health.failing()
    assert len(waiting) > 1


def test_looks_do_not_overlap() -> None:
    clock, waiting = Clock(), []

    def probe() -> Any:
        waiting.append(Deferred())
        return waiting[-1]

    Health(clock, [Check("slow", probe, 1, timeout=60)], SharedFlags()).start()
    clock.pump([1, 1, 1])
    assert len(waiting) == 1
