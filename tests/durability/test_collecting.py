"""Garbage is collected all the time while clients push, mount, refer, pull and delete (G02).

What a client was told to be there within the lease may be referred to; what was acknowledged can be
pulled; in the end the storage holds what is held, and nothing else. The process is killed in
between. ``DURABILITY=nightly`` takes half an hour.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from pathlib import Path
from typing import Any

from attrs import define, field
from running import Running, running
from trees import stored_in
from wire import OCI_INDEX, OCI_MANIFEST, Client, digest_of

NIGHTLY = os.environ.get("DURABILITY") == "nightly"
SECONDS = 1800.0 if NIGHTLY else 8.0
KILLS = 30 if NIGHTLY else 1
CLIENTS = 6
LEASE = 5.0
HASTE = LEASE * 0.8
"""A client that takes longer than this from a promise to the manifest may not rely on it."""

CONFIGURATION = {
    "gc": {"interval": "1s", "delay": "1s", "lease": f"{LEASE}s", "grace": "1s", "sweep": "3s"},
    "http": {"limits": {"connectionsperaddress": 0}},
    "storage": {"maintenance": {"uploadpurging": {"age": "20s", "interval": "5s"}}},
}
POOL = [f"layer {number}".encode() * 50 for number in range(12)]
REPOSITORIES = ["soak/a", "soak/b"]


class Cut(Exception):
    """The process was killed under the client."""


@define(eq=False)
class User:
    """One client: what it has tagged, and what happened to it."""

    client: Client
    number: int
    chance: random.Random
    tags: dict[tuple[str, str], str] = field(factory=dict)
    begun: tuple[str, str] | None = None
    events: int = 0
    late: int = 0

    def call(self, *arguments: Any, **options: Any) -> Any:
        """One request."""
        self.events += 1
        try:
            return self.client.call(*arguments, **options)
        except Exception as error:
            self.client.close()
            raise Cut from error

    def layer(self, name: str) -> dict[str, Any]:
        """A layer that is there: it was, or it is mounted or pushed."""
        data = self.chance.choice(POOL)
        digest = digest_of(data)
        there = {"mediaType": "x/y", "digest": digest, "size": len(data)}
        if self.call("HEAD", f"/v2/{name}/blobs/{digest}").status == 200:
            return there
        source = self.chance.choice(REPOSITORIES)
        started = self.call("POST", f"/v2/{name}/blobs/uploads/?mount={digest}&from={source}", b"")
        if started.status == 202:
            pushed = self.call("PUT", started.location, data, digest=digest)
            assert pushed.status == 201, pushed.body
        else:
            assert started.status == 201, started.body
        return there

    def put(self, name: str, reference: str, document: dict[str, Any], began: float) -> str:
        """Put a manifest; what it needs was promised since a time."""
        body = json.dumps(document).encode()
        kind = {"Content-Type": document["mediaType"]}
        reply = self.call("PUT", f"/v2/{name}/manifests/{reference}", body, kind)
        if reply.status != 201 and time.monotonic() - began > HASTE:
            self.late += 1
            return ""
        assert reply.status == 201, (reply.status, reply.body)
        return digest_of(body)

    def image(self, name: str, **more: Any) -> dict[str, Any]:
        """A manifest whose content is there."""
        layers = [self.layer(name) for _ in range(self.chance.randint(1, 4))]
        extra = {"annotations": {"n": str(self.chance.random())}, **more}
        manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": layers[0]}
        return {**manifest, "layers": layers[1:], **extra}

    def push(self) -> None:
        """An image or an index of two, by a tag of one's own; perhaps with a referrer."""
        name = self.chance.choice(REPOSITORIES)
        tag = f"u{self.number}-{self.chance.randint(0, 5)}"
        self.begun = (name, tag)
        began = time.monotonic()
        if self.chance.random() < 0.3:
            children = []
            for _ in range(2):
                document = self.image(name)
                body = json.dumps(document).encode()
                if not self.put(name, digest_of(body), document, began):
                    return
                children.append(
                    {"mediaType": OCI_MANIFEST, "digest": digest_of(body), "size": len(body)}
                )
            index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}
            digest = self.put(name, tag, index, began)
        else:
            digest = self.put(name, tag, self.image(name), began)
        if not digest:
            return
        self.tags[name, tag] = digest
        if self.chance.random() < 0.3:
            subject = {"mediaType": OCI_MANIFEST, "digest": digest, "size": 1}
            began = time.monotonic()
            document = self.image(name, subject=subject)
            self.put(name, digest_of(json.dumps(document).encode()), document, began)

    def pull(self) -> None:
        """Everything of an image can be had."""
        if not self.tags:
            return
        (name, tag), digest = self.chance.choice(list(self.tags.items()))
        self.whole(name, tag, digest)

    def whole(self, name: str, reference: str, digest: str) -> None:
        """A manifest and all that it refers to."""
        reply = self.call("GET", f"/v2/{name}/manifests/{reference}")
        assert reply.status == 200, (name, reference, reply.status, reply.body)
        assert digest_of(reply.body) == digest
        document = reply.json()
        for child in document.get("manifests", ()):
            self.whole(name, child["digest"], child["digest"])
        for blob in [document["config"], *document["layers"]] if "config" in document else ():
            reply = self.call("GET", f"/v2/{name}/blobs/{blob['digest']}")
            assert reply.status == 200, (name, blob, reply.status)
            assert digest_of(reply.body) == blob["digest"]

    def delete(self) -> None:
        """A tag of one's own goes, or its manifest."""
        if not self.tags:
            return
        (name, tag), digest = self.chance.choice(list(self.tags.items()))
        by_tag = self.chance.random() < 0.7
        del self.tags[name, tag]
        if not by_tag:
            self.tags = {k: v for k, v in self.tags.items() if (k[0], v) != (name, digest)}
        path = f"/v2/{name}/manifests/{tag if by_tag else digest}"
        reply = self.call("DELETE", path)
        assert reply.status in (202, 404), reply.body


