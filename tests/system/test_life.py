"""The life of the daemon: starting, failing to start, signals, draining, inherited sockets."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from http_raw import answer, drain, statuses
from lives import ENDED, GET, fails_to_start, refuses, stalled_download, wait_for
from running import Running, free_port, running
from wire import Client, digest_of


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Running]:
    """A registry of this test alone."""
    with running(tmp_path) as found:
        yield found


def test_stop_drains_running_transfers(registry: Running) -> None:
    """No new connections, the running download ends whole, an idle connection is closed."""
    channel, data = stalled_download(registry)
    idle = socket.create_connection(("127.0.0.1", registry.port), timeout=20)
    idle.sendall(GET)
    answer(idle)
    assert registry.process is not None
    registry.process.send_signal(signal.SIGTERM)
    wait_for(lambda: refuses(registry.port))
    assert idle.recv(10) == b""
    rest = drain(channel)
    assert rest.endswith(data[-1000:])
    assert len(rest) > len(data) - 1000
    assert registry.process.wait(20) in ENDED
    assert "draining" in registry.log()


def test_stop_ends_stalled_transfers_in_time(tmp_path: Path) -> None:
    settings = {"http": {"draintimeout": "500ms"}}
    with running(tmp_path, settings=settings) as registry:
        channel, _ = stalled_download(registry)
        assert registry.stop(patience=20) in ENDED
        channel.close()


def test_the_second_signal_is_now(registry: Running) -> None:
    channel, _ = stalled_download(registry)
    assert registry.process is not None
    registry.process.send_signal(signal.SIGTERM)
    wait_for(lambda: refuses(registry.port))
    assert registry.process.poll() is None
    registry.process.send_signal(signal.SIGTERM)
    assert registry.process.wait(20) in ENDED
    channel.close()


def test_an_upload_that_is_cut_by_the_stop_goes_on_after_it(tmp_path: Path) -> None:
    settings = {"http": {"draintimeout": "300ms"}}
    with running(tmp_path, settings=settings) as registry:
        client = Client(registry)
        data = os.urandom(500_000)
        location = client.start("a").location
        head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n"
        channel = socket.create_connection(("127.0.0.1", registry.port))
        channel.sendall(head.encode() + data[:300_000])
        client.close()
        wait_for(lambda: registry.get(location)[1]["range"] not in ("0-0",))
        assert registry.stop() in ENDED
        channel.close()
        registry.start()
        held = int(client.call("GET", location).headers["range"].partition("-")[2]) + 1
        assert 0 < held <= 300_000
        assert client.call("PUT", location, data[held:], digest=digest_of(data)).status == 201
        client.close()


def test_what_was_pushed_survives_a_kill(registry: Running) -> None:
    client = Client(registry)
    pushed = client.pushed("a", "t")
    client.close()
    registry.kill()
    registry.start()
    assert (
        client.call("GET", "/v2/a/manifests/t").headers["docker-content-digest"]
        == (pushed["digest"])
    )
    client.close()


def test_a_port_that_is_taken(registry: Running, tmp_path: Path) -> None:
    said = fails_to_start(Running(tmp_path / "second", port=registry.port))
    assert "in use" in said


def test_a_root_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "storage").write_text("a file, not a directory")
    assert "root directory" in fails_to_start(Running(tmp_path))


def test_a_database_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "db"
    path.write_bytes(b"this is no database" * 1000)
    settings = {"metadata": {"sqlite": {"path": str(path)}}}
    assert "database" in fails_to_start(Running(tmp_path, settings=settings))


def test_mistakes_in_the_configuration(tmp_path: Path) -> None:
    settings = {"http": {"addres": "x", "prefix": "nope"}, "proxy": {"remoteurl": "x"}}
    said = fails_to_start(Running(tmp_path, settings=settings))
    assert ": proxy: is not supported" in said
    assert 'http.addres: unknown option; did you mean "addr"?' in said
    assert "http.prefix: has to begin and end with '/'" in said
    assert not (tmp_path / "storage").exists()


def test_tls_files_that_are_not_there(tmp_path: Path) -> None:
    tls = {"certificate": "nowhere.crt", "key": "nowhere.key"}
    said = fails_to_start(Running(tmp_path, settings={"http": {"tls": tls}}))
    assert "nowhere.crt cannot be used" in said


def test_health(tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path, settings={"http": {"debug": {"addr": f"127.0.0.1:{port}"}}}) as registry:
        admin = Running(tmp_path, port=port)
        for path in ("/livez", "/readyz", "/debug/health"):
            assert admin.get(path)[::2] == (200, b"{}\n")
        staging = registry.root / "txregistry" / "tmp"
        staging.rename(staging.with_name("away"))
        status, _, body = admin.get("/readyz")
        assert (status, list(json.loads(body))) == (503, ["storagedriver_filesystem"])
        assert admin.get("/livez")[0] == 200
        channel, _ = start_download_small(registry, staging)
        registry.process.send_signal(signal.SIGTERM)  # type: ignore[union-attr]
        wait_for(lambda: refuses(registry.port))
        assert json.loads(admin.get("/readyz")[2]) == {"service": "is about to end"}
        channel.close()


def start_download_small(registry: Running, staging: Path) -> tuple[socket.socket, bytes]:
    """Put the staging directory back, then start a download."""
    staging.with_name("away").rename(staging)
    return stalled_download(registry)


def test_socket_in_the_file_system(tmp_path: Path) -> None:
    path = tmp_path / "s"
    registry = Running(tmp_path, settings={"http": {"net": "unix", "addr": str(path)}})
    registry.start(wait=False)
    try:
        wait_for(path.exists)
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(20)
            channel.connect(str(path))
            channel.sendall(GET)
            assert statuses(answer(channel)) == [200]
    finally:
        registry.stop()


INHERIT = """
import os, socket, sys
listening = socket.socket(fileno=int(sys.argv[1]))
os.dup2(listening.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_FDNAMES="api", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_a_service_manager(tmp_path: Path) -> None:
    """The manager's socket is served, and the manager hears when we are ready and when we stop."""
    notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notices.bind(str(tmp_path / "notify"))
    notices.settimeout(20)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        registry = Running(tmp_path, port=free_port())
        environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
        command = [sys.executable, "-c", INHERIT, str(listening.fileno()), *registry.command()]
        process = subprocess.Popen(
            command,
            env=environment,
            pass_fds=[listening.fileno()],
            stdout=subprocess.DEVNULL,
            cwd=tmp_path,
        )
        try:
            # Connections made before we are ready wait; none is refused.
            with socket.create_connection(listening.getsockname(), timeout=20) as channel:
                channel.sendall(GET)
                assert notices.recv(1000) == b"READY=1"
                assert statuses(answer(channel)) == [200]
            process.send_signal(signal.SIGHUP)
            assert notices.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
            assert notices.recv(1000) == b"READY=1"
            process.terminate()
            assert notices.recv(1000) == b"STOPPING=1"
            assert process.wait(20) in ENDED
        finally:
            process.kill()
            process.wait()


def test_signs_of_life(tmp_path: Path) -> None:
    """As long as the reactor turns, where the manager asks for them."""
    notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notices.bind(str(tmp_path / "notify"))
    notices.settimeout(20)
    asked = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}
    with running(tmp_path, environment=asked) as registry:
        heard = [notices.recv(1000) for _ in range(6)]
        assert heard.count(b"WATCHDOG=1") == 5
        assert heard.count(b"READY=1") == 1
        assert registry.stop() in ENDED
    with running(tmp_path, environment={**asked, "WATCHDOG_PID": "1"}) as registry:
        # They are not for this process.
        heard = everything(notices)
        assert registry.stop() in ENDED
        heard += everything(notices)
    # The end of the first process, then the second one.
    assert heard[heard.index(b"READY=1") :] == [b"READY=1", b"STOPPING=1"]


