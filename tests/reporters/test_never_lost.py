"""No event is lost, whenever the process is killed and however its receivers behave.

``WEBHOOK_KILLS`` is the number of times that the registry is killed, ``WEBHOOK_DOWN`` for how many
seconds its receiver is away once.
"""

from __future__ import annotations

import os
import random
import threading
import time
from http.client import HTTPException
from pathlib import Path

from receiving import Received, distinct, endless, receiving
from running import free_port, running
from wire import Client

KILLS = int(os.environ.get("WEBHOOK_KILLS", "4"))
DOWN = float(os.environ.get("WEBHOOK_DOWN", "0"))
PUSHES_PER_KILL = 20


def test_never_lost(tmp_path: Path) -> None:
    choose = random.Random(11)
    acknowledged: list[str] = []

    def moody(received: Received, handler: object) -> int:
        return choose.choices([200, 500, 403], [20, 1, 1])[0]

    with (
        receiving(moody) as receiver,
        receiving(lambda *_: time.sleep(30) or 0) as tarpit,
        receiving(lambda _, handler: endless(handler)) as talker,
    ):
        # The last pause makes the schedule longer than the receiver is away.
        retries = ["50ms"] * 100 + [f"{60 + DOWN:g}s"]
        quick = {"timeout": "2s", "backoff": "50ms", "retries": retries}
        endpoints = [
            {"name": "one", "url": receiver.url, **quick},
            {"name": "tarpit", "url": tarpit.url, **quick},
            {"name": "talker", "url": talker.url, **quick},
            {"name": "dead", "url": f"http://127.0.0.1:{free_port()}/", **quick},
        ]
        with running(tmp_path, settings={"notifications": {"endpoints": endpoints}}) as registry:
            for number in range(KILLS):
                down = number % 2 == 1
                if down:
                    receiver.stop()
                process = registry.process
                assert process is not None
                killer = threading.Timer(choose.uniform(0.0, 0.1), process.kill)
                last = choose.randrange(1, PUSHES_PER_KILL)
                client = Client(registry)
                try:
                    for push in range(PUSHES_PER_KILL + last):
                        if push == last:
                            killer.start()
                        name, tag = f"app{push % 3}", f"v{number}-{push}"
                        client.pushed(name, tag)
                        acknowledged.append(f"{name}:{tag}")
                except (OSError, HTTPException):
                    pass
                client.close()
                killer.join()
                process.wait()
                if number == KILLS // 2 | 1 and DOWN:
                    registry.start()
                    time.sleep(DOWN)
                    receiver.start()
                    continue
                if down:
                    receiver.start()
                registry.start()

            def told() -> list[str]:
                found: dict[str, None] = {}
                for each in list(receiver.taken):
                    target = each.event["target"]
                    if "tag" in target:
                        found[f"{target['repository']}:{target['tag']}"] = None
                return list(found)

            receiver.wait(lambda _: set(told()) >= set(acknowledged), 60)
        for name in ("app0", "app1", "app2"):
            mine = [each for each in told() if each.startswith(name) and each in acknowledged]
            assert mine == [each for each in acknowledged if each.startswith(name)]
        taken, different = len(receiver.taken), len(distinct(receiver.taken))
        print(f"{len(acknowledged)} pushes, {KILLS} kills: {different} events, {taken} deliveries")
        assert len(distinct(talker.seen)) > 0
        assert taken - different <= 4 * KILLS, "twice come those that were on their way"
        if KILLS >= 50:
            assert taken - different <= 0.05 * different
