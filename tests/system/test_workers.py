"""Several workers: all serve, agree, are replaced, drain, and end with their parent."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import RemoteDisconnected
from pathlib import Path
from typing import Any

import pytest
from authority import Authority
from http_raw import answer, statuses
from images import blobs, make_layout, run
from lives import ENDED, GET, children, fails_to_start, refuses, stalled_download, wait_for
from running import Running, free_port, running
from tools import require_tool
from wire import OCI_MANIFEST, Client, digest_of


def alive(process: int) -> bool:
    """Whether a process runs."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def worker_of(registry: Running, client: Client) -> int:
    """The worker that a client's connection belongs to."""
    identifier = client.call("GET", "/v2/").headers["x-request-id"]

    def found() -> int | None:
        for record in registry.access():
            if record["request_id"] == identifier:
                return int(record["worker"])
        return None

    return int(wait_for(found))


@contextmanager
def clients(registry: Running, count: int) -> Iterator[list[Client]]:
    """A client with a connection to each worker, in their order."""
    found: dict[int, Client] = {}
    spare: list[Client] = []
    while len(found) < count:
        client = Client(registry)
        number = worker_of(registry, client)
        if number in found:
            spare.append(client)
            assert len(spare) < 200, "connections do not reach every worker"
        else:
            found[number] = client
    try:
        yield [found[number] for number in sorted(found)]
    finally:
        for client in (*found.values(), *spare):
            client.close()


@contextmanager
def workers(path: Path, count: int = 2, **options: Any) -> Iterator[Running]:
    """A registry of several workers."""
    options["settings"] = {"workers": count, **options.get("settings", {})}
    with running(path, **options) as registry:
        wait_for(lambda: registry.log().count("serving on") == count)
        yield registry
        assert "error.traceback" not in registry.log()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Running]:
    """A registry of two workers."""
    with workers(tmp_path) as found:
        yield found


def links(registry: Running, name: str) -> dict[str, str]:
    """The tags in the tree with what they point at."""
    base = registry.root / "docker/registry/v2/repositories" / name / "_manifests/tags"
    if not base.exists():
        return {}
    found = base.glob("*/current/link")
    return {path.parts[-3]: path.read_text() for path in found}


def tags(client: Client, name: str) -> dict[str, str]:
    """The tags that a registry tells with what they point at."""
    listed = client.call("GET", f"/v2/{name}/tags/list").json()["tags"] or []
    return {
        tag: client.call("HEAD", f"/v2/{name}/manifests/{tag}").headers["docker-content-digest"]
        for tag in listed
    }


def manifests(client: Client, name: str, count: int) -> list[tuple[str, bytes]]:
    """Manifests that can be pushed, with their digests."""
    image = client.image(name)
    bodies = [
        json.dumps({**image, "annotations": {"number": str(number)}}).encode()
        for number in range(count)
    ]
    return [(digest_of(body), body) for body in bodies]


@pytest.mark.parametrize("count", [2, 3])
def test_what_one_has_written_all_read(tmp_path: Path, count: int) -> None:
    """Hundreds of moves of a tag and deletes, each by another worker, read at once by all."""
    with workers(tmp_path, count) as registry, clients(registry, count) as them:
        assert len(children(registry)) == count
        bodies = manifests(them[0], "a", 3)
        for number in range(200):
            writer = them[number % count]
            digest, body = bodies[number % len(bodies)]
            assert writer.manifest("a", "t", body, media_type=OCI_MANIFEST).status == 201
            for reader in them:
                reply = reader.call("GET", "/v2/a/manifests/t")
                assert (reply.status, reply.body) == (200, body)
            assert links(registry, "a") == {"t": digest}
            if number % 10 == 9:
                assert writer.call("DELETE", "/v2/a/manifests/t").status == 202
                assert {r.call("GET", "/v2/a/manifests/t").status for r in them} == {404}
                assert links(registry, "a") == {}


