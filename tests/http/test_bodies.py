"""Bodies as readers: large pieces from fast clients, soon enough from slow ones, bounded memory."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define, field
from twisted.internet.task import Clock
from zope.interface import implementer

from txregistry.http.bodies import GATHERING, BodyBroken, ClientGone, RequestBody
from txregistry.http.shares import BESIDE, LEAST, Shares
from txregistry.interfaces import IGathering

SHARE = 4 * LEAST


@define
class Scene:
    """A body, what it asked of its connection, and what its reader got."""

    size: int | None = None
    clock: Clock = field(factory=Clock)
    shares: Shares = field(factory=lambda: Shares(SHARE, SHARE))
    wanted: list[bool] = field(factory=list)
    calls: list[str] = field(factory=list)
    got: list[Any] = field(factory=list)
    body: RequestBody = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.body = RequestBody(
            self.size,
            self.shares,
            self.clock,
            self.wanted.append,
            lambda: self.calls.append("first read"),
            lambda: self.calls.append("abandoned"),
        )

    def read(self, limit: int = 10 * SHARE) -> None:
        """Ask for a piece."""
        self.body.read(limit).addBoth(self.got.append)


def test_a_fast_client_gives_whole_shares() -> None:
    scene = Scene()
    scene.read()
    for _ in range(3):
        scene.body.deliver(b"x" * LEAST)
        assert not scene.got
    scene.body.deliver(b"x" * LEAST)
    assert scene.got == [b"x" * SHARE]
    assert not scene.clock.getDelayedCalls()


def test_a_slow_client_is_waited_for_a_while() -> None:
    scene = Scene()
    scene.read()
    scene.body.deliver(b"x" * (LEAST + 1))
    assert not scene.got
    scene.clock.advance(GATHERING)
    assert scene.got == [b"x" * (LEAST + 1)]
    scene.read()
    scene.body.deliver(b"y" * (LEAST - 1))
    scene.clock.advance(GATHERING)
    assert len(scene.got) == 1
    scene.body.deliver(b"y")
    assert scene.got[1:] == [b"y" * LEAST]
    assert not scene.clock.getDelayedCalls()


def test_the_end_is_not_waited_for() -> None:
    scene = Scene(3)
    scene.read()
    scene.body.deliver(b"abc")
    scene.body.finish()
    scene.read()
    assert scene.got == [b"abc", b""]
    assert not scene.clock.getDelayedCalls()


def test_what_arrived_comes_before_the_error() -> None:
    scene = Scene()
    scene.body.deliver(b"abc")
    scene.read()
    scene.body.fail(ClientGone())
    assert scene.got == [b"abc"]
    scene.read()
    scene.read()
    assert [failure.check(ClientGone) for failure in scene.got[1:]] == [ClientGone, ClientGone]
    assert not scene.clock.getDelayedCalls()


def test_an_error_while_nothing_waits() -> None:
    scene = Scene()
    scene.read()
    scene.body.fail(ClientGone())
    assert scene.got[0].check(BodyBroken)
    assert not scene.clock.getDelayedCalls()


def test_receiving_pauses_when_a_share_waits() -> None:
    scene = Scene()
    scene.body.deliver(b"x" * (SHARE - 1))
    assert scene.wanted == []
    scene.body.deliver(b"x")
    assert scene.wanted == [False]
    scene.read()
    assert scene.wanted == [False, True]
    assert scene.got == [b"x" * SHARE]


@pytest.mark.parametrize("limit", [1, LEAST, SHARE - 1])
def test_a_reader_gets_no_more_than_it_asks_for(limit: int) -> None:
    scene = Scene()
    scene.body.deliver(b"ab" * SHARE)
    scene.read(limit)
    scene.read(limit)
    assert b"".join(scene.got) == (b"ab" * SHARE)[: 2 * limit]
    assert [len(piece) for piece in scene.got] == [limit, limit]


def test_pieces_are_not_cut() -> None:
    scene = Scene()
    pieces = [b"a" * (SHARE - 1), b"b" * 10, b"c" * 10]
    for piece in pieces:
        scene.body.deliver(piece)
    scene.read()
    scene.read(1)
    assert scene.got == [pieces[0] + pieces[1], b"c"]


def test_closing() -> None:
    scene = Scene()
    scene.body.deliver(b"abc")
    scene.body.close()
    scene.body.close()
    scene.body.deliver(b"def")
    assert scene.calls == ["abandoned"]
    assert scene.body.received == 6


def test_a_share_is_a_part_of_the_whole() -> None:
    shares = Shares(100 * LEAST, 10 * LEAST)
    assert shares.size == 10 * LEAST
    for _ in range(50):
        shares.enter()
    assert shares.size == 2 * LEAST
    for _ in range(1000):
        shares.enter()
    assert shares.size == LEAST
    for _ in range(1050):
        shares.leave()
    assert shares.size == 10 * LEAST


def test_beside_a_storage_that_gathers_bodies_keep_less() -> None:
    @implementer(IGathering)
    class Gathering:
        pass

    alone = Shares().size
    for driver, size in ((object(), alone), (Gathering(), BESIDE // 4)):
        shares = Shares.beside(driver)
        for _ in range(4):
            shares.enter()
        assert shares.size == size


@pytest.mark.parametrize("end", ["finish", "fail", "discard", "close"])
def test_shares_are_given_back_once(end: str) -> None:
    shares = Shares(SHARE, SHARE)
    scenes = [Scene(shares=shares) for _ in range(2)]
    small = Scene(LEAST, shares=shares)
    assert shares.size == SHARE // 2
    assert (scenes[0].body.share, small.body.share) == (SHARE // 2, 0)
    for scene in [*scenes, small]:
        scene.read()
        ending = getattr(scene.body, end)
        ending(ClientGone()) if end == "fail" else ending()
        scene.body.finish()
        scene.body.discard()
        assert not scene.clock.getDelayedCalls()
    assert shares.size == SHARE
    shares.enter()
    assert shares.size == SHARE
