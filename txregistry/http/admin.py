"""The operator's listener: whether the service is alive, and whether it works.

May import Klein, the interfaces and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, cast

from klein import Klein
from klein.resource import KleinResource
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ..finishing import deferred
from ..interfaces import IHealth
from .answers import Answer, json_answer
from .problems import answer_to
from .request import RegistryRequest
from .sending import send

Render = Callable[[str], Awaitable[tuple[str, bytes]]]


class AdminApp:
    """Health checks, for service managers and load balancers.

    :param checks: what has to work, by name.
    :param draining: tells whether the service is about to end.
    :param failing: tells what has failed, by name.
    :param switch: is told to switch the service off or on.
    :param metrics: by their path, what gives a media type and a text for a field ``Accept``.
    """

    def __init__(
        self,
        checks: dict[str, IHealth],
        draining: Callable[[], bool],
        failing: Callable[[], dict[str, str]],
        switch: Callable[[bool], None],
        metrics: Mapping[str, Render] = MappingProxyType({}),
    ) -> None:
        self._checks = checks
        self._draining = draining
        self._failing = failing
        self._switch = switch
        self.klein = Klein()
        self.klein.url_map.strict_slashes = False
        for path, answer in (
            ("/livez", self._alive),
            ("/readyz", self._ready),
            ("/debug/health", self._health),
        ):
            self._add(path, lambda _, answer=answer: answer())  # type: ignore[misc]
        for path, off in (("/debug/health/down", True), ("/debug/health/up", False)):
            self._add(path, partial(self._by_hand, off), "POST")
        for path, render in metrics.items():
            self._add(path, partial(_show, render))
        self.klein.handle_errors(Exception)(cast(Any, _failed))

    def resource(self) -> KleinResource:
        """The resource for the site."""
        return self.klein.resource()

    def _add(
        self,
        path: str,
        answer: Callable[[RegistryRequest], Awaitable[Answer]],
        method: str = "GET",
    ) -> None:
        async def run(request: RegistryRequest) -> None:
            await send(request, await answer(request))

        self.klein.route(path, methods=[method], endpoint=path)(
            lambda request: deferred(run(request))
        )

    async def _alive(self) -> Answer:
        """The reactor turns; that is all."""
        return json_answer(200, {})

    async def _ready(self) -> Answer:
        """Requests would be served well."""
        failing = {**self._failing(), **await self._probed()}
        if self._draining():
            failing["service"] = "is about to end"
        return json_answer(503 if failing else 200, failing)

    async def _health(self) -> Answer:
        """As distribution tells it: failing checks by name, or an empty object."""
        failing = self._failing()
        return json_answer(503 if failing else 200, failing)

    async def _by_hand(self, off: bool, request: RegistryRequest) -> Answer:
        self._switch(off)
        return json_answer(200, {})

    async def _probed(self) -> dict[str, str]:
        failing: dict[str, str] = {}
        for name, check in self._checks.items():
            try:
                await check.check()
            except Exception as error:
                failing[name] = str(error)
        return failing


def _failed(request: RegistryRequest, failure: Failure) -> Deferred[None]:
    """An address that is not there, or something that nobody thought of."""
    answer = answer_to(cast(BaseException, failure.value))
    if answer is None or request.startedWriting:
        return Deferred.fromCoroutine(request.give_up())
    return Deferred.fromCoroutine(send(request, answer))


async def _show(render: Render, request: RegistryRequest) -> Answer:
    media_type, text = await render(request.header("Accept") or "")
    return Answer(200, [("Content-Type", media_type)], text)