def test_all_at_once(tmp_path: Path) -> None:
    """Every worker moves and deletes the same tags: the tree says the same as the database."""
    with workers(tmp_path, 3) as registry, clients(registry, 3) as them:
        bodies = manifests(them[0], "a", 5)
        broken: list[Any] = []

        def churn(client: Client, seed: int) -> None:
            for number in range(120):
                tag = f"t{(number * seed) % 4}"
                if number % 7 == 6:
                    status = client.call("DELETE", f"/v2/a/manifests/{tag}").status
                    if status not in (202, 404):
                        broken.append(status)
                    continue
                _, body = bodies[(number + seed) % len(bodies)]
                reply = client.manifest("a", tag, body, media_type=OCI_MANIFEST)
                if reply.status != 201:
                    broken.append(reply)

        threads = [
            threading.Thread(target=churn, args=[client, seed])
            for client, seed in zip(them, (1, 3, 5), strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert broken == []
        # The last request of a key is answered when its change is in the tree.
        assert links(registry, "a") == tags(them[0], "a") == tags(them[2], "a")
        assert registry.stop() in ENDED
        assert pending(registry) == 0


def pending(registry: Running) -> int:
    """Changes of the tree that were left for the next start."""
    with sqlite3.connect(registry.root / "txregistry/metadata.sqlite3") as connection:
        count: int = connection.execute("SELECT count(*) FROM pending").fetchone()[0]
        return count


def test_an_upload_through_several_workers(registry: Running) -> None:
    """Each piece goes through another one; the hash is made again by who finishes."""
    data = secrets.token_bytes(900_000)
    with clients(registry, 2) as them:
        for order in ((0, 1, 0), (1, 0, 1), (0, 0, 1)):
            location = them[order[0]].start("a").location
            for number, which in enumerate(order):
                part = data[number * 300_000 :][:300_000]
                headers = {"Content-Range": f"{number * 300_000}-{number * 300_000 + 299_999}"}
                reply = them[which].call("PATCH", location, part, headers)
                assert reply.status == 202, reply.body
            reply = them[1 - order[-1]].call("PUT", location, digest=digest_of(data))
            assert reply.status == 201, reply.body
        for each in them:
            assert each.call("GET", f"/v2/a/blobs/{digest_of(data)}").body == data


def test_a_client_that_comes_back_through_another_worker(registry: Running) -> None:
    """Its old request still hangs: what arrived stays, and no byte is taken twice."""
    data = secrets.token_bytes(1_000_000)
    with clients(registry, 2) as (one, two):
        location = one.start("a").location
        old = one._connection.sock  # type: ignore[union-attr]
        head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
        old.sendall(head.encode() + data[:400_000])

        def held() -> int:
            return int(two.call("GET", location).headers["range"].partition("-")[2] or 0) + 1

        position = wait_for(lambda: found if (found := held()) > 300_000 else 0)
        rest = data[position:]
        headers = {"Content-Range": f"{position}-{len(data) - 1}"}
        assert two.call("PATCH", location, rest, headers).status == 202
        # The old request wakes up and is told that it is out of order.
        old.sendall(data[400_000:])
        assert b" 416 " in old.recv(100)
        one.close()
        assert two.call("PUT", location, digest=digest_of(data)).status == 201
        assert two.call("GET", f"/v2/a/blobs/{digest_of(data)}").body == data


def test_a_worker_that_is_killed(registry: Running) -> None:
    """It is replaced, its upload goes on, others notice nothing, and nothing is left undone."""
    data = secrets.token_bytes(600_000)
    with clients(registry, 2) as (one, two):
        location = one.start("a").location
        head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
        one._connection.sock.sendall(head.encode() + data[:300_000])  # type: ignore[union-attr]
        wait_for(lambda: two.call("GET", location).headers["range"] != "0-0")
        victim = process_of(registry, one)
        os.kill(victim, signal.SIGKILL)
        try:
            assert one._connection.sock.recv(1) == b""  # type: ignore[union-attr]
        except ConnectionResetError:
            pass
        one.close()
        # The connection to the other one is the same as before.
        assert two.call("GET", "/v2/").status == 200
        wait_for(lambda: len(children(registry)) == 2 and victim not in children(registry))
        wait_for(lambda: registry.log().count("serving on") == 3)
        assert "was ended by SIGKILL; it is replaced" in registry.log()
        with clients(registry, 2) as them:
            for each in them:
                reply = each.call("GET", location)
                position = int(reply.headers["range"].partition("-")[2]) + 1
                assert 0 < position <= 300_000
            reply = them[0].call("PUT", location, data[position:], digest=digest_of(data))
            assert reply.status == 201


def process_of(registry: Running, client: Client) -> int:
    """The process that a client's connection belongs to."""
    assert client._connection is not None
    assert client._connection.sock is not None
    local = client._connection.sock.getsockname()[1]
    inode = ""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        ports = [int(word.partition(":")[2], 16) for word in words[1:3]]
        if ports == [registry.port, local]:
            inode = words[9]
    for child in children(registry):
        for link in Path(f"/proc/{child}/fd").iterdir():
            if os.readlink(link) == f"socket:[{inode}]":
                return child
    raise AssertionError("no worker has that connection")


def test_kills_while_tags_move(registry: Running) -> None:
    """Whatever was acknowledged is there, and the tree is what the database says."""
    client = Client(registry)
    bodies = manifests(client, "a", 4)
    client.close()
    acknowledged: dict[str, str] = {}
    done = threading.Event()
    broken: list[Any] = []

    def move(lane: int) -> None:
        client = Client(registry)
        for number in range(10_000):
            if done.is_set():
                break
            digest, body = bodies[number % len(bodies)]
            tag = f"lane{lane}"
            try:
                reply = client.manifest("a", tag, body, media_type=OCI_MANIFEST)
                assert reply.status == 201
                acknowledged[tag] = digest
                read = Client(registry)
                try:
                    found = read.call("HEAD", f"/v2/a/manifests/{tag}")
                    if found.headers.get("docker-content-digest") != digest:
                        broken.append((tag, digest, found))
                finally:
                    read.close()
            except (OSError, RemoteDisconnected):
                # Killed: nobody knows whether that was done, so it is done again.
                client.close()
                acknowledged.pop(tag, None)
        client.close()

    threads = [threading.Thread(target=move, args=[lane]) for lane in range(6)]
    for thread in threads:
        thread.start()
    for kills in range(1, 5):
        count = len(registry.access())
        wait_for(lambda count=count: len(registry.access()) > count + 30)  # type: ignore[misc]
        os.kill(secrets.choice(children(registry)), signal.SIGKILL)
        wait_for(
            lambda kills=kills: registry.log().count("serving on") == 2 + kills  # type: ignore[misc]
        )
    done.set()
    for thread in threads:
        thread.join()
    assert broken == []
    client = Client(registry)
    told = tags(client, "a")
    client.close()
    assert acknowledged.items() <= told.items()
    wait_for(lambda: links(registry, "a") == told)
    assert registry.stop() in ENDED
    assert pending(registry) == 0
    assert links(registry, "a") == told


def test_reloading_under_load(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """SIGHUP reaches every worker; no connection and no request is lost."""
    authority = Authority(tmp_path_factory.mktemp("authority"))
    tls = authority.issue("first")
    with workers(tmp_path, tls=tls) as registry:
        done, broken = threading.Event(), []

        def ask() -> None:
            client = Client(registry)
            try:
                while not done.is_set():
                    assert client.call("GET", "/v2/").status == 200
            except Exception as error:
                broken.append(repr(error))
            client.close()

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(registry.access()) > 100)
        assert registry.process is not None
        for round_ in range(1, 4):
            registry.process.send_signal(signal.SIGHUP)
            wait_for(lambda round_=round_: reloads(registry) >= 2 * round_)  # type: ignore[misc]
        done.set()
        for thread in threads:
            thread.join()
        assert broken == []


def reloads(registry: Running) -> int:
    """How often certificates were read again."""
    return registry.log().count("the TLS files were read again")


def test_stopping_drains_and_the_second_signal_cuts(registry: Running) -> None:
    channel, _ = stalled_download(registry)
    assert registry.process is not None
    registry.process.send_signal(signal.SIGTERM)
    wait_for(lambda: refuses(registry.port))
    wait_for(lambda: len(children(registry)) == 1)
    for _ in range(100):
        assert channel.recv(100_000)
    assert registry.process.poll() is None
    registry.process.send_signal(signal.SIGTERM)
    assert registry.process.wait(20) in ENDED
    channel.close()


def test_a_terminal_interrupts_everybody(tmp_path: Path) -> None:
    """SIGINT goes to all processes of a group; running transfers are drained all the same."""
    registry = Running(tmp_path, settings={"workers": 2})
    command = registry.command()
    with registry.log_path.open("wb") as log:
        registry.process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=tmp_path, start_new_session=True
        )
    registry.wait_until_ready()
    wait_for(lambda: registry.log().count("serving on") == 2)
    channel, _ = stalled_download(registry)
    os.killpg(registry.process.pid, signal.SIGINT)
    wait_for(lambda: refuses(registry.port))
    for _ in range(100):
        assert channel.recv(100_000)
    os.killpg(registry.process.pid, signal.SIGINT)
    assert registry.process.wait(20) in (0, -signal.SIGINT)
    channel.close()


def test_a_parent_that_is_killed(registry: Running) -> None:
    """Its workers drain and end by themselves, and the port is free again."""
    left = children(registry)
    channel, _ = stalled_download(registry)
    registry.kill()
    wait_for(lambda: refuses(registry.port))
    wait_for(lambda: sum(map(alive, left)) == 1)
    for _ in range(100):
        assert channel.recv(100_000)
    channel.close()
    wait_for(lambda: not any(map(alive, left)))
    registry.start()
    assert registry.get("/v2/")[0] == 200


def test_workers_that_cannot_start(tmp_path: Path) -> None:
    (tmp_path / "storage").write_text("a file, not a directory")
    said = fails_to_start(Running(tmp_path, settings={"workers": 2}))
    assert "root directory" in said
    assert "ended with exit code 1 before it was ready" in said


def test_a_port_that_is_taken(registry: Running, tmp_path: Path) -> None:
    """Also by a registry of the same user that shares its port among its workers."""
    for count in (1, 2):
        second = Running(
            tmp_path / f"second{count}", port=registry.port, settings={"workers": count}
        )
        assert "in use" in fails_to_start(second)


def test_a_storage_that_cannot_be_shared(tmp_path: Path) -> None:
    registry = Running(tmp_path, settings={"workers": 2}, driver="inmemory")
    assert "storage.inmemory keeps everything inside one process" in fails_to_start(registry)


def test_workers_that_die_again_and_again(tmp_path: Path) -> None:
    """The others serve on, and the replacements come at growing distances."""
    with workers(tmp_path) as registry, clients(registry, 2) as (one, two):
        victim = process_of(registry, one)
        staging = registry.root / "txregistry" / "tmp"
        staging.rename(staging.with_name("away"))
        staging.write_text("in the way")
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: registry.log().count("ended with exit code 1; it is replaced") >= 2)
        assert two.call("GET", "/v2/").status == 200
        staging.unlink()
        staging.with_name("away").rename(staging)
        wait_for(lambda: registry.log().count("serving on") == 3)
        one.close()


