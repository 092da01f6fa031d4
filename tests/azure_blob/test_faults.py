"""The driver behind a proxy that fails: 503, silence, lost answers, answers that are cut."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
import treq
from azure.storage.blob import ContainerClient
from azurite import ACCOUNT, KEY, Azurite
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTCP
from twisted.internet.task import Clock
from twisted.web.http_headers import Headers
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from txregistry.azure.errors import AzureError
from txregistry.bodies import Whole
from txregistry.interfaces import ObjectMissing, StorageError, StorageUnavailable
from txregistry.storage.azure_copying import Copying
from txregistry.storage.azure_maker import AzureSettings
from txregistry.storage.azure_making import make_driver
from txregistry.world import World

KEPT_AWAY = {b"connection", b"transfer-encoding", b"content-length", b"host", b"keep-alive"}


class Faulty(Resource):
    """Passes requests on, or not.

    :param plan: the fate of the next request: ``pass``, ``503``, ``hang`` (no answer), ``drop``
        (not passed on), ``lose`` (passed on, the answer lost), ``cut`` (half an answer).
    """

    isLeaf = True
    port = 0

    def __init__(self, target: str) -> None:
        super().__init__()
        self.target = target
        self.plan: Callable[[Request], str] = lambda request: "pass"
        self.seen: list[tuple[str, str]] = []

    def render(self, request: Request) -> int:
        fate = self.plan(request)
        self.seen.append((f"{request.method.decode()} {request.uri.decode()}", fate))
        if fate == "503":
            request.setResponseCode(503)
            request.setHeader(b"x-ms-error-code", b"ServerBusy")
            request.write(b"")
            request.finish()
        elif fate == "drop":
            request.transport.abortConnection()
        elif fate != "hang":
            passing = Deferred.fromCoroutine(self._pass(request, fate))
            passing.addErrback(lambda failure: request.transport.abortConnection())
        return NOT_DONE_YET

    async def _pass(self, request: Request, fate: str) -> None:
        body = request.content.read()
        headers = {
            name: values
            for name, values in request.requestHeaders.getAllRawHeaders()
            if name.lower() not in KEPT_AWAY
        }
        answer = await treq.request(
            request.method.decode(),
            self.target + request.uri.decode(),
            headers=Headers(headers),
            data=Whole(body),
            unbuffered=False,
            persistent=False,
        )
        content = await answer.content()
        if fate == "lose":
            request.transport.abortConnection()
            return
        request.setResponseCode(answer.code)
        for name, values in answer.headers.getAllRawHeaders():
            if name.lower() not in KEPT_AWAY or request.method == b"HEAD":
                request.responseHeaders.setRawHeaders(name, values)
        if request.method != b"HEAD":
            request.setHeader(b"content-length", b"%d" % len(content))
        if fate == "cut":
            request.write(content[: len(content) // 2])
            request.transport.reactor.callLater(0.05, request.transport.abortConnection)
            return
        request.write(content)
        request.finish()


@pytest.fixture
def faulty(azurite: Azurite) -> Iterator[Faulty]:
    """A proxy in front of the emulator."""
    from twisted.internet import reactor

    found = Faulty(azurite.url.removesuffix(f"/{ACCOUNT}"))
    port = IReactorTCP(reactor).listenTCP(0, Site(found), interface="127.0.0.1")
    found.port = port.getHost().port
    yield found
    pytest_twisted.blockon(port.stopListening())


@pytest.fixture
def driver(faulty: Faulty, container: ContainerClient, azure_world: World) -> Iterator[Any]:
    """A driver behind the proxy."""
    settings = AzureSettings(
        accountname=ACCOUNT,
        accountkey=KEY,
        serviceurl=f"http://127.0.0.1:{faulty.port}/{ACCOUNT}",
        container=container.container_name,
        retry_delay=0.001,
    )
    found = make_driver(settings, azure_world)
    yield found
    pytest_twisted.blockon(Deferred.fromCoroutine(found.stop()))


async def drain(reader: Any) -> bytes:
    """What a reader delivers."""
    pieces = []
    while piece := await reader.read(1 << 20):
        pieces.append(piece)
    reader.close()
    return b"".join(pieces)


async def life(driver: Any) -> None:
    """Everything that happens to content."""
    await driver.start()
    await driver.put("small", b"1")
    assert await driver.get("small") == b"1"
    token = await driver.begin("hint")
    data = os.urandom(1_500_000)
    size = 0
    for start in range(0, len(data), 400_000):
        piece = data[start : start + 400_000]
        size = await driver.append(token, size, piece)
        assert (await driver.held(token)).size == size
    assert await drain(await driver.held(token)) == data
    await driver.publish(token, "large", len(data))
    await driver.abandon(token)
    assert await drain(await driver.open("large", 10, 1 << 60)) == data[10:]
    assert list(await driver.keys("", "", 10)) == ["large", "small"]
    await driver.delete("large")
    await driver.delete("small")
    with pytest.raises(ObjectMissing):
        await driver.stat("large")
    assert list(await driver.keys("", "", 10)) == []


@pytest.mark.parametrize("fate", ["503", "drop", "lose"])
@pytest_twisted.ensureDeferred
async def test_every_other_request_fails(driver: Any, faulty: Faulty, fate: str) -> None:
    """Each request is repeated, whether its first attempt has had an effect or not."""
    turn = itertools.cycle([fate, "pass"])
    faulty.plan = lambda request: next(turn)
    await life(driver)
    assert len([each for each, found in faulty.seen if found == fate]) > 20


@pytest_twisted.ensureDeferred
async def test_silence(driver: Any, faulty: Faulty) -> None:
    driver.client.http.answering = 0.3
    turn = itertools.cycle(["pass"] * 4 + ["hang"])
    faulty.plan = lambda request: next(turn)
    await life(driver)
    assert [each for each, found in faulty.seen if found == "hang"]


@pytest_twisted.ensureDeferred
async def test_answers_that_are_cut(driver: Any, faulty: Faulty) -> None:
    data = os.urandom(3_000_000)
    token = await driver.begin("hint")
    await driver.append(token, 0, data)
    await driver.publish(token, "large")
    turn = itertools.cycle(["cut", "cut", "pass"])
    faulty.plan = lambda request: next(turn)
    assert await drain(await driver.open("large", 0, len(data))) == data
    assert len([each for each, found in faulty.seen if found == "cut"]) == 2


@pytest_twisted.ensureDeferred
async def test_what_was_replaced_is_never_mixed(
    driver: Any, faulty: Faulty, container: ContainerClient
) -> None:
    container.upload_blob("large", b"a" * 3_000_000)
    turn = itertools.chain(["cut"], itertools.repeat("pass"))
    faulty.plan = lambda request: next(turn)
    reader = await driver.open("large", 0, 3_000_000)
    container.upload_blob("large", b"b" * 3_000_000, overwrite=True)
    with pytest.raises(StorageError, match="was replaced"):
        await drain(reader)
    reader.close()


@pytest_twisted.ensureDeferred
async def test_a_service_that_is_down(driver: Any, faulty: Faulty) -> None:
    """Few attempts for each call, and none beyond the first when too many have failed."""
    driver.client.retries.breaker.threshold = 1000
    faulty.plan = lambda request: "503"
    with pytest.raises(StorageUnavailable, match="503 ServerBusy"):
        await driver.get("key")
    assert len(faulty.seen) == 6
    for _ in range(20):
        with pytest.raises(StorageUnavailable):
            await driver.put("key", b"1")
    before = len(faulty.seen)
    with pytest.raises(StorageUnavailable):
        await driver.check()
    assert len(faulty.seen) == before + 1
    faulty.plan = lambda request: "pass"
    await driver.put("key", b"2")
    assert await driver.get("key") == b"2"


@pytest_twisted.ensureDeferred
async def test_a_service_that_stays_down_is_left_alone(driver: Any, faulty: Faulty) -> None:
    clock = Clock()
    driver.client.retries.breaker.clock = clock.seconds
    faulty.plan = lambda request: "503"
    for _ in range(20):
        with pytest.raises(StorageUnavailable):
            await driver.put("key", b"1")
    assert len(faulty.seen) == 20
    with pytest.raises(StorageUnavailable, match="asked again"):
        await driver.check()
    faulty.plan = lambda request: "pass"
    with pytest.raises(StorageUnavailable):
        await driver.put("key", b"2")
    assert len(faulty.seen) == 20
    clock.advance(5)
    await driver.put("key", b"2")
    assert await driver.get("key") == b"2"


@pytest_twisted.ensureDeferred
async def test_a_failed_append_can_be_repeated(driver: Any, faulty: Faulty) -> None:
    token = await driver.begin("hint")
    await driver.append(token, 0, b"12345")
    faulty.plan = lambda request: "drop"
    with pytest.raises(StorageUnavailable):
        await driver.append(token, 5, b"lost")
    faulty.plan = lambda request: "pass"
    assert (await driver.held(token)).size == 5
    assert await driver.append(token, 5, b"678") == 8
    assert await drain(await driver.held(token)) == b"12345678"


@pytest.mark.parametrize("size", [1, 700_000, 10_000_000])
@pytest_twisted.ensureDeferred
async def test_a_service_that_does_not_copy(
    driver: Any, faulty: Faulty, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """The bytes pass through here, once that is known without asking again."""

    async def refuse(*arguments: Any) -> None:
        raise AzureError("Copy Blob From URL", 403, "CannotVerifyCopySource", "")

    monkeypatch.setattr(type(driver.client), "copy_from_url", refuse)
    data = os.urandom(size)
    token = await driver.begin("hint")
    await driver.append(token, 0, data)
    await driver.publish(token, "one")
    assert await drain(await driver.open("one", 0, size)) == data
    copying: Copying = driver._copying
    assert copying.passing
    await driver.publish(token, "two")
    assert await drain(await driver.open("two", 0, size)) == data
