"""Documents of other servers: whole, small, soon, and from nobody else."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from authority import Authority
from issuers import DESCRIPTION, CiIssuer, serving
from twisted.internet import reactor

from txregistry.auth import fetching
from txregistry.auth.fetching import FetchFailed, fetch


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def issuer(authority: Authority) -> Iterator[CiIssuer]:
    with serving(authority.issue("issuer")) as found:
        yield found


@pytest_twisted.ensureDeferred
async def test_over_tls(issuer: CiIssuer, authority: Authority) -> None:
    body = await fetch(reactor, issuer.issuer + DESCRIPTION, authority.path.read_bytes())
    assert body == issuer.reply(DESCRIPTION)[2]


@pytest_twisted.ensureDeferred
async def test_without_tls_on_this_machine() -> None:
    with serving() as issuer:
        assert await fetch(reactor, issuer.issuer + DESCRIPTION) == issuer.reply(DESCRIPTION)[2]


@pytest_twisted.ensureDeferred
async def test_servers_that_nobody_vouches_for(issuer: CiIssuer, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other", "another authority")
    for authorities in (None, other.path.read_bytes()):
        with pytest.raises(FetchFailed, match="certificate"):
            await fetch(reactor, issuer.issuer + DESCRIPTION, authorities)
    assert issuer.asked == []


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ((302, {"Location": "https://localhost/x"}, b""), "302"),
        ((404, {}, b"{}"), "404"),
        ((500, {"Content-Length": "1000000"}, b" " * 1000), "500"),
        ((200, {}, b" " * (fetching.LARGEST + 1)), "more than"),
        ((200, {"Content-Length": "100"}, b"{}"), "broke off"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_answers_of_no_use(
    issuer: CiIssuer, authority: Authority, reply: Any, reason: str
) -> None:
    issuer.replies["/"] = lambda: reply
    with pytest.raises(FetchFailed, match=reason):
        await fetch(reactor, issuer.issuer + "/", authority.path.read_bytes())
    assert issuer.asked == ["/"]


@pytest_twisted.ensureDeferred
async def test_the_largest_one(issuer: CiIssuer, authority: Authority) -> None:
    whole = b" " * fetching.LARGEST
    issuer.replies["/"] = lambda: (200, {}, whole)
    assert await fetch(reactor, issuer.issuer + "/", authority.path.read_bytes()) == whole


@pytest_twisted.ensureDeferred
async def test_nothing_is_decompressed(issuer: CiIssuer, authority: Authority) -> None:
    packed = gzip.compress(b" " * 100_000_000)
    assert len(packed) < fetching.LARGEST
    issuer.replies["/"] = lambda: (200, {"Content-Encoding": "gzip"}, packed)
    assert await fetch(reactor, issuer.issuer + "/", authority.path.read_bytes()) == packed


@pytest_twisted.ensureDeferred
async def test_servers_that_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(FetchFailed, match="no answer"):
            await fetch(reactor, address)


@pytest_twisted.ensureDeferred
async def test_servers_that_are_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as port:
        address = f"http://127.0.0.1:{port.getsockname()[1]}/"
    with pytest.raises(FetchFailed, match="refused"):
        await fetch(reactor, address)


@pytest_twisted.ensureDeferred
async def test_authorities_that_are_none(issuer: CiIssuer) -> None:
    with pytest.raises(FetchFailed):
        await fetch(reactor, issuer.issuer + "/", b"nonsense")