def test_a_service_manager(tmp_path: Path) -> None:
    """Its socket is one for all; it hears of readiness once, when everybody is ready."""
    notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notices.bind(str(tmp_path / "notify"))
    notices.settimeout(20)
    inherit = """
import os, socket, sys
listening = socket.socket(fileno=int(sys.argv[1]))
os.dup2(listening.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_FDNAMES="api", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""
    for family in (socket.AF_INET, socket.AF_UNIX):
        with socket.socket(family) as listening:
            name: Any = ("127.0.0.1", 0) if family == socket.AF_INET else str(tmp_path / "socket")
            listening.bind(name)
            if family == socket.AF_UNIX:
                os.chmod(name, 0o600)
            listening.listen()
            registry = Running(tmp_path, settings={"workers": 2})
            command = [sys.executable, "-c", inherit, str(listening.fileno())]
            process = subprocess.Popen(
                [*command, *registry.command()],
                env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")},
                pass_fds=[listening.fileno()],
                stdout=subprocess.DEVNULL,
                cwd=tmp_path,
            )
            try:
                with socket.socket(family) as channel:
                    channel.settimeout(20)
                    channel.connect(listening.getsockname())
                    channel.sendall(GET)
                    assert notices.recv(1000) == b"READY=1"
                    assert statuses(answer(channel)) == [200]
                process.send_signal(signal.SIGHUP)
                assert notices.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
                assert notices.recv(1000) == b"READY=1"
                process.terminate()
                assert notices.recv(1000) == b"STOPPING=1"
                assert process.wait(20) in ENDED
                if family == socket.AF_UNIX:
                    assert Path(name).stat().st_mode & 0o777 == 0o600
            finally:
                process.kill()
                process.wait()


def test_signs_of_life(tmp_path: Path) -> None:
    """The parent gives its own, and ends a worker that gives it none; the others go on."""
    notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notices.bind(str(tmp_path / "notify"))
    notices.settimeout(20)
    asked = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "3000000"}
    with workers(tmp_path, environment=asked) as registry, clients(registry, 2) as (one, _):
        hung = children(registry)[1]
        os.kill(hung, signal.SIGSTOP)
        while hung in children(registry):
            assert notices.recv(1000) in (b"READY=1", b"WATCHDOG=1")
            assert one.call("GET", "/v2/").status == 200
        wait_for(lambda: registry.log().count("serving on") == 3)
        assert "has not turned for" in registry.log()
        assert len(children(registry)) == 2


def test_a_socket_in_the_file_system(tmp_path: Path) -> None:
    path = tmp_path / "s"
    settings = {"workers": 2, "http": {"net": "unix", "addr": str(path)}}
    registry = Running(tmp_path, settings=settings).start(wait=False)
    try:
        wait_for(lambda: registry.log().count("serving on") == 2)
        for _ in range(20):
            with socket.socket(socket.AF_UNIX) as channel:
                channel.settimeout(20)
                channel.connect(str(path))
                channel.sendall(GET)
                assert statuses(answer(channel)) == [200]
    finally:
        assert registry.stop() in ENDED
    assert not path.exists()
    assert "error.traceback" not in registry.log()


def test_a_port_that_the_kernel_chooses(tmp_path: Path) -> None:
    registry = Running(tmp_path, settings={"workers": 2, "http": {"addr": "127.0.0.1:0"}})
    registry.start(wait=False)
    try:
        wait_for(lambda: registry.log().count("serving on") == 2)
        said = [line for line in registry.log().splitlines() if "serving on" in line]
        addresses = {json.loads(line)["address"] for line in said}
        assert len(addresses) == 1
        registry.port = int(addresses.pop().rpartition(":")[2])
        with clients(registry, 2):
            pass
    finally:
        assert registry.stop() in ENDED


def test_duties_of_the_first_worker(tmp_path: Path) -> None:
    """The operator's listener and the purging of uploads, also after a replacement."""
    port = free_port()
    purging = {"enabled": True, "age": "500ms", "interval": "100ms"}
    settings = {
        "workers": 2,
        "http": {"debug": {"addr": f"127.0.0.1:{port}"}},
        "storage": {"maintenance": {"uploadpurging": purging}},
    }
    with running(tmp_path, settings=settings) as registry:
        wait_for(lambda: registry.log().count("serving on") == 3)
        admin = Running(tmp_path, port=port)
        for kills, victim in enumerate(children(registry)):
            assert admin.get("/readyz")[0] == 200
            client = Client(registry)
            client.start("a")
            client.close()
            wait_for(lambda kills=kills: len(purges(registry)) > kills)  # type: ignore[misc]
            before = registry.log().count("serving on")
            os.kill(victim, signal.SIGKILL)
            wait_for(lambda before=before: registry.log().count("serving on") > before)  # type: ignore[misc]
        assert admin.get("/readyz")[0] == 200
        assert set(purges(registry)) == {1}


