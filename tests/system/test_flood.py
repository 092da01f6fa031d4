"""A05: floods of wrong logins from one address, and a client at another one that does not notice.

What the client has felt is printed, and not judged: it depends on what else the machine does.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bcrypt
from accounts import PASSWORD, basic
from running import Running, running
from wire import Client, digest_of

SECONDS = float(os.environ.get("FLOOD_SECONDS", "3"))
SCRIPT = Path(__file__).parents[1] / "flooding.py"
ELSEWHERE = "127.0.0.66"


@contextmanager
def flood(registry: Running, connections: int, found: Counter[str]) -> Iterator[None]:
    """Wrong logins for as long as the block lasts."""
    line = [sys.executable, str(SCRIPT), str(registry.port), str(connections), ELSEWHERE]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield
        told, _ = process.communicate()
    assert process.returncode == 0
    found.update(json.loads(told))


def test_a_flood_of_wrong_logins(tmp_path: Path) -> None:
    # As expensive as in real files, where there is time for it.
    cost = 10 if SECONDS >= 10 else 8
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(cost)).decode()
    names = ["alice", "canary", *(f"late{number}" for number in range(5))]
    accounts = tmp_path / "accounts"
    accounts.write_text("".join(f"{name}:{hashed}\n" for name in names))
    # Few, so that most of the flood is refused at once.
    failures = {"peraddress": 20}
    settings = {"auth": {"htpasswd": {"path": str(accounts)}, "failures": failures}}
    answers: Counter[str] = Counter()
    with running(tmp_path / "registry", settings=settings) as registry:
        client = Client(registry)
        body = b'{"schemaVersion":2}'
        digest = digest_of(body)
        target = f"/v2/app/blobs/uploads/?digest={digest}"
        assert client.call("POST", target, body, basic("canary")).status == 201
        pull = f"/v2/app/blobs/{digest}"
        times: list[float] = []
        logins: list[float] = []
        late = iter(names[2:])
        with flood(registry, 200, answers):
            began = time.monotonic()
            while (now := time.monotonic()) < began + SECONDS or len(logins) < 5:
                status = client.call("GET", pull, headers=basic("canary")).status
                times.append(time.monotonic() - now)
                assert status == 200
                if len(logins) < 5 and now > began + SECONDS * len(logins) / 5:
                    # A login that was not seen before has to be hashed.
                    now = time.monotonic()
                    status = client.call("GET", pull, headers=basic(next(late))).status
                    logins.append(time.monotonic() - now)
                    assert status == 200
        client.close()
        assert "Traceback" not in registry.log()
    # No more guesses were looked at than the limits allow.
    minutes = SECONDS // 60 + 2
    assert 0 < answers["401"] <= 20 * minutes
    assert set(answers) <= {"401", "429"}
    p99 = statistics.quantiles(times, n=100)[98]
    print(
        f"{len(times)} pulls beside {sum(answers.values())} wrong logins in {SECONDS:g} s: "
        f"median {statistics.median(times) * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms, "
        f"most {max(times) * 1000:.1f} ms; new logins {max(logins) * 1000:.0f} ms at most"
    )