def everything(notices: socket.socket) -> list[bytes]:
    """What has arrived."""
    found = []
    notices.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            found.append(notices.recv(1000))
    return found


def test_as_a_daemon(tmp_path: Path) -> None:
    """Without --nodaemon twistd goes into the background and writes a log and a pid file."""
    registry = Running(tmp_path)
    command = [word for word in registry.command() if word not in ("--nodaemon", "--pidfile=")]
    pid_file = tmp_path / "twistd.pid"
    place = command.index("txregistry")
    command[place:place] = [f"--pidfile={pid_file}", f"--logfile={tmp_path / 'daemon.log'}"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=30)
    wait_for(pid_file.exists)
    pid = int(pid_file.read_text())
    try:
        wait_for(lambda: not refuses(registry.port))
        registry.process = subprocess.Popen(["sleep", "60"])
        registry.wait_until_ready()
        assert "serving on" in (tmp_path / "daemon.log").read_text()
    finally:
        os.kill(pid, signal.SIGTERM)
        assert registry.process is not None
        registry.process.kill()
        registry.process.wait()
        wait_for(lambda: not pid_file.exists())


def test_the_console_script(tmp_path: Path) -> None:
    """``txregistry serve`` is the same in the foreground."""
    registry = Running(tmp_path)
    command = [sys.executable, "-m", "txregistry", "serve", str(registry.configure())]
    with registry.log_path.open("wb") as log:
        registry.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path)
    registry.wait_until_ready()
    assert registry.stop() in ENDED


def test_many_requests_while_stopping(registry: Running) -> None:
    """Each of them is answered whole or finds the door shut."""
    broken: list[str] = []

    def ask() -> None:
        client = Client(registry)
        while True:
            try:
                assert client.call("GET", "/v2/").status == 200
            except ConnectionRefusedError:
                return
            except Exception as error:
                # The connection was idle when it was closed.
                if "closed connection without response" not in str(error):
                    broken.append(repr(error))
                client.close()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(registry.access()) > 50)
    assert registry.stop() in ENDED
    for thread in threads:
        thread.join()
    assert [each for each in broken if "reset" not in each.lower()] == []
