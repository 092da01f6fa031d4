"""Finished answers, given again: the hot path for reading.

A request that the handlers have answered is answered again from here, as long as nothing has
changed that the answer depends on. What is kept is found by the exact bytes of the request: the
header lines, which passed the strict reading once and tell who asks, and the request line; and by
the certificate of the connection, which tells it as well.
Anything unusual is not found and takes the long way, which alone decides and alone keeps.

May import the standard library, the interfaces' types, the log and other modules of this room.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from attrs import define, evolve, field, frozen

from ..interfaces import StorageError, Touched
from ..log import Access
from ..model.events import Pulled
from .access import shown_address
from .answers import EVERYTHING, Answer, Live, Stream
from .counting import Again, HttpCounters
from .heads import Head
from .proxies import Sender, split_passed
from .sending import is_there, last_fields, open_again
from .throttle import Throttle

if TYPE_CHECKING:
    from .connection import Connection
    from .request import RegistryRequest
    from .site import RegistrySite

VISITORS = 4096
"""Header blocks that are remembered."""

BLOCK = 2048
"""Bytes of a header block that is remembered."""

OVERHEAD = 500
"""Bytes that an answer costs beside its own."""

ASKER = (b"authorization",)
"""Header fields that tell who asks: answers are kept for each of their values apart."""

UNUSUAL = frozenset(
    {
        b"connection",
        b"content-encoding",
        b"content-length",
        b"expect",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"range",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Header fields that answers depend on, beside those that tell who asks."""

IDENTIFIER = b"x-request-id"
LINE_FEED = 10

_GIVEN = re.compile(rb"(?i)x-request-id:[ \t]*([a-z0-9._-]{1,64})[ \t]*\r\n")
"""The line with an identifier that the client gives to a request, another one each time."""

Key = tuple[bytes, bytes]
"""Who asks, and the request line."""


class IChanging(Protocol):
    """The part of the metadata that tells what has changed."""

    def revision(self) -> int:
        """A number that is another one after every change."""

    def touched(self, after: int | None) -> Touched:
        """Repositories that changed behind a position."""

    def notice(self) -> None:
        """Change the number if a change can be read that nobody may have told of yet."""


@frozen
class Recipe:
    """What an answer would be found by: the header lines as they came.

    ``revision`` is what the database had before the answer was made.
    """

    block: bytes
    revision: int


@frozen
class Visitor:
    """Who asks, by a certificate and header lines that were read before.

    ``until`` is when the credentials have to be looked at again, in seconds since the epoch;
    ``name`` that of the account, empty without one.
    """

    asker: bytes
    until: float
    name: str
    user_agent: str
    host: str
    referer: str


@define(eq=False)
class Kept:
    """An answer: its head without the last fields, and its body or the file of its body.

    The file of an answer to HEAD is the one that it tells of.
    ``repository`` is what it depends on, None for an answer that always holds; ``route`` is the
    name of its route, ``again`` tells how it is counted, ``pulled`` is what a client gets with it.
    """

    head: bytes
    body: bytes
    path: Path | None
    length: int
    repository: str | None
    method: str
    uri: str
    cost: int
    route: str = ""
    again: Again | None = None
    pulled: Pulled | None = None


