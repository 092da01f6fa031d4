"""How long it takes to delete one of many tags, and to be told what that would mean.

``python tests/benchmark/deletions.py --tags 20000`` makes a repository with that many tags, each of
an image of its own, and deletes a hundred of them in each way, one after the other. Everything is
printed; nothing is asserted.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from collecting import fill
from running import running
from wire import Client

HERE = "/txregistry/v1/repositories/big"
WAYS = {
    "DELETE of the specification": ("DELETE", "/v2/big/manifests/t{}"),
    "impact of a tag": ("GET", f"{HERE}/-/tags/t{{}}/impact"),
    "DELETE of a tag": ("DELETE", f"{HERE}/-/tags/t{{}}"),
    "impact of an image": ("GET", f"{HERE}/-/images/t{{}}/impact"),
    "DELETE of an image": ("DELETE", f"{HERE}/-/images/t{{}}"),
}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tags", type=int, default=20_000)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--directory", type=Path)
    chosen = parser.parse_args()
    with TemporaryDirectory(prefix="txregistry-deletions-", dir=chosen.directory) as place:
        fill(Path(place) / "storage", 2 * chosen.tags, chosen.tags)
        with running(Path(place), settings={"gc": {"enabled": False}}) as registry:
            client = Client(registry)
            number = 0
            for what, (method, path) in WAYS.items():
                times = []
                for _ in range(chosen.times):
                    number += 1
                    began = time.perf_counter()
                    reply = client.call(method, path.format(number))
                    times.append(time.perf_counter() - began)
                    assert reply.status in (200, 202), reply.body
                print(told(what, times), flush=True)
            began = time.perf_counter()
            reply = client.call("GET", f"{HERE}/-/impact")
            assert reply.status == 200, reply.body
            print(f"impact of the repository: {time.perf_counter() - began:.2f} s")
            client.close()


def told(what: str, times: list[float]) -> str:
    """The median, and what only a tenth exceeds."""
    times.sort()
    middle, most = times[len(times) // 2], times[len(times) * 9 // 10]
    return f"{what}: median {middle * 1000:.1f} ms, p90 {most * 1000:.1f} ms"


if __name__ == "__main__":
    main()
