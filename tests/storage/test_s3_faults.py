"""The driver for S3 behind a network and a server that fail."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_twisted
from buckets import Server
from faulty import (
    ERROR_200,
    REFUSED,
    SILENCE,
    Decide,
    Proxy,
    cut_after,
    every_third,
    first,
    reset_after,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import capturedLogs
from twisted.web.client import URI

from txregistry.budget import Breaker, Budget
from txregistry.connecting import DirectClient, Ways
from txregistry.interfaces import IWorld, StorageUnavailable
from txregistry.s3.transport import Patience
from txregistry.storage.s3 import S3Driver, make_driver
from txregistry.storage.s3_settings import S3Settings
from txregistry.testing.contracts.storage import all_keys, asynchronous, content, drain

MEBIBYTE = 1024 * 1024
KEY = "docker/registry/v2/blobs/sha256/ab/abc/data"


@pytest_twisted.async_yield_fixture
async def proxy(moto_server: Server) -> AsyncIterator[Proxy]:
    from twisted.internet import reactor

    found = Proxy(reactor, urlsplit(moto_server.url).port or 0)
    yield found
    await found.stop()


@pytest_twisted.async_yield_fixture
async def driver(moto_server: Server, proxy: Proxy, threads: IWorld) -> AsyncIterator[S3Driver]:
    settings = moto_server.settings(
        moto_server.bucket(), regionendpoint=proxy.start(), chunksize=5 * MEBIBYTE
    )
    found = make_driver(S3Settings(**settings), threads)
    found.client.transport.patience = Patience(connect=0.5, idle=1)
    yield found
    await found.stop()


def meet(proxy: Proxy, decide: Decide) -> None:
    proxy.decide = decide
    proxy.seen.clear()


async def push(driver: S3Driver, data: bytes, key: str = KEY, aimed: bool = False) -> None:
    token = await driver.begin("hint")
    if aimed:
        await driver.aim(token, key)
    for start in range(0, len(data), MEBIBYTE):
        await driver.append_soon(token, start, data[start : start + MEBIBYTE])
    await driver.keep(token)
    await driver.publish(token, key, len(data))
    await driver.abandon(token)


@asynchronous
async def test_a_third_of_all_requests_refused(driver: S3Driver, proxy: Proxy) -> None:
    meet(proxy, every_third(REFUSED))
    for number in range(3):
        data = os.urandom(11 * MEBIBYTE + number)
        await push(driver, data, f"{KEY}{number}")
        assert await content(driver, f"{KEY}{number}") == data
    assert await all_keys(driver) == [f"{KEY}{number}" for number in range(3)]


@pytest.mark.parametrize(
    ("part", "fault"),
    [
        ("partNumber=1", SILENCE),
        ("partNumber=2", reset_after(3 * MEBIBYTE)),
        ("partNumber=2", reset_after(1)),
        ("partNumber=1", cut_after(20)),
        ("POST", ERROR_200),
        ("POST", cut_after(30)),
        ("PUT /bucket", cut_after(30)),
        ("abc/data", ERROR_200),
        ("abc/data", cut_after(300)),
        ("DELETE", SILENCE),
    ],
)  # fmt: skip
@asynchronous
async def test_one_request_fails(driver: S3Driver, proxy: Proxy, part: str, fault: Any) -> None:
    data = os.urandom(12 * MEBIBYTE)
    for aimed in (False, True):
        meet(proxy, first(2, part, fault))
        await push(driver, data, KEY, aimed)
        assert any(part in line for line in proxy.seen)
        meet(proxy, lambda line: None)
        assert await content(driver, KEY) == data
        await driver.delete(KEY)
        assert await all_keys(driver) == []


@asynchronous
async def test_errors_that_stay_are_told(driver: S3Driver, proxy: Proxy) -> None:
    data = os.urandom(12 * MEBIBYTE)
    driver.client.transport.budget = Budget(room=3)
    for aimed in (False, True):
        meet(proxy, first(1000, "POST", ERROR_200))
        with pytest.raises(StorageUnavailable, match="InternalError"):
            await push(driver, data, KEY, aimed)
        meet(proxy, lambda line: None)
        assert await all_keys(driver) == []


@asynchronous
async def test_a_reader_goes_on_where_an_answer_broke_off(driver: S3Driver, proxy: Proxy) -> None:
    data = os.urandom(3 * MEBIBYTE)
    await driver.put(KEY, data)
    meet(proxy, first(3, "GET", cut_after(700_000)))
    assert await drain(await driver.open(KEY, 100, len(data))) == data[100:]
    assert len(proxy.seen) >= 4


@asynchronous
async def test_a_reader_never_mixes(driver: S3Driver, proxy: Proxy) -> None:
    await driver.put(KEY, b"a" * MEBIBYTE)
    meet(proxy, first(1, "GET", cut_after(300_000)))
    reader = await driver.open(KEY, 0, MEBIBYTE)
    assert await reader.read(1000) == b"a" * 1000
    await driver.put(KEY, b"b" * MEBIBYTE)
    with pytest.raises(StorageUnavailable):
        await drain(reader)


@asynchronous
async def test_a_dead_server_is_asked_now_and_then(driver: S3Driver, proxy: Proxy) -> None:
    now = 0.0
    transport = driver.client.transport
    transport.breaker = Breaker(lambda: now, threshold=3, pause=5)
    transport.budget = Budget(room=2)
    meet(proxy, lambda line: REFUSED)
    with pytest.raises(StorageUnavailable, match="SlowDown"):
        await driver.get(KEY)
    asked = len(proxy.seen)
    assert asked == 3
    for _ in range(3):
        with pytest.raises(StorageUnavailable, match="does not answer"):
            await driver.get(KEY)
    with pytest.raises(StorageUnavailable):
        await driver.check()
    assert len(proxy.seen) == asked
    meet(proxy, lambda line: None)
    now = 6.0
    await driver.check()
    assert not transport.breaker.open


@asynchronous
async def test_a_missing_bucket_is_told_at_start(moto_server: Server, threads: IWorld) -> None:
    driver = make_driver(S3Settings(**moto_server.settings("not-there")), threads)
    with pytest.raises(StorageUnavailable, match=r"NoSuchBucket.*mend storage\.s3\.bucket"):
        await driver.start()
    await driver.stop()


@asynchronous
async def test_an_outage_does_not_keep_from_starting(moto_server: Server, threads: IWorld) -> None:
    settings = moto_server.settings("bucket", regionendpoint="http://127.0.0.1:9")
    driver = make_driver(S3Settings(**settings), threads)
    driver.client.transport.budget = Budget(room=0)
    await driver.start()
    with pytest.raises(StorageUnavailable, match=r"127\.0\.0\.1:9"):
        await driver.check()
    await driver.stop()


@asynchronous
async def test_wrong_keys_are_told(radosgw_server: Server, threads: IWorld) -> None:
    for wrong, text in (
        ({"secretkey": "wrong"}, "SignatureDoesNotMatch.*secret key does not belong"),
        ({"accesskey": "AKIAWRONG"}, "InvalidAccessKeyId.*no such access key"),
    ):
        bucket = radosgw_server.bucket()
        settings = S3Settings(**{**radosgw_server.settings(bucket), **wrong})
        driver = make_driver(settings, threads)
        with pytest.raises(StorageUnavailable, match=text):
            await driver.start()
        await driver.stop()


@pytest.mark.parametrize(
    ("address", "chosen", "signed"),
    [
        ("http://s3.example", None, True),
        ("https://s3.example", None, False),
        ("http://s3.example", False, False),
        ("https://s3.example", True, True),
    ],
)
@asynchronous
async def test_bodies_are_signed_where_nothing_else_keeps_them_whole(
    threads: IWorld, address: str, chosen: bool | None, signed: bool
) -> None:
    settings = S3Settings(
        bucket="some", region="here", regionendpoint=address, signbodies=chosen,
        accesskey="key", secretkey="secret",
    )  # fmt: skip
    transport = make_driver(settings, threads).client.transport
    body = b"the body"
    expected = sha256(body).hexdigest() if signed else "UNSIGNED-PAYLOAD"
    assert await transport.digest_field([body]) == expected
    assert await transport.digest_field([]) == sha256(b"").hexdigest()


@asynchronous
async def test_unsigned_bodies_are_taken(moto_server: Server, threads: IWorld) -> None:
    driver = make_driver(
        S3Settings(**moto_server.settings(moto_server.bucket(), signbodies=False)), threads
    )
    data = os.urandom(12 * MEBIBYTE)
    await push(driver, data)
    assert await content(driver, KEY) == data
    await driver.stop()


@asynchronous
async def test_connections_are_not_logged_and_send_at_once(
    moto_server: Server, threads: IWorld
) -> None:
    uri = URI.fromBytes(moto_server.url.encode())
    with capturedLogs() as logged:
        way = Ways(threads.reactor, None, 5).endpointForURI(uri)
        protocol = await way.connect(Factory.forProtocol(Protocol))
        assert type(protocol.transport) is DirectClient
        protocol.transport.abortConnection()
    assert [each for each in logged if "factory" in each.get("log_format", "")] == []