@define(eq=False)
class Replay:
    """The answers that are kept.

    :param changing: tells what has changed.
    :param room: bytes that answers may take.
    :param throttle: counts requests; those that are too many take the long way, and are refused.
    :param counters: count what is found here.
    :param shut: tells whether nobody is served for now.
    :param unusual: header fields with which requests always take the long way.
    """

    changing: IChanging
    room: int
    throttle: Throttle | None = None
    counters: HttpCounters | None = None
    shut: Callable[[], bool] | None = None
    unusual: frozenset[bytes] = UNUSUAL
    _visitors: dict[tuple[bytes, bytes], Visitor] = field(factory=dict)
    _kept: OrderedDict[Key, Kept] = field(factory=OrderedDict)
    _places: dict[str, set[Key]] = field(factory=dict)
    _used: int = 0
    _revision: int | None = None
    _position: int | None = None

    # --- giving ------------------------------------------------------------------------------

    def answer(self, connection: Connection, data: bytes) -> bool:
        """Answer a request if its answer is kept.

        :param data: what has arrived: a request head and nothing else, or whatever it is.
        :return: whether it was answered.
        """
        if self.shut is not None and self.shut():
            return False
        line, _, block = data.partition(b"\r\n")
        sender = connection.client
        if sender.proxy:
            found = len(block) <= BLOCK and connection.site.proxies.apart(sender, block)
            if not found:
                return False
            sender, block = found
        certificate = connection.certificate
        visitor = self._visitors.get((certificate, block))
        given = ""
        if visitor is None:
            block, given = without_identifier(block)
            visitor = self._visitors.get((certificate, block)) if given else None
            if visitor is None:
                return False
        began = time.time()
        if visitor.until <= began:
            del self._visitors[certificate, block]
            return False
        key = (visitor.asker, line)
        kept = self._kept.get(key)
        if kept is None:
            return False
        if self.changing.revision() != self._revision:
            self._catch_up()
            if key not in self._kept:
                return False
        if self.throttle is not None and not self.throttle.allows(sender.host, visitor.name):
            return False
        self._kept.move_to_end(key)
        if kept.path is not None:
            if kept.method != "HEAD":
                return self._give_file(connection, key, kept, visitor, sender, given)
            if not is_there(kept.path):
                self._drop(key)
                return False
        identifier = given or connection.site.new_identifier()
        connection.give(kept.head + last_fields(identifier) + kept.body)
        _note_pull(connection, kept, visitor, sender, identifier)
        _note(connection, kept, visitor, sender, identifier, began, 200, kept.length)
        return True

    def _give_file(
        self,
        connection: Connection,
        key: Key,
        kept: Kept,
        visitor: Visitor,
        sender: Sender,
        given: str,
    ) -> bool:
        assert kept.path is not None
        descriptor = open_again(kept.path)
        if descriptor < 0:
            self._drop(key)
            return False
        began = time.time()
        identifier = given or connection.site.new_identifier()
        counters = self.counters
        if counters is not None:
            counters.began(kept.route)

        def ended(sent: int, complete: bool) -> None:
            status = 200 if complete else 499
            if counters is not None:
                counters.left(kept.route)
            _note(connection, kept, visitor, sender, identifier, began, status, sent)

        head = kept.head + last_fields(identifier)
        _note_pull(connection, kept, visitor, sender, identifier)
        connection.give_file(head, descriptor, kept.length, ended)
        return True

    # --- keeping -----------------------------------------------------------------------------

    def recipe(self, head: Head, block: bytes, peer: Sender) -> Recipe | None:
        """What the answer to a request may be kept by; None where it may not.

        :param block: the head as it came, without the empty line.
        :param peer: the other end of the connection.
        """
        names = [name.lower() for name, _ in head.fields]
        if (
            head.method not in (b"GET", b"HEAD")
            or head.version != b"HTTP/1.1"
            or head.length != 0
            or len(block) > BLOCK
            or not self.unusual.isdisjoint(names)
            or names.count(IDENTIFIER) > 1
        ):
            return None
        if self.counters is not None:
            self.counters.missed()
        lines = block.partition(b"\r\n")[2] + b"\r\n\r\n"
        if peer.proxy:
            lines = split_passed(lines)[1]
        return Recipe(without_identifier(lines)[0], self.changing.revision())

    def keep(self, request: RegistryRequest, head: bytes, answer: Answer) -> None:
        """Keep an answer that is given for the first time.

        :param head: the bytes of its head.
        """
        reuse, recipe = answer.reuse, request.recipe
        if reuse is None or recipe is None or isinstance(answer.body, Live):
            return
        if self.changing.revision() != recipe.revision:
            # Something has changed meanwhile; whether the answer is older or newer is open.
            return
        if recipe.revision != self._revision:
            self._catch_up()
        body, path, length = b"", reuse.path, 0
        if request.method != b"HEAD":
            length = answer.content_length or 0
            if not isinstance(answer.body, Stream):
                body = answer.body
            elif answer.body.path is None or request.connection.files is None:
                return
            else:
                path = answer.body.path
        visitor = self._visit(recipe, request)
        line = b"%b %b %b" % (request.method, request.uri, request.clientproto)
        prefix = head[: -len(last_fields(request.identifier))]
        again = None
        if self.counters is not None:
            again = Again(self.counters.places(request.route, request.method, 200), length)
        self._store(
            (visitor.asker, line),
            Kept(
                prefix,
                body,
                path,
                length,
                reuse.repository,
                request.method.decode("ascii"),
                shown_address(request.uri),
                len(prefix) + len(body) + 2 * len(line) + OVERHEAD,
                request.route,
                again,
                answer.pulled,
            ),
        )

    def _store(self, key: Key, kept: Kept) -> None:
        self._drop(key)
        if kept.cost > self.room // 8:
            return
        self._kept[key] = kept
        self._used += kept.cost
        if kept.repository is not None:
            self._places.setdefault(kept.repository, set()).add(key)
        while self._used > self.room:
            self._drop(next(iter(self._kept)))
        self._tell_size()

    def _tell_size(self) -> None:
        if self.counters is not None:
            self.counters.kept(len(self._kept), self._used)

    def _visit(self, recipe: Recipe, request: RegistryRequest) -> Visitor:
        identity = request.identity
        lines = [request.requestHeaders.getRawHeaders(name, []) for name in ASKER]
        certificate = request.connection.certificate
        timeless = evolve(identity, until=0.0, ends=0.0)
        asker = repr((timeless, lines, hashlib.sha256(certificate).digest())).encode()
        visitor = self._visitors.get((certificate, recipe.block))
        if visitor is None or visitor.asker != asker or visitor.until < identity.until:
            if len(self._visitors) >= VISITORS:
                self._visitors.clear()
            visitor = Visitor(
                asker,
                identity.until,
                identity.name,
                request.header("User-Agent") or "",
                request.header("Host") or "",
                shown_address((request.header("Referer") or "").encode("latin-1")),
            )
            self._visitors[certificate, recipe.block] = visitor
        return visitor

    # --- forgetting --------------------------------------------------------------------------

    def forget(self) -> None:
        """Drop everything."""
        self._visitors.clear()
        self._kept.clear()
        self._places.clear()
        self._used = 0
        self._tell_size()

    def _catch_up(self) -> None:
        """Drop what has changed since the last look."""
        # The revision first: a change between the two reads is met again at the next look.
        revision = self.changing.revision()
        try:
            touched = self.changing.touched(self._position)
        except StorageError:
            self.forget()
            return
        self._revision, self._position = revision, touched.position
        self._drop_places(touched.repositories)

    def _drop_places(self, repositories: Collection[str] | None) -> None:
        if repositories is None:
            repositories = list(self._places)
        elif repositories:
            repositories = [*repositories, EVERYTHING]
        for repository in repositories:
            for key in list(self._places.get(repository, ())):
                self._drop(key)
        self._tell_size()

    def _drop(self, key: Key) -> None:
        kept = self._kept.pop(key, None)
        if kept is None:
            return
        self._used -= kept.cost
        if kept.repository is not None:
            keys = self._places[kept.repository]
            keys.discard(key)
            if not keys:
                del self._places[kept.repository]


