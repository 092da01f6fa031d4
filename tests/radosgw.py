"""Ceph's object gateway on one node, in memory: a real object store, which checks signatures."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from attrs import define
from buckets import KEY, SECRET, Server, wait_until_it_answers
from running import free_port
from tools import require_tool

CONFIGURATION = """
[global]
fsid = {fsid}
mon host = 127.0.0.1:{monitor}
ms bind msgr2 = false
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
mon allow pool size one = true
osd crush chooseleaf type = 0
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
mon max pg per osd = 2000
run dir = {directory}/run
admin socket = {directory}/run/$name.asok
log file = {directory}/log/$name.log
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind port min = 16800
ms bind port max = 17300
[mon]
mon data = {directory}/mon
mon initial members = a
[osd]
osd objectstore = memstore
memstore device bytes = {memory}
osd data = {directory}/osd
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw data = {directory}/rgw
rgw gc obj min wait = 10
"""


@define
class Gateway(Server):
    """A gateway.

    :param sweep: frees what deleted objects took, which by itself takes an hour; whether it did.
    """

    sweep: Callable[[], bool]


@contextmanager
def radosgw(memory: int = 4 * 1024**3) -> Iterator[Gateway]:
    """A gateway with one user.

    :param memory: bytes that objects may take.
    """
    monitor, store, gateway = map(require_tool, ("ceph-mon", "ceph-osd", "radosgw"))
    map_tool, ceph, admin = map(require_tool, ("monmaptool", "ceph", "radosgw-admin"))
    directory = Path(tempfile.mkdtemp(prefix="ceph", dir="/tmp"))
    for name in ("mon", "osd", "rgw", "log", "run"):
        (directory / name).mkdir()
    fsid, port, monitor_port = str(uuid.uuid4()), free_port(), free_port()
    settings = directory / "ceph.conf"
    settings.write_text(
        CONFIGURATION.format(
            fsid=fsid, directory=directory, port=port, monitor=monitor_port, memory=memory
        )
    )
    environment = {**os.environ, "CEPH_ARGS": f"-c {settings}"}

    def run(*words: str | Path) -> bool:
        done = subprocess.run(
            [str(word) for word in words], env=environment, capture_output=True, timeout=60
        )
        return done.returncode == 0

    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)

        def start(*words: str) -> subprocess.Popen[bytes]:
            process = subprocess.Popen(
                words,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        address = f"[v1:127.0.0.1:{monitor_port}]"
        run(map_tool, "--create", "--clobber", "--fsid", fsid, "--addv", "a", address,
            directory / "monmap")  # fmt: skip
        run(monitor, "--mkfs", "-i", "a", "--monmap", directory / "monmap")
        start(monitor, "-i", "a", "-f")
        disk = str(uuid.uuid4())
        _until(lambda: run("timeout", "20", ceph, "osd", "new", disk))
        run(store, "--mkfs", "-i", "0", "--osd-uuid", disk)
        stores = [start(store, "-i", "0", "-f")]

        def up() -> bool:
            # It ends where it asks the monitor for something before it knows the cluster.
            if stores[-1].poll() is not None:
                stores.append(start(store, "-i", "0", "-f"))
            return "1 up" in _output(environment, ceph, "osd", "stat")

        _until(up)
        process = start(gateway, "-n", "client.rgw", "-f")
        server = Server(f"http://127.0.0.1:{port}")
        wait_until_it_answers(server.url, process)
        assert run(
            *(admin, "user", "create", "--uid=test", "--display-name=test"),
            *(f"--access-key={KEY}", f"--secret={SECRET}"),
        )
        yield Gateway(server.url, lambda: run(admin, "gc", "process", "--include-all"))


def _output(environment: dict[str, str], *words: str) -> str:
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)
    return done.stdout


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 180
    while not holds():
        assert time.monotonic() < deadline, "Ceph does not start"
        time.sleep(0.2)
