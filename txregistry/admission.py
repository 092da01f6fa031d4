"""Who comes in: authenticators, rules and our own tokens, assembled from the settings.

May import everything.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import frozen
from twisted.logger import Logger

from .auth.access_settings import Access, policy
from .auth.apikeys import NAME as KEYS
from .auth.apikeys import ApiKeys
from .auth.current import CurrentPolicy
from .auth.damping import Damping
from .auth.gate import Gate
from .auth.key_office import KeyOffice
from .auth.settings import Auth, TokenServiceSettings
from .config.settings import Settings
from .http.routes import TOKEN
from .interfaces import (
    Challenge,
    IAuthenticator,
    IAuthenticatorMaker,
    IDoor,
    IGate,
    IKeyStore,
    ILifecycle,
    ITokenService,
)
from .plugins import discover
from .registry.guarded import GuardedDoor
from .world import World

if TYPE_CHECKING:
    from .auth.issuing import TokenService

_log = Logger()


@frozen
class Admission:
    """What stands before the registry.

    ``door`` lets in whoever the rules let in; without a gate it lets in everybody. ``living`` are
    the parts that want to be started and stopped, ``accounts`` the plugins that know accounts.
    """

    door: IDoor
    gate: IGate | None = None
    tokens: ITokenService | None = None
    policy: CurrentPolicy | None = None
    keys: KeyOffice | None = None
    living: Sequence[ILifecycle] = ()
    accounts: Mapping[str, IAuthenticator] = {}

    async def start(self) -> None:
        """Start what wants it.

        :raises ValueError: a part cannot work.
        """
        for each in self.living:
            await each.start()

    async def stop(self) -> None:
        """Stop it."""
        for each in self.living:
            await each.stop()

    def change_rules(self, settings: Access) -> None:
        """Decide by other rules from now on."""
        if self.policy is None:
            return
        before, self.policy.inner = self.policy.inner, policy(settings)
        if self.keys is not None:
            self.keys.groups = settings.groups
        if self.policy.grants_anonymous() and not before.grants_anonymous() and not self.tokens:
            _log.warn(
                "rules grant something to anonymous now; clients are told so by a restart only"
            )


def admit_to(door: IDoor, settings: Settings, world: World, store: IKeyStore) -> Admission:
    """Put a gate before a registry, if the settings want one.

    :param store: where API keys are kept.
    :raises ValueError: an authenticator refuses its settings, or the keys cannot be used.
    """
    auth = settings.auth
    if not auth.asks:
        return Admission(door)
    makers = discover(IAuthenticatorMaker).makers
    asked: dict[str, IAuthenticator] = {
        name: makers[name].make(options, world) for name, options in auth.authenticators
    }
    accounts = asked
    office: KeyOffice | None = None
    if auth.apikeys.enabled:
        office = KeyOffice(store, auth.apikeys, settings.access.groups, time.time)
        asked = {KEYS: ApiKeys(store, asked, time.time), **asked}
    rules = CurrentPolicy(policy(settings.access))
    tokens: ITokenService | None = None
    shown = _challenge(auth, makers)
    if auth.tokenservice.enabled or (rules.grants_anonymous() and shown.scheme == "Basic"):
        service = _token_service(auth.tokenservice, rules, asked, world)
        tokens, asked = service, {"tokenservice": service, **asked}
        shown = Challenge("Bearer", service=service.service, path=TOKEN.rule)
    failures = auth.failures
    damping = Damping(
        world.reactor.seconds, failures.peraccount, failures.peraddress, failures.window
    )
    living = [each for each in asked.values() if ILifecycle.providedBy(each)]
    gate = Gate(asked, damping, shown, time.time)
    return Admission(GuardedDoor(door, rules), gate, tokens, rules, office, living, accounts)


def _token_service(
    settings: TokenServiceSettings,
    rules: CurrentPolicy,
    authenticators: Mapping[str, IAuthenticator],
    world: World,
) -> TokenService:
    """Our own tokens. The libraries for them are a part of a start that only some need."""
    from .auth.issuing import TokenService
    from .auth.signing_keys import watched_keys

    return TokenService(
        watched_keys(world.state_directory, world),
        settings.service,
        rules,
        authenticators,
        int(settings.lifetime),
        int(settings.offlinelifetime),
        time.time,
    )


def _challenge(auth: Auth, makers: Mapping[str, IAuthenticatorMaker]) -> Challenge:
    """What clients are shown: an issuer of tokens if there is one, since it serves all of them."""
    found = [makers[name].challenge(options) for name, options in auth.authenticators]
    found.append(Challenge("Basic", "registry"))
    return next((each for each in found if each.scheme == "Bearer"), found[0])