def without_identifier(block: bytes) -> tuple[bytes, str]:
    """Header lines without the one that gives an identifier, and the identifier, if there is one.

    What is left is compared with lines that were read strictly, so nothing else is looked at here.
    """
    start = block.lower().find(b"x-request-id:")
    if start < 0 or (start and block[start - 1] != LINE_FEED):
        return block, ""
    match = _GIVEN.match(block, start)
    if match is None:
        return block, ""
    return block[:start] + block[match.end() :], match[1].decode("ascii")


def _note_pull(
    connection: Connection, kept: Kept, visitor: Visitor, sender: Sender, identifier: str
) -> None:
    """Tell of a pull, where somebody wants to know."""
    pulls = connection.site.pulls
    if pulls is not None and kept.pulled is not None:
        pulls.note(
            kept.pulled,
            identifier,
            sender.name,
            visitor.host,
            kept.method,
            visitor.user_agent,
            visitor.name,
        )


def _note(
    connection: Connection,
    kept: Kept,
    visitor: Visitor,
    sender: Sender,
    identifier: str,
    began: float,
    status: int,
    length: int,
) -> None:
    """Tell the counters and the access log of a request."""
    site: RegistrySite = connection.site
    counters = site.counters
    if counters is None and not site.access.enabled:
        return
    now = time.time()
    if counters is not None:
        if kept.again is not None and status == 200:
            counters.again(kept.again, now - began)
        else:
            places = counters.places(kept.route, kept.method.encode(), status)
            counters.partly(places, now - began, length)
    if not site.access.enabled:
        return
    site.access.note(
        Access(
            now,
            identifier,
            sender.name,
            kept.method,
            kept.uri,
            "HTTP/1.1",
            status,
            length,
            0,
            now - began,
            visitor.user_agent,
            visitor.host,
            visitor.name,
            visitor.referer,
            kept.route,
        )
    )