@define(eq=False)
class Soak:
    """Clients at work for some time."""

    registry: Running
    users: list[User]
    until: float
    failures: list[BaseException] = field(factory=list)

    def run(self) -> None:
        """Have all of them work until the time is over or the process is killed."""
        threads = [threading.Thread(target=self.work, args=[user]) for user in self.users]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.failures:
            raise self.failures[0]

    def work(self, user: User) -> None:
        try:
            while time.monotonic() < self.until and not self.failures:
                chosen = user.chance.random()
                before = dict(user.tags)
                try:
                    (user.push if chosen < 0.5 else user.pull if chosen < 0.8 else user.delete)()
                except Cut:
                    # Nobody knows what became of the last thing that was begun.
                    user.tags = {
                        key: digest
                        for key, digest in user.tags.items()
                        if before.get(key) == digest and key != user.begun
                    }
                    return
        except BaseException as failure:
            self.failures.append(failure)


def everything(client: Client) -> set[str]:
    """All that tags hold, directly or not, with the referrers."""
    found: set[str] = set()
    for name in REPOSITORIES:
        reply = client.call("GET", f"/v2/{name}/tags/list")
        waiting = list(reply.json().get("tags") or []) if reply.status == 200 else []
        while waiting:
            reference = waiting.pop()
            if reference in found:
                continue
            reply = client.call("GET", f"/v2/{name}/manifests/{reference}")
            assert reply.status == 200, (name, reference, reply.body)
            digest, document = digest_of(reply.body), reply.json()
            found.add(digest)
            waiting += [child["digest"] for child in document.get("manifests", ())]
            if "config" in document:
                blobs = [document["config"], *document["layers"]]
                found.update(blob["digest"] for blob in blobs)
            referrers = client.call("GET", f"/v2/{name}/referrers/{digest}").json()["manifests"]
            waiting += [each["digest"] for each in referrers]
    return found


def wait_for(registry: Running, expected: set[str]) -> None:
    """Wait until the storage holds exactly that."""
    deadline = time.monotonic() + 40
    while stored_in(registry.root) != expected:
        assert time.monotonic() < deadline, (
            f"too much: {sorted(stored_in(registry.root) - expected)[:5]}, "
            f"too little: {sorted(expected - stored_in(registry.root))[:5]}"
        )
        time.sleep(0.2)


def test_collected_all_the_time(tmp_path: Path) -> None:
    with running(tmp_path, settings=CONFIGURATION) as registry:
        soak(registry)


def soak(registry: Running) -> None:
    """Work on a registry, kill it in between, and look at what is left."""
    users = [User(Client(registry), number, random.Random(number)) for number in range(CLIENTS)]
    for round_number in range(KILLS + 1):
        work = Soak(registry, users, time.monotonic() + SECONDS / (KILLS + 1))
        if round_number < KILLS:
            timer = threading.Timer(SECONDS / (KILLS + 1) * 0.9, registry.kill)
            timer.start()
            work.run()
            timer.join()
            registry.start()
        else:
            work.run()
    client = Client(registry)
    for user in users:
        for (name, tag), digest in user.tags.items():
            user.whole(name, tag, digest)
    wait_for(registry, everything(client))
    for name in REPOSITORIES:
        for tag in client.call("GET", f"/v2/{name}/tags/list").json()["tags"] or []:
            assert client.call("DELETE", f"/v2/{name}/manifests/{tag}").status == 202
    wait_for(registry, set())
    events = sum(user.events for user in users)
    print(f"{events} requests, {sum(user.late for user in users)} came too late for their lease")
    assert events > 100
    for user in users:
        user.client.close()
    client.close()
    assert "error.traceback" not in registry.log()
    assert registry.stop() == 0
    checked = registry.check()
    assert checked.returncode == 0, checked.stdout
