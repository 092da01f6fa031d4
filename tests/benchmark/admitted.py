"""What it costs to look who asks: the same requests with credentials, and behind a proxy.

Each round measures the same requests without, at the server that everybody may ask, before it and
after it.
"""

from __future__ import annotations

from collections.abc import Callable

from accounts import basic, password_file, token
from attrs import define
from content import APP
from loops import Loops, request
from measure import Measure, Workload
from servers import Server
from stand import Stand

CLIENTS = 50
"""Addresses that a proxy tells of."""

LEAST = 1e-6
"""Seconds of a request, where a round is too short for the kernel to have counted any."""


@define(eq=False)
class Admitted:
    """Makes these workloads; a value is how many times the processor time it is."""

    loops: Loops
    stand: Stand

    def all(self) -> list[Workload]:
        """Every one of them."""
        return [
            self._workload("by a password", self._with_accounts, by_password),
            self._workload("by a token", self._with_accounts, by_token),
            self._workload("through a proxy", self._with_a_proxy, through_a_proxy),
        ]

    def _workload(
        self,
        name: str,
        start: Callable[[Server], Server],
        texts: Callable[[Server, str], list[str]],
    ) -> Workload:
        def run(server: Server) -> Measure:
            asked = start(server)
            plain = request(server, f"/v2/{APP}/manifests/latest")
            before = self._round(server, [plain])
            found = self._round(asked, texts(asked, plain))
            after = self._round(server, [plain])
            without = max((before.cpu + after.cpu) / 2, LEAST)
            found.value, found.more = max(found.cpu, LEAST) / without, {"without": without}
            return found

        name = f"manifest GET, 16 conn, {name}: CPU beside without"
        return Workload(name, "x", run, less=True, peerless=True)

    def _round(self, server: Server, texts: list[str]) -> Measure:
        return self.loops.run(server, self.loops.load(server, texts, 16))

    def _with_accounts(self, server: Server) -> Server:
        path = self.stand.directory / "accounts"
        if not path.exists():
            password_file(path, "alice")
        rule = {"repositories": ["bench/**"], "groups": {"team": ["pull"]}}
        settings = {
            "auth": {"htpasswd": {"path": str(path)}, "tokenservice": {"enabled": True}},
            "access": {"groups": {"team": ["alice"]}, "rules": [rule]},
        }
        return self.stand.beside(server, "accounts-asked", settings)

    def _with_a_proxy(self, server: Server) -> Server:
        return self.stand.beside(server, "proxied", {"http": {"proxies": ["127.0.0.1"]}})


def by_password(server: Server, plain: str) -> list[str]:
    """With a login."""
    return [with_fields(plain, basic("alice"))]


def by_token(server: Server, plain: str) -> list[str]:
    """With a token of the registry."""
    return [with_fields(plain, token(server, "alice", f"repository:{APP}:pull"))]


def through_a_proxy(server: Server, plain: str) -> list[str]:
    """From many clients, each request with an identifier of its own."""
    told = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "registry.example"}
    return [
        with_fields(
            plain,
            {"X-Forwarded-For": f"203.0.113.{each}", "X-Request-Id": f"{each:032x}", **told},
        )
        for each in range(CLIENTS)
    ]


def with_fields(text: str, fields: dict[str, str]) -> str:
    """A request with more header fields."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{text[:-2]}{lines}\r\n"