def purges(registry: Running) -> list[int]:
    """The workers that removed stale uploads."""
    lines = [line for line in registry.log().splitlines() if "stale upload sessions" in line]
    return [json.loads(line)["worker"] for line in lines]


def test_as_a_daemon(tmp_path: Path) -> None:
    registry = Running(tmp_path, settings={"workers": 2})
    command = [word for word in registry.command() if word not in ("--nodaemon", "--pidfile=")]
    pid_file = tmp_path / "twistd.pid"
    log = tmp_path / "daemon.log"
    place = command.index("txregistry")
    command[place:place] = [f"--pidfile={pid_file}", f"--logfile={log}"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=30)
    pid = int(wait_for(lambda: pid_file.exists() and pid_file.read_text()))
    try:
        wait_for(lambda: log.read_text().count("serving on") == 2)
        assert registry.get("/v2/")[0] == 200
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not pid_file.exists())
    assert refuses(registry.port)
    assert "error.traceback" not in log.read_text()


def test_the_console_script(tmp_path: Path) -> None:
    registry = Running(tmp_path, settings={"workers": 2})
    command = [sys.executable, "-m", "txregistry", "serve", str(registry.configure())]
    with registry.log_path.open("wb") as log:
        registry.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path)
    registry.wait_until_ready()
    assert len(children(registry)) == 2
    assert registry.stop() in ENDED


def test_skopeo(registry: Running, tmp_path: Path) -> None:
    """Images are pushed at once through all workers, and come back as they went."""
    skopeo = require_tool("skopeo")
    layouts = []
    for number in range(4):
        place = tmp_path / f"image{number}"
        place.mkdir()
        layouts.append(make_layout(place, [100_000] * 3))
    targets = [f"docker://{registry.host}/skopeo/{number}:latest" for number in range(4)]

    def copy(*words: str) -> None:
        run(skopeo, "copy", "--dest-tls-verify=false", "--src-tls-verify=false", *words)

    sources = [f"oci:{layout}:latest" for layout in layouts]
    pushes = [
        threading.Thread(target=copy, args=words) for words in zip(sources, targets, strict=True)
    ]
    for thread in pushes:
        thread.start()
    for thread in pushes:
        thread.join()
    for number, target in enumerate(targets):
        copy(target, f"oci:{tmp_path / f'back{number}'}:latest")
        assert blobs(tmp_path / f"back{number}") == blobs(layouts[number])
    assert {record["worker"] for record in registry.access()} == {1, 2}
