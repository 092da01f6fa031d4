"""One attempt to post something: what is sent, and what is not."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler

import pytest_twisted
from receiving import Received, receiving
from twisted.internet import reactor
from twisted.web.http_headers import Headers

from txregistry.reporters.posting import Poster


def baking(received: Received, handler: BaseHTTPRequestHandler) -> int:
    """Answers with a cookie."""
    handler.send_response(200)
    handler.send_header("Set-Cookie", "flavour=oat; Path=/")
    handler.send_header("Content-Length", "0")
    handler.end_headers()
    return 0


@pytest_twisted.ensureDeferred
async def test_cookies_are_not_kept() -> None:
    poster = Poster(reactor)
    with receiving(baking) as receiver:
        for _ in range(2):
            assert (await poster.post(receiver.url, Headers(), b"x")).status == 200
    assert len(receiver.seen) == 2
    assert all("cookie" not in each.fields for each in receiver.seen)
    await poster.stop()


@pytest_twisted.ensureDeferred
async def test_addresses_are_sent_as_they_are_written() -> None:
    """Escapes and queries reach the receiver; a part behind ``#`` is for nobody."""
    poster = Poster(reactor)
    with receiving() as receiver:
        base = receiver.url.rpartition("/")[0]
        for path in ("/a%2Fb/%7Bc%7D?x=1&y=%20+", "?z", ""):
            await poster.post(f"{base}{path}#hidden", Headers(), b"x")
    assert [each.path for each in receiver.seen] == ["/a%2Fb/%7Bc%7D?x=1&y=%20+", "/?z", "/"]
    await poster.stop()
