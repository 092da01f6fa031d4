"""What every reporter has to do: a test class for pytest and pytest-twisted.

Inherit from :class:`ReporterContract` and give it a ``reporter`` fixture, and a ``breaking`` one if
what it tells can be made to refuse::

    class TestMyReporter(ReporterContract):
        @pytest.fixture
        def reporter(self, server):
            return MyReporter(server.url)

        @pytest.fixture
        def breaking(self, server):
            return server.refuse  # called with True and with False

May import the interfaces, pytest and pytest-twisted.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import pytest
import pytest_twisted  # type: ignore[import-untyped]
from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from ...finishing import deferred
from ...interfaces import (
    FailureSeen,
    IEventReporter,
    IFailureReporter,
    IRecordReporter,
    IReporter,
    IRequestReporter,
    Patience,
    RecordSeen,
    RequestSeen,
)
from ...model.descriptors import OCI_MANIFEST, OCTET_STREAM
from ...model.digests import Digest
from ...model.events import Event, EventAction, LoggedEvent, Origin
from ...model.names import RepositoryName, Tag

F = TypeVar("F", bound=Callable[..., Any])

PATIENCE = 60.0
"""Seconds that a reporter may take for anything."""

STREAMS = (IEventReporter, IRequestReporter, IFailureReporter, IRecordReporter)

NAME = RepositoryName("team/app")
DIGEST = Digest.of(b"content", "sha256")
ORIGIN = Origin("f" * 16, "[2001:db8::1]:5000", "registry.example", "PUT", "agent/1 <ü>", "älice")

EVENTS = (
    Event(EventAction.PUSH, NAME, DIGEST, OCTET_STREAM, 2**40, origin=ORIGIN),
    Event(EventAction.PUSH, NAME, DIGEST, OCI_MANIFEST, 500, Tag("latest"), origin=ORIGIN),
    Event(EventAction.PULL, NAME, DIGEST, OCI_MANIFEST, 500, Tag("latest")),
    Event(EventAction.PULL, NAME, DIGEST, OCTET_STREAM, 0),
    Event(EventAction.MOUNT, NAME, DIGEST, OCTET_STREAM, 7, source=RepositoryName("b")),
    Event(EventAction.DELETE, NAME, DIGEST),
    Event(EventAction.DELETE, NAME, tag=Tag("v" * 128)),
    Event(EventAction.DELETE, RepositoryName("a" * 255)),
)
"""One of each kind."""


def asynchronous(test: F) -> F:
    """Let pytest run a coroutine."""
    return cast(F, pytest_twisted.ensureDeferred(test))


def logged(event: Event, position: int = 1) -> LoggedEvent:
    """An event as the log gives it."""
    registry = uuid.UUID(int=1)
    return LoggedEvent(
        str(uuid.uuid5(registry, str(position))), position, 1.7e9, event, str(registry)
    )


async def within(work: Awaitable[None], patience: float = PATIENCE) -> None:
    """Wait for something, but not for ever."""
    from twisted.internet import reactor

    await deferred(work).addTimeout(patience, cast(Any, reactor))


class ReporterContract:
    """The contract; what a stream is for is skipped for reporters that do not want it."""

    @pytest.fixture
    def reporter(self) -> Any:
        """A reporter that is started and whose other side takes everything."""
        raise NotImplementedError

    @pytest.fixture
    def breaking(self) -> Callable[[bool], None] | None:
        """Makes the other side refuse, and take again; None if nothing can refuse."""
        return None

    def test_it_is_a_reporter(self, reporter: Any) -> None:
        provided = [stream for stream in STREAMS if stream.providedBy(reporter)]
        assert provided, "it provides none of the interfaces of streams"
        assert IReporter.providedBy(reporter)
        for stream in provided:
            verifyObject(stream, reporter)

    # --- events ------------------------------------------------------------------------------

    def test_what_it_says_of_itself(self, reporter: Any) -> None:
        require(IEventReporter, reporter)
        assert isinstance(reporter.concurrency, int)
        assert reporter.concurrency > 0
        for name in ("ordered", "references", "pulls"):
            assert isinstance(getattr(reporter, name), bool), name
        patience = reporter.patience
        assert isinstance(patience, Patience)
        assert patience.threshold > 0
        assert patience.pause > 0
        assert all(seconds >= 0 for seconds in patience.schedule)

    def test_what_it_wants(self, reporter: Any) -> None:
        """Always the same; and no pulls if it says that it wants none."""
        require(IEventReporter, reporter)
        for event in EVENTS:
            wanted = reporter.wants(event)
            assert isinstance(wanted, bool)
            assert all(reporter.wants(evolve(event)) is wanted for _ in range(3))
            assert reporter.pulls or event.action is not EventAction.PULL or not wanted

    @asynchronous
    async def test_every_event(self, reporter: Any) -> None:
        require(IEventReporter, reporter)
        for position, event in enumerate(EVENTS):
            if reporter.wants(event):
                await within(reporter.report(logged(event, position)))

    @asynchronous
    async def test_an_event_may_come_again(self, reporter: Any) -> None:
        require(IEventReporter, reporter)
        for _ in range(2):
            await within(reporter.report(logged(wanted(reporter))))

    @asynchronous
    async def test_references(self, reporter: Any) -> None:
        """With whatever a manifest may hold in the place of a descriptor."""
        require(IEventReporter, reporter)
        event = logged(wanted(reporter))
        descriptor = {"mediaType": "x/y", "digest": DIGEST, "size": 5, "annotations": {"a": "<ü>"}}
        strange: dict[str, Any] = {
            "mediaType": 5,
            "digest": None,
            "size": "much",
            "urls": {},
            "more": [{}],
        }
        await within(reporter.report(evolve(event, references=[descriptor, strange, {}])))

    @asynchronous
    async def test_many_at_a_time(self, reporter: Any) -> None:
        require(IEventReporter, reporter)
        event = wanted(reporter)
        running = [
            deferred(reporter.report(logged(event, position)))
            for position in range(reporter.concurrency)
        ]
        for each in running:
            await within(each)

    @asynchronous
    async def test_what_is_refused_is_told(
        self, reporter: Any, breaking: Callable[[bool], None] | None
    ) -> None:
        """By an error with a text; and it goes on when the other side is well again."""
        require(IEventReporter, reporter)
        if breaking is None:
            pytest.skip("nothing can refuse")
        event = logged(wanted(reporter))
        breaking(True)
        for _ in range(3):
            with pytest.raises(Exception) as caught:  # noqa: PT011
                await within(reporter.report(event))
            assert str(caught.value)
        breaking(False)
        await within(reporter.report(event))

    @asynchronous
    async def test_it_may_be_cancelled(self, reporter: Any) -> None:
        """And goes on."""
        require(IEventReporter, reporter)
        event = logged(wanted(reporter))
        running: Deferred[None] = deferred(reporter.report(event))
        running.cancel()

        def cancelled(failure: Failure) -> None:
            failure.trap(CancelledError, Exception)

        await within(running.addErrback(cancelled))
        await within(reporter.report(event))

    # --- best effort -------------------------------------------------------------------------

    @asynchronous
    async def test_requests(self, reporter: Any) -> None:
        require(IRequestReporter, reporter)
        seen = [
            RequestSeen(1.7e9, "id", route, method, status, 0.001, 2**40, 0, "anonymous")
            for route in ("manifest", "blob", "")
            for method in ("GET", "ODD")
            for status in (200, 404, 499, 500)
        ]
        await within(reporter.requests(seen))
        await within(reporter.requests([]))

    @asynchronous
    async def test_failures(self, reporter: Any) -> None:
        require(IFailureReporter, reporter)
        try:
            try:
                raise ValueError("the cause, ünder")
            except ValueError as error:
                raise RuntimeError("the failure") from error
        except RuntimeError:
            raised = Failure()
        empty = Failure(LookupError())
        seen = [FailureSeen(1.7e9, "", "", "text", each) for each in (raised, empty)]
        await within(reporter.failures(seen))

    @asynchronous
    async def test_records(self, reporter: Any) -> None:
        require(IRecordReporter, reporter)
        levels = ("debug", "info", "warn", "error", "critical")
        records = [
            RecordSeen(1.7e9, level, "txregistry", "a\nb ü", "id", {"a": 1, "b": "c"})
            for level in levels
        ]
        await within(reporter.records(records * 100))


def require(stream: Any, reporter: Any) -> None:
    """Skip a test for reporters that do not want a stream."""
    if not stream.providedBy(reporter):
        pytest.skip(f"it provides no {stream.__name__}")


def wanted(reporter: Any) -> Event:
    """An event that it wants."""
    return next(event for event in EVENTS if reporter.wants(event))
