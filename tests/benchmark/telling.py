"""How much memory reporters take whose services hang, and what telling one request costs.

``python tests/benchmark/telling.py --requests 200000`` offers as many requests, each another one,
to the reporter to New Relic and to OpenTelemetry's spans, whose services take connections and never
answer. It notes as many pulls, which are written to a log on disk. Everything is printed; nothing
is asserted.
"""

from __future__ import annotations

import argparse
import socket
import sys
import time
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from attrs import frozen

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]

from twisted.internet.task import deferLater, react  # noqa: E402

from txregistry.log import Access  # noqa: E402
from txregistry.metadata.event_log import SqliteEventLog  # noqa: E402
from txregistry.metadata.sqlite import SqliteMetadata  # noqa: E402
from txregistry.model.digests import Digest  # noqa: E402
from txregistry.model.events import Pulled  # noqa: E402
from txregistry.model.names import RepositoryName, Tag  # noqa: E402
from txregistry.reporters.dispatcher import Stream  # noqa: E402
from txregistry.reporters.newrelic import NewRelic  # noqa: E402
from txregistry.reporters.newrelic_maker import Account, NewRelicSettings  # noqa: E402
from txregistry.reporters.observing import Watcher  # noqa: E402
from txregistry.reporters.otlp_settings import Export  # noqa: E402
from txregistry.reporters.pulls import Pulls  # noqa: E402
from txregistry.reporters.sampling import SAMPLERS  # noqa: E402
from txregistry.reporters.tracing import Shown, Traces  # noqa: E402
from txregistry.world import StillWorld, World  # noqa: E402

ROUND = 5000
TYPE = "application/vnd.oci.image.manifest.v1+json"


@frozen
class Found:
    """Bytes at most, and at the end; requests that were dropped; seconds for each request."""

    peak: int
    last: int
    dropped: int
    each: float


def access(number: int) -> Access:
    """A request, another one each time, about as long as they are."""
    return Access(
        time.time(),
        f"request{number:08}",
        f"192.0.2.{number % 250}",
        "GET",
        f"/v2/team{number % 1000}/app/manifests/sha256:{number:064x}",
        "HTTP/1.1",
        200 + number % 300,
        1000 + number,
        0,
        0.001,
        f"docker/27.{number} go/go1.22 git-commit/abcdef0 kernel/6.8 os/linux arch/amd64",
        "registry.example",
        f"robot{number}",
        "",
        ("manifest", "blob", "tags")[number % 3],
    )


async def told(reactor: Any, requests: int, traced: bool) -> Found:
    """Offer requests to reporters whose services hang.

    :param traced: whether memory is looked at, which makes everything slow.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        world = StillWorld(reactor, Path("/nowhere"))
        settings = NewRelicSettings(interval=1.0, samples=2000)
        newrelic = NewRelic(settings, Account("key", url + "/metrics", url + "/events"), world)
        spans = Traces(Export(url, {}, 10.0), SAMPLERS["always_on"](1.0), {}, Shown({}), world)
        stream = Stream("newrelic", newrelic.requests, reactor)
        watcher = Watcher(reactor, [stream])
        watcher.traces = spans
        await newrelic.start()
        if traced:
            tracemalloc.start()
        seconds = 0.0
        for first in range(0, requests, ROUND):
            began = time.perf_counter()
            for number in range(first, min(requests, first + ROUND)):
                watcher.request(access(number), "")
            seconds += time.perf_counter() - began
            await deferLater(reactor, 0.06, lambda: None)
        last, peak = tracemalloc.get_traced_memory() if traced else (0, 0)
        if traced:
            tracemalloc.stop()
        dropped = stream.dropped + spans.stream.dropped
    # Nobody listens any more, so that nothing waits at the end.
    await newrelic.stop()
    await stream.stop()
    await spans.stop()
    return Found(peak, last, dropped, seconds / requests)


async def noted(reactor: Any, pulls: int) -> tuple[float, float]:
    """Note pulls, as the way of each request does.

    :return: seconds that it takes on that way for each, and until it is written down, in which a
        thread is at work.
    """
    with TemporaryDirectory(prefix="txregistry-telling-") as place:
        world = World(reactor, Path(place))
        world.start()
        metadata = SqliteMetadata(Path(place) / "metadata.sqlite3", world)
        await metadata.start()
        log = SqliteEventLog(metadata)
        kept = Pulls(log, reactor, lambda event: True)
        digest = Digest.of(b"x")
        pulled = Pulled(RepositoryName("team/app"), digest, TYPE, 1234, Tag("v1"))
        seconds, started = 0.0, time.perf_counter()
        for first in range(0, pulls, ROUND):
            began = time.perf_counter()
            for number in range(first, min(pulls, first + ROUND)):
                kept.note(
                    pulled,
                    f"request{number:08}",
                    "192.0.2.1:40000",
                    "registry.example",
                    "GET",
                    "docker/27.1 go/go1.22 git-commit/abcdef0 kernel/6.8 os/linux arch/amd64",
                    "robot",
                )
            seconds += time.perf_counter() - began
            while log.last() < min(pulls, first + ROUND):
                await deferLater(reactor, 0.01, lambda: None)
        whole = time.perf_counter() - started
        await kept.stop()
        await metadata.stop()
        world.stop()
    return seconds / pulls, whole / pulls


async def measure(reactor: Any, requests: int) -> None:
    """Measure, and print."""
    found = await told(reactor, requests, True)
    print(f"{requests} requests, of which {found.dropped} were dropped")
    print(f"memory at most: {found.peak / 1e6:.1f} MB, at the end: {found.last / 1e6:.1f} MB")
    found = await told(reactor, requests, False)
    print(f"time for each: {found.each * 1e6:.1f} us, of which making it up is a part")
    way, written = await noted(reactor, requests)
    print(f"a pull is noted in {way * 1e6:.2f} us, and written down in {written * 1e6:.1f} us")


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200_000)
    options = parser.parse_args()
    from twisted.internet.defer import ensureDeferred

    react(lambda reactor: ensureDeferred(measure(reactor, options.requests)))


if __name__ == "__main__":
    main()
