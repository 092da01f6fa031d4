"""One directory served by CNCF distribution and by us, in turn: drop-in, and back."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from contents import NAMES, everything, fill, indexed
from distribution import Distribution, distribution
from images import blobs, make_layout, run
from lives import wait_for
from running import Running, running
from tools import require_tool
from trees import Tree, into, links_in
from wire import OCI_MANIFEST, Client


def command(registry: Running, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run an operator's command on a registry's configuration."""
    first, *more = arguments
    return subprocess.run(
        [sys.executable, "-m", "txregistry", first, str(registry.configure()), *more],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=registry.directory,
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_there_and_back(tmp_path: Path, workers: int) -> None:
    """Filled there, the same is served here; changed here, the same is served there, and so on."""
    data = tmp_path / "data"
    with distribution(tmp_path / "theirs", data) as theirs:
        fill(theirs)
        before = everything(theirs)
    settings = {"workers": workers, "storage": {"filesystem": {"rootdirectory": str(data)}}}
    with running(tmp_path / "ours", settings=settings) as ours:
        assert everything(ours) == before
        indexed(ours)
        assert everything(ours) == before
        fill(ours, [*NAMES[2:], "new"])
        after = everything(ours)
        assert after["new"][1] == ["1", "2", "again", "all"]
    with distribution(tmp_path / "theirs", data) as theirs:
        assert everything(theirs) == after
        _, _, manifests, words = theirs.collect()
        assert manifests == 0
        assert "error" not in words.lower()
        fill(theirs, ["later", "a"])
        last = everything(theirs)
    # The database of before does not know what happened since.
    registry = Running(tmp_path / "ours", settings=settings)
    done = command(registry, "reindex", "--json")
    assert done.returncode == 0, done.stderr
    progress = json.loads(done.stdout)
    assert (progress["state"], progress["skipped"]) == ("complete", 0)
    with running(tmp_path / "ours", settings=settings) as ours:
        assert everything(ours) == last


def test_garbage_collector(tmp_path: Path) -> None:
    """Over a tree that we wrote it finds exactly what nothing refers to."""
    with running(tmp_path / "ours") as ours:
        client = Client(ours)
        kept = [client.pushed("a/b", "one"), client.pushed("a/b"), client.pushed("ab", "one")]
        gone = client.pushed("a/b", "gone")
        assert client.call("DELETE", f"/v2/a/b/manifests/{gone['digest']}").status == 202
        client.start("a/b")
        client.close()
    theirs = Distribution(tmp_path / "theirs", data=ours.root)
    theirs.directory.mkdir()
    marked, loose, manifests, words = theirs.collect()
    assert (marked, loose, manifests) == (3 * len(kept), 3, 0), words
    assert "error" not in words.lower()


def test_skopeo(tmp_path: Path) -> None:
    """A real image, pushed there and pulled here, and the reverse."""
    skopeo = require_tool("skopeo")
    layout = make_layout(tmp_path, [100_000, 3_000_000])
    data = tmp_path / "data"

    def push(registry: Running, name: str) -> None:
        run(
            *(skopeo, "copy", "--dest-tls-verify=false", f"oci:{layout}:latest"),
            f"docker://{registry.host}/{name}",
        )

    def pull(registry: Running, name: str) -> None:
        target = tmp_path / f"pulled-{registry.port}-{name.replace('/', '-').replace(':', '-')}"
        run(
            *(skopeo, "copy", "--src-tls-verify=false", f"docker://{registry.host}/{name}"),
            f"oci:{target}:latest",
        )
        assert blobs(target) == blobs(layout)

    with distribution(tmp_path / "theirs", data) as theirs:
        push(theirs, "their/image:1")
    settings = {"storage": {"filesystem": {"rootdirectory": str(data)}}}
    with running(tmp_path / "ours", settings=settings) as ours:
        pull(ours, "their/image:1")
        push(ours, "their/image:2")
        push(ours, "our/image:1")
    with distribution(tmp_path / "theirs", data) as theirs:
        for name in ("their/image:1", "their/image:2", "our/image:1"):
            pull(theirs, name)


# --- reading a larger tree -----------------------------------------------------------------------

COUNT = int(os.environ.get("INDEXED_MANIFESTS", "1000"))


@pytest.fixture
def large(tmp_path: Path) -> Iterator[tuple[Running, dict[str, dict[str, str]]]]:
    """A registry beside a tree with many manifests; what each repository's tags point at."""
    registry = Running(tmp_path / "ours")
    registry.directory.mkdir()
    tree = Tree(into(registry.root))
    expected: dict[str, dict[str, str]] = {}
    for number in range(COUNT):
        name = f"team-{number % 7}/app-{number % max(COUNT // 100, 1)}"
        digest = tree.image(name, f"tag-{number}")
        expected.setdefault(name, {})[f"tag-{number}"] = digest
    yield registry, expected
    registry.stop(signal.SIGKILL)


def check_all(registry: Running, expected: dict[str, dict[str, str]], every: int = 50) -> None:
    """Compare lists, and some manifests."""
    client = Client(registry)
    found: list[str] = []
    reply = client.call("GET", "/v2/_catalog", n="1000")
    found += reply.json()["repositories"]
    while "link" in reply.headers:
        reply = client.call("GET", "/v2/_catalog", n="1000", last=found[-1])
        found += reply.json()["repositories"]
    assert found == sorted(expected)
    for name, tags in expected.items():
        assert client.call("GET", f"/v2/{name}/tags/list").json()["tags"] == sorted(tags)
        for tag in list(tags)[::every]:
            reply = client.call("HEAD", f"/v2/{name}/manifests/{tag}")
            assert reply.headers["docker-content-digest"] == tags[tag]
    client.close()


def progress(registry: Running) -> dict[str, Any]:
    """What ``reindex --progress`` says."""
    done = command(registry, "reindex", "--progress", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_many_manifests(large: tuple[Running, dict[str, dict[str, str]]]) -> None:
    """INDEXED_MANIFESTS=100000 is the long form; it prints the time."""
    registry, expected = large
    began = time.monotonic()
    registry.start()
    ready = time.monotonic() - began
    client = Client(registry)
    name = next(iter(expected))
    tag, digest = next(iter(expected[name].items()))
    reply = client.call("HEAD", f"/v2/{name}/manifests/{tag}")
    assert reply.headers["docker-content-digest"] == digest
    served = time.monotonic() - began
    client.close()
    wait_for(lambda: '"indexed"' in registry.log(), 3600)
    took = time.monotonic() - began
    print(f"\n{COUNT} manifests: ready {ready:.2f} s, served {served:.2f} s, read {took:.1f} s")
    found = progress(registry)
    assert (found["state"], found["manifests"], found["tags"]) == ("complete", COUNT, COUNT)
    assert found["blobs"] == 2 * COUNT
    check_all(registry, expected)


def test_killed_while_reading(large: tuple[Running, dict[str, dict[str, str]]]) -> None:
    """Killed again and again it goes on where it was."""
    registry, expected = large
    last = 0
    for _ in range(3):
        registry.start()
        while progress_of(registry) <= last and '"indexed"' not in registry.log():
            assert registry.process is not None
            assert registry.process.poll() is None
            time.sleep(0.005)
        registry.kill()
        now = progress_of(registry)
        assert now >= last
        last = now
    registry.start()
    indexed(registry)
    found = progress(registry)
    assert (found["manifests"], found["blobs"], found["tags"]) == (COUNT, 2 * COUNT, COUNT)
    check_all(registry, expected)


def test_ready_after_a_kill(large: tuple[Running, dict[str, dict[str, str]]]) -> None:
    """Killed while many write to it, with a journal that waits to be read, it serves again at once.

    It prints the times. What is asserted is only that nothing is made anew that grows with the
    tree: that would take far longer in the long form.
    """
    registry, expected = large
    registry.start()
    indexed(registry)
    name = next(iter(expected))
    tag, digest = next(iter(expected[name].items()))
    client = Client(registry)
    manifest = client.call("GET", f"/v2/{name}/manifests/{tag}").body
    acknowledged: list[str] = []

    def write(lane: int) -> None:
        own = Client(registry)
        with suppress(OSError, HTTPException):
            for number in itertools.count():
                new = f"new-{lane}-{number}"
                address = f"/v2/{name}/manifests/{new}"
                reply = own.call("PUT", address, manifest, {"Content-Type": OCI_MANIFEST})
                assert reply.status == 201
                acknowledged.append(new)

    threads = [threading.Thread(target=write, args=(lane,)) for lane in range(4)]
    for thread in threads:
        thread.start()
    journal = registry.root / "txregistry" / "metadata.sqlite3-wal"
    wait_for(lambda: len(acknowledged) >= 200 and journal.stat().st_size > 1_000_000)
    registry.kill()
    for thread in threads:
        thread.join()
    left = journal.stat().st_size
    client.close()
    began = time.monotonic()
    registry.start()
    ready = time.monotonic() - began
    client = Client(registry)
    for each in [tag, *acknowledged[-4:]]:
        reply = client.call("GET", f"/v2/{name}/manifests/{each}")
        assert reply.headers["docker-content-digest"] == digest
    pulled = time.monotonic() - began
    listed = client.call("GET", f"/v2/{name}/tags/list").json()["tags"]
    assert set(acknowledged) <= set(listed)
    client.close()
    print(
        f"\n{COUNT} manifests, a journal of {left} bytes: "
        f"ready {ready:.2f} s, pulled {pulled:.2f} s"
    )
    assert pulled < 20


def progress_of(registry: Running) -> int:
    """Manifests that are read already."""
    from txregistry.metadata.adoption import read_progress

    try:
        return read_progress(registry.root / "txregistry" / "metadata.sqlite3").manifests
    except ValueError:
        return 0


def test_changes_while_reading(large: tuple[Running, dict[str, dict[str, str]]]) -> None:
    """Pushes, tags moved, deletes, while it is read; at the end the tree says the same."""
    registry, expected = large
    registry.settings = {"workers": 2}
    registry.start()
    names = sorted(expected)
    failures: list[BaseException] = []

    def change(part: int) -> None:
        try:
            client = Client(registry)
            for number, name in enumerate(names[part::3]):
                tags = expected[name]
                first, second, third = list(tags)[:3]
                tags["pushed"] = client.pushed(name, "pushed")["digest"]
                tags[first] = client.pushed(name, first)["digest"]
                path = f"/v2/{name}/manifests"
                if number % 2:
                    assert client.call("DELETE", f"{path}/{second}").status == 202
                else:
                    reply = client.call("DELETE", f"{path}/{tags[second]}")
                    assert reply.status == 202, reply.body
                    assert client.call("GET", f"{path}/{tags[second]}").status == 404
                del tags[second]
                assert client.call("GET", f"{path}/{second}").status == 404
                body = client.call("GET", f"{path}/{third}").body
                reply = client.manifest(name, "more", body, media_type=OCI_MANIFEST)
                assert reply.status == 201, reply.body
                tags["more"] = tags[third]
            client.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=change, args=(part,)) for part in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    indexed(registry)
    check_all(registry, expected)
    assert registry.stop() in (0, -signal.SIGTERM)
    current = {
        key: digest
        for key, digest in links_in(registry.root).items()
        if key.endswith("current/link")
    }
    assert current == {
        f"{name}/_manifests/tags/{tag}/current/link": digest
        for name, tags in expected.items()
        for tag, digest in tags.items()
    }


def test_reindexing_needs_the_registry_stopped(tmp_path: Path) -> None:
    with running(tmp_path / "ours") as ours:
        client = Client(ours)
        digest = client.pushed("a", "1")["digest"]
        done = command(ours, "reindex")
        assert done.returncode == 1
        assert "a registry serves it" in done.stderr
        assert "Traceback" not in done.stderr
        client.close()
    done = command(ours, "reindex")
    assert done.returncode == 0, done.stderr
    assert "complete: 1 of 1 repositories, 1 manifests, 2 blobs, 1 tags" in done.stdout
    with running(tmp_path / "ours") as ours:
        client = Client(ours)
        reply = client.call("HEAD", "/v2/a/manifests/1")
        assert reply.headers["docker-content-digest"] == digest
        client.close()


def test_reindexing_goes_on_after_an_interruption(
    large: tuple[Running, dict[str, dict[str, str]]],
) -> None:
    registry, _ = large
    config = str(registry.configure())
    reading = subprocess.Popen(
        [sys.executable, "-m", "txregistry", "reindex", config],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    # It is held while it is looked at, so that it cannot end before the signal comes.
    reading.send_signal(signal.SIGSTOP)
    while progress_of(registry) == 0:
        assert reading.poll() is None
        reading.send_signal(signal.SIGCONT)
        time.sleep(0.005)
        reading.send_signal(signal.SIGSTOP)
    reading.send_signal(signal.SIGINT)
    reading.send_signal(signal.SIGCONT)
    words, _ = reading.communicate(timeout=30)
    assert "Traceback" not in words
    assert reading.returncode == 1
    before = progress(registry)
    assert 0 < before["manifests"] < COUNT
    assert command(registry, "reindex", "--progress").stdout.startswith("reading: ")
    done = command(registry, "reindex", "--json")
    assert done.returncode == 0, done.stderr
    after = json.loads(done.stdout)
    assert (after["state"], after["manifests"], after["blobs"]) == ("complete", COUNT, 2 * COUNT)
    assert after["started"] == before["started"]
    done = command(registry, "check")
    assert (done.returncode, done.stdout) == (0, "0 wrong, 0 mended\n")
