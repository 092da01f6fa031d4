"""``txregistry events``: the log of events, and how far each endpoint has come.

It works on the database, beside a server or without one. May import everything.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ..finishing import deferred
from ..interfaces import Cursor, StorageError
from ..model.events import LoggedEvent
from ..model.globs import repository_glob
from ..tap import load_or_complain
from . import BAD, GOOD

T = TypeVar("T")

PAGE = 500
INTERVAL = 0.5
"""Seconds between two looks for new events."""

DEAD_SHOWN = 20


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    command = commands.add_parser("events", help="the log of events, and webhooks")
    below = command.add_subparsers(dest="events", required=True, metavar="COMMAND")
    tail = _add(below, "tail", show, "print events, one JSON object a line, as webhooks tell them")
    tail.add_argument("-f", "--follow", action="store_true", help="go on with what happens")
    tail.add_argument("-n", "--number", type=int, default=10, help="how many of the last ones")
    tail.add_argument("--after", type=int, help="those behind a position instead")
    endpoints = _add(below, "endpoints", tell, "tell how far each endpoint has come")
    endpoints.add_argument("--json", action="store_true", help="tell it as JSON")
    replay = _add(below, "replay", repeat, "deliver events of the log once more")
    replay.add_argument("name", help="the name of the endpoint")
    replay.add_argument("--since", required=True, help="a time such as 2026-01-31T12:00, or 2h")
    replay.add_argument("--repository", default="", help="a glob of repositories")
    again = _add(below, "retry", retry, "try everything that an endpoint did not take, now")
    again.add_argument("name", help="the name of the endpoint")


def _add(
    below: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    text: str,
) -> argparse.ArgumentParser:
    one = below.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    one.add_argument("--config", type=Path, help="the configuration file")
    one.set_defaults(run=run)
    return one


@contextmanager
def _opened(chosen: argparse.Namespace) -> Iterator[Any]:
    """The log of events, and the settings.

    :raises ValueError: there is no database.
    :raises UsageError: the data belong to another user.
    """
    from ..assembly import database_path
    from ..metadata.event_log import SqliteEventLog
    from ..metadata.sqlite import SqliteMetadata
    from ..world import StillWorld
    from .offline import check_owner

    loaded = load_or_complain(chosen.config)
    check_owner(loaded)
    settings = loaded.settings
    path = database_path(settings)
    if path is None or not path.exists():
        raise ValueError("there is no database yet: the registry has not served")
    metadata = SqliteMetadata(path, StillWorld(None, path.parent))
    wait(metadata.start())
    try:
        yield SqliteEventLog(metadata), settings
    finally:
        wait(metadata.stop())


def wait(work: Awaitable[T]) -> T:
    """The result of work that never waits, since every call runs in place."""
    running: Deferred[T] = deferred(work)
    results: list[Any] = []
    running.addBoth(results.append)
    if isinstance(results[0], Failure):
        results[0].raiseException()
    result: T = results[0]
    return result


def _complaining(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """A command that tells in a line what does not work."""

    def told(chosen: argparse.Namespace) -> int:
        try:
            return run(chosen)
        except (ValueError, OSError, StorageError) as error:
            print(f"txregistry: {error}", file=sys.stderr)
            return BAD
        except KeyboardInterrupt:
            return GOOD

    return told


@_complaining
def show(chosen: argparse.Namespace) -> int:
    """Print events."""
    from ..reporters.envelope import Envelope
    from ..reporting import place_of

    with _opened(chosen) as (log, settings):
        envelope = Envelope("v1", place_of(settings))
        after = chosen.after if chosen.after is not None else log.last() - chosen.number
        while True:
            events: Sequence[LoggedEvent] = wait(log.read(after, PAGE))
            for event in events:
                line = {"position": event.position, **envelope.event(event)}
                print(json.dumps(line, ensure_ascii=False), flush=True)
                after = event.position
            if events:
                continue
            if not chosen.follow:
                return GOOD
            time.sleep(INTERVAL)


@_complaining
def tell(chosen: argparse.Namespace) -> int:
    """Tell how far each endpoint has come."""
    from ..reporters.relay import lag

    with _opened(chosen) as (log, _):
        last, now = log.last(), time.time()
        found = wait(log.counted())
        lines = [_line(cursor, last, wait(lag(log, cursor, now))) for cursor in found]
        if chosen.json:
            print(json.dumps(lines, indent=2))
            return GOOD
        if not lines:
            print("no endpoint has been served yet")
        for line in lines:
            text = f"{line['name']}: {line['behind']} behind"
            if line["behind"]:
                text += f", the oldest for {line['lag']:.1f} s"
            text += f", {line['waiting']} refused and waiting, {line['dead']} dead letters"
            if line["dropped"]:
                text += f", {line['dropped']} missed"
            if line["trouble"]:
                text += f"; it is not getting on: {line['trouble']}"
            print(text)
        for cursor in found:
            for each in wait(log.dead(cursor.name, DEAD_SHOWN)) if cursor.dead else ():
                print(
                    f"  dead letter {each.event.id}: {each.event.event.action.value} in "
                    f"{each.event.event.repository}, {each.attempts} attempts: {each.trouble}"
                )
    return GOOD


def _line(cursor: Cursor, last: int, seconds: float) -> dict[str, Any]:
    return {
        "name": cursor.name.partition("/")[2],
        "kind": cursor.name.partition("/")[0],
        "position": cursor.position,
        "behind": max(0, last - cursor.position),
        "lag": round(seconds, 3),
        "waiting": cursor.waiting,
        "dead": cursor.dead,
        "dropped": cursor.dropped,
        "trouble": cursor.trouble,
    }


@_complaining
def repeat(chosen: argparse.Namespace) -> int:
    """Deliver events once more."""
    since = _moment(chosen.since)
    glob = repository_glob(chosen.repository) if chosen.repository else None
    with _opened(chosen) as (log, settings):
        cursor = _named(log, chosen.name)
        wants = _wants(settings, chosen.name)
        count = after = 0
        while events := wait(log.read(after, PAGE)):
            after = events[-1].position
            found = [
                (event, event.event.repository)
                for event in events
                if event.at >= since
                and event.position <= cursor.position
                and (glob is None or glob.fullmatch(event.event.repository))
                and wants(event.event)
            ]
            if found:
                wait(log.replay(cursor.name, found))
                count += len(found)
        print(f"{count} events are delivered to {chosen.name} once more")
    return GOOD


@_complaining
def retry(chosen: argparse.Namespace) -> int:
    """Try what was refused."""
    with _opened(chosen) as (log, _):
        count = wait(log.revive(_named(log, chosen.name).name))
        print(f"{count} events are tried again")
    return GOOD


def _named(log: Any, name: str) -> Cursor:
    """The cursor of an endpoint or a reporter.

    :raises ValueError: there is none.
    """
    found: list[Cursor] = list(log.cursors())
    for cursor in found:
        if name in (cursor.name, cursor.name.partition("/")[2]):
            return cursor
    known = ", ".join(cursor.name.partition("/")[2] for cursor in found) or "none"
    raise ValueError(f"no endpoint {name} has been served; known are: {known}")


def _wants(settings: Any, name: str) -> Callable[[Any], bool]:
    """What an endpoint wants to be told; reporters are asked when they are told."""
    from ..reporters.webhook import selection_of

    for endpoint in settings.notifications.endpoints:
        if endpoint.name == name:
            return selection_of(endpoint).wants
    return lambda event: True


def _moment(text: str) -> float:
    """A time of the clock, or a time ago.

    :raises ValueError: it is neither.
    """
    from ..config.structuring import Unfit, read_duration

    try:
        return time.time() - read_duration(text)
    except Unfit:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is no time: write 2026-01-31T12:00, or 2h for two hours ago"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
