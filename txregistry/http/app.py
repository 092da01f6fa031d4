"""The Klein app: the table of routes joined to the handlers, and how handlers are run.

May import Klein, Twisted and other modules of this room.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any, cast

from attrs import evolve
from klein import Klein
from klein.resource import KleinResource
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from werkzeug.exceptions import MethodNotAllowed

from ..finishing import shield
from ..interfaces import (
    IDoor,
    IEventFeed,
    IGate,
    IKeyOffice,
    IRegistry,
    IRepositoryOffice,
    ITokenService,
)
from ..log import request_id
from ..log import route as route_name
from ..model.access import ANONYMOUS, Identity
from ..model.errors import TooManyRequests, Unauthorized, Unavailable
from . import routes
from .addresses import Addresses
from .answers import Answer, Reuse
from .blobs import BlobHandlers
from .credentials import Challenges, read_credentials
from .deleting import DeletionHandlers
from .events import EventHandlers
from .history import HistoryHandlers
from .holdings import HoldingHandlers
from .keys import KeyHandlers
from .lists import ListHandlers
from .manifests import ManifestHandlers
from .problems import answer_to
from .request import RegistryRequest
from .rules import Rules
from .sending import send
from .throttle import Throttle
from .tokens import TokenHandlers
from .uploads import UploadHandlers

Endpoint = Callable[..., Awaitable[Answer]]

READING = frozenset({b"GET", b"HEAD"})

PENALTY = 0.5, 1.5
"""Seconds until those are refused who ask too much: between these, so that they do not come back
all at once."""


class RegistryApp:
    """The HTTP side of a registry.

    :param door: admits requests to the registry.
    :param addresses: where answers say that things are.
    :param rules: sizes and page limits.
    :param gate: finds out who asks; None lets in everybody.
    :param tokens: gives out tokens, where this registry does.
    :param keys: makes API keys, where this registry does.
    :param throttle: counts requests.
    :param shut: tells whether nobody is served for now.
    :param feed: lets clients follow events, where this registry does.
    :param office: tells of repositories what the specification does not ask, where there is one.
    """

    def __init__(
        self,
        door: IDoor,
        addresses: Addresses,
        rules: Rules,
        gate: IGate | None = None,
        tokens: ITokenService | None = None,
        keys: IKeyOffice | None = None,
        throttle: Throttle | None = None,
        shut: Callable[[], bool] | None = None,
        feed: IEventFeed | None = None,
        office: IRepositoryOffice | None = None,
    ) -> None:
        self._door = door
        self._throttle = throttle
        self._shut = shut
        self._gate = gate
        if gate is not None:
            self._challenges = Challenges(gate.challenge(), addresses.base, addresses.prefix)
        self.klein = Klein()
        self.klein.url_map.strict_slashes = False
        self.klein.url_map.merge_slashes = False
        blobs = BlobHandlers(addresses, rules.redirect_lifetime)
        manifests = ManifestHandlers(addresses, rules)
        uploads = UploadHandlers(addresses)
        lists = ListHandlers(addresses, rules)
        table: dict[routes.Route, dict[str, Endpoint]] = {
            routes.ALIVE: {"GET": self._alive},
            routes.BASE: {"GET": self._base},
            routes.CATALOG: {"GET": lists.catalog},
            routes.TAGS: {"GET": lists.tags},
            routes.REFERRERS: {"GET": lists.referrers},
            routes.MANIFEST: {
                "GET": manifests.get,
                "PUT": manifests.put,
                "DELETE": manifests.delete,
            },
            routes.BLOB: {"GET": blobs.get, "DELETE": blobs.delete},
            routes.UPLOADS: {"POST": uploads.start},
            routes.UPLOAD: {
                "GET": uploads.status,
                "PATCH": uploads.append,
                "PUT": uploads.finish,
                "DELETE": uploads.cancel,
            },
        }
        served = list(routes.ROUTES)
        if gate is not None and tokens is not None:
            issuing = TokenHandlers(gate, tokens)
            table[routes.TOKEN] = {"GET": issuing.get, "POST": issuing.post}
            table[routes.TOKEN_KEYS] = {"GET": issuing.keys}
            served += routes.TOKEN_ROUTES
        if keys is not None:
            of_keys = KeyHandlers(keys)
            table[routes.KEYS] = {"GET": of_keys.listed, "POST": of_keys.make}
            table[routes.KEY] = {"DELETE": of_keys.revoke}
            served += routes.KEY_ROUTES
        if feed is not None:
            table[routes.EVENTS] = {"GET": EventHandlers(feed, self._identify).follow}
            served += routes.EVENT_ROUTES
        if office is not None:
            table.update(_of_office(office))
            served += routes.OFFICE_ROUTES
        for route in served:
            for method in route.methods:
                self._add(route, method, table[route][method], addresses.prefix)
        self.klein.handle_errors(Exception)(cast(Any, self._unrouted))

    def resource(self) -> KleinResource:
        """The resource for the site."""
        return self.klein.resource()

    def _add(self, route: routes.Route, method: str, endpoint: Endpoint, prefix: str) -> None:
        def run(request: RegistryRequest, **parts: str) -> Deferred[None]:
            work = self._run(request, route, endpoint, parts)
            # A change runs to its end even if its client leaves in the middle.
            if request.method in READING:
                return Deferred.fromCoroutine(work)
            return shield(work)

        self.klein.route(
            prefix.rstrip("/") + route.rule,
            methods=[method],
            endpoint=f"{route.name}:{method}",
        )(run)

    async def _run(
        self,
        request: RegistryRequest,
        route: routes.Route,
        endpoint: Endpoint,
        parts: dict[str, str],
    ) -> None:
        request.route = route.name
        if request.site.counters is not None:
            request.site.counters.began(route.name)
        token = request_id.set(request.identifier)
        place = route_name.set(route.name)
        try:
            try:
                answer: Answer | None = await self._answer(request, route, endpoint, parts)
            except Unauthorized as error:
                answer = self._unauthorized(request, error)
            except Exception as error:
                answer = answer_to(error)
            if answer is None:
                await request.give_up()
            else:
                await send(request, answer)
        finally:
            route_name.reset(place)
            request_id.reset(token)

    async def _answer(
        self,
        request: RegistryRequest,
        route: routes.Route,
        endpoint: Endpoint,
        parts: dict[str, str],
    ) -> Answer:
        if self._shut is not None and self._shut():
            raise Unavailable("this registry is out of service: a health check fails")
        # Whoever only looks whether somebody is there is never refused.
        throttle = None if route is routes.ALIVE else self._throttle
        host = request.client_host()
        try:
            if throttle is not None:
                throttle.from_address(host)
            if self._gate is not None:
                request.identity = await self._identify(request)
                if throttle is not None:
                    throttle.from_account(request.identity.name)
            registry = await self._door.admit(request.origin(), request.identity)
            return await endpoint(registry, request, **parts)
        except TooManyRequests:
            # Who goes on at once, over as many connections as there may be, costs little then.
            await deferLater(request.site.reactor, random.uniform(*PENALTY))
            raise

    async def _identify(self, request: RegistryRequest) -> Identity:
        """Who asks, as of now.

        :raises Unauthorized: that cannot be told, or not any more.
        """
        if self._gate is None:
            return ANONYMOUS
        # What a client sends on purpose goes before what every request of it has.
        credentials = read_credentials(request.header("Authorization"))
        if credentials is None:
            credentials = request.certificate()
        return await self._gate.identify(credentials, request.client_host())

    def _unauthorized(self, request: RegistryRequest, error: Unauthorized) -> Answer | None:
        """401 with the challenge, which is needed to try again."""
        answer = answer_to(error)
        assert answer is not None
        challenge = ("WWW-Authenticate", self._challenges.field(request, error))
        return evolve(answer, fields=(*answer.fields, challenge))

    def _unrouted(self, request: RegistryRequest, failure: Failure) -> Deferred[None]:
        """No route, a method it does not take, or a failure while sending."""
        request_id.set(request.identifier)
        route_name.set(request.route)
        error = cast(BaseException, failure.value)
        if request.startedWriting:
            answer_to(error)
            return Deferred.fromCoroutine(request.give_up())
        if isinstance(error, MethodNotAllowed) and request.method == b"OPTIONS":
            allowed = ", ".join(sorted({*(error.valid_methods or ()), "OPTIONS"}))
            answer: Answer | None = Answer(200, [("Allow", allowed)])
        else:
            answer = answer_to(error)
        assert answer is not None
        return Deferred.fromCoroutine(send(request, answer))

    async def _alive(self, registry: IRegistry, request: RegistryRequest) -> Answer:
        return Answer(200, [("Cache-Control", "no-cache")])

    async def _base(self, registry: IRegistry, request: RegistryRequest) -> Answer:
        """Distribution-spec 1.1, "Determining Support".

        Clients look here how to authenticate, so whoever brings nothing is told, even where some
        things are for everybody.
        """
        if self._gate is not None and request.identity is ANONYMOUS:
            raise Unauthorized("authentication is required")
        return Answer(200, [("Content-Type", "application/json")], b"{}", reuse=Reuse(None))


def _of_office(office: IRepositoryOffice) -> dict[routes.Route, dict[str, Endpoint]]:
    """What an office answers."""
    deleting, history = DeletionHandlers(office), HistoryHandlers(office)
    holdings = HoldingHandlers(office)
    return {
        routes.REPOSITORIES: {"GET": holdings.repositories},
        routes.REPOSITORY: {"GET": holdings.repository, "DELETE": deleting.repository},
        routes.REPOSITORY_IMPACT: {"GET": deleting.repository},
        routes.REPOSITORY_HISTORY: {"GET": history.moves},
        routes.REPOSITORY_DIFF: {"GET": history.diff},
        routes.RETENTION: {"GET": holdings.retention},
        routes.ONE_TAG: {"GET": history.tag, "DELETE": deleting.tag},
        routes.TAG_IMPACT: {"GET": deleting.tag},
        routes.TAG_HISTORY: {"GET": history.moves},
        routes.TAG_RESTORE: {"POST": history.restore},
        routes.ONE_MANIFEST: {"DELETE": deleting.manifest},
        routes.MANIFEST_IMPACT: {"GET": deleting.manifest},
        routes.IMAGE: {"DELETE": deleting.image},
        routes.IMAGE_IMPACT: {"GET": deleting.image},
        routes.DIGEST: {"GET": holdings.digest},
        routes.COLLECTION: {"GET": holdings.collection},
    }
