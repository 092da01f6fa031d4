"""Who comes in: authenticators, rules and our own tokens, assembled from the settings.

May import everything but the rooms that serve.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from attrs import field, frozen
from twisted.logger import Logger

from .auth.access_settings import Access, policy
from .auth.current import CurrentPolicy
from .auth.damping import Damping
from .auth.gate import Gate
from .auth.issuing import TokenService
from .auth.settings import Auth
from .auth.signing_keys import watched_keys
from .config.settings import Settings
from .interfaces import (
    Challenge,
    IAuthenticator,
    IAuthenticatorMaker,
    IDoor,
    IGate,
    ILifecycle,
    ITokenService,
)
from .plugins import discover
from .registry.guarded import GuardedDoor
from .world import World

_log = Logger()

TOKEN_PATH = "/auth/token"


@frozen
class Admission:
    """What stands before the registry.

    ``door`` lets in whoever the rules let in; without a gate it lets in everybody.
    """

    door: IDoor
    gate: IGate | None = None
    tokens: ITokenService | None = None
    authenticators: Mapping[str, IAuthenticator] = field(factory=dict)
    policy: CurrentPolicy | None = None

    async def start(self) -> None:
        """Start the authenticators that want it.

        :raises ValueError: one cannot work.
        """
        for each in self.authenticators.values():
            lifecycle = ILifecycle(each, None)
            if lifecycle is not None:
                await lifecycle.start()

    def change_rules(self, settings: Access) -> None:
        """Decide by other rules from now on."""
        if self.policy is None:
            return
        before, self.policy.inner = self.policy.inner, policy(settings)
        if self.policy.grants_anonymous() and not before.grants_anonymous() and not self.tokens:
            _log.warn(
                "rules grant something to anonymous now; clients are told so by a restart only"
            )

    async def stop(self) -> None:
        """Stop them."""
        for each in self.authenticators.values():
            lifecycle = ILifecycle(each, None)
            if lifecycle is not None:
                await lifecycle.stop()


def admit_to(door: IDoor, settings: Settings, world: World) -> Admission:
    """Put a gate before a registry, if the settings want one.

    :raises ValueError: an authenticator refuses its settings, or the keys cannot be used.
    """
    auth = settings.auth
    if not auth.authenticators:
        return Admission(door)
    makers = discover(IAuthenticatorMaker).makers
    authenticators: dict[str, IAuthenticator] = {
        name: makers[name].make(options, world) for name, options in auth.authenticators
    }
    rules = CurrentPolicy(policy(settings.access))
    tokens: TokenService | None = None
    shown = _challenge(auth, makers)
    issuing = auth.tokenservice
    if issuing.enabled or (rules.grants_anonymous() and shown.scheme == "Basic"):
        tokens = TokenService(
            watched_keys(world.state_directory, world),
            issuing.service,
            rules,
            dict(authenticators),
            int(issuing.lifetime),
            int(issuing.offlinelifetime),
            time.time,
        )
        shown = Challenge("Bearer", service=issuing.service, path=TOKEN_PATH)
    asked: dict[str, IAuthenticator] = {**authenticators}
    if tokens is not None:
        asked = {"tokenservice": tokens, **authenticators}
    failures = auth.failures
    damping = Damping(
        world.reactor.seconds, failures.peraccount, failures.peraddress, failures.window
    )
    return Admission(
        GuardedDoor(door, rules), Gate(asked, damping, shown, time.time), tokens, asked, rules
    )


def _challenge(auth: Auth, makers: Mapping[str, IAuthenticatorMaker]) -> Challenge:
    """What clients are shown: an issuer of tokens if there is one, since it serves all of them."""
    found = [makers[name].challenge(options) for name, options in auth.authenticators]
    return next((each for each in found if each.scheme == "Bearer"), found[0])
