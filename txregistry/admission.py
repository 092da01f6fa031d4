"""Who comes in: authenticators, rules and our own tokens, assembled from the settings.

May import everything.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen
from twisted.logger import Logger

from .auth.access_settings import Access, fixed_tags, policy
from .auth.admins import Administrators
from .auth.apikeys import NAME as KEYS
from .auth.apikeys import ApiKeys
from .auth.checked import CheckedAuthenticator, CheckedPolicy
from .auth.current import CurrentPolicy
from .auth.damping import Damping
from .auth.gate import Gate
from .auth.key_office import KeyOffice
from .auth.settings import Auth, TokenServiceSettings
from .config.settings import Settings
from .http.routes import TOKEN
from .interfaces import (
    Challenge,
    IAccessPolicy,
    IAccessPolicyMaker,
    IAuthenticator,
    IAuthenticatorMaker,
    IDoor,
    IGate,
    IKeyStore,
    ILifecycle,
    ITokenService,
)
from .model.access import Certificate
from .plugins import discover
from .registry.guarded import GuardedDoor
from .world import World

if TYPE_CHECKING:
    from .auth.issuing import TokenService

_log = Logger()


@frozen
class Admission:
    """What stands before the registry.

    ``door`` lets in whoever the rules let in; without a gate it lets in everybody. ``admins`` are
    None where nobody is asked who it is. ``living`` are
    the parts that want to be started and stopped, ``accounts`` the plugins that know accounts.
    """

    door: IDoor
    gate: IGate | None = None
    tokens: ITokenService | None = None
    policy: CurrentPolicy | None = None
    keys: KeyOffice | None = None
    admins: Administrators | None = None
    living: Sequence[ILifecycle] = ()
    accounts: Mapping[str, IAuthenticator] = {}
    world: World | None = None

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

    @property
    def changeable(self) -> bool:
        """Whether decisions may change without other settings, since somebody else makes them."""
        return self.policy is not None and isinstance(self.policy.inner, CheckedPolicy)

    async def change_rules(self, settings: Access) -> None:
        """Decide by other rules from now on.

        :raises ValueError: they cannot be used; the old ones stay in force.
        """
        if self.policy is None or self.world is None:
            return
        fresh = make_policy(settings, self.world)
        if isinstance(fresh, CheckedPolicy):
            await fresh.start()
        before, self.policy.inner = self.policy.inner, fresh
        if isinstance(before, CheckedPolicy):
            await before.stop()
        if self.admins is not None:
            self.admins.groups = settings.groups
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
    asked = {
        name: _authenticator(makers[name], options, world) for name, options in auth.authenticators
    }
    if not settings.http.tls.verifies_clients:
        for name, each in asked.items():
            if Certificate in each.takes:
                raise ValueError(
                    f"auth.{name} needs http.tls.clientcas, and an http.tls.clientauth that "
                    "verifies: verify-client-cert-if-given, or require-and-verify-client-cert"
                )
    accounts = asked
    office: KeyOffice | None = None
    admins = Administrators(auth.apikeys.admins, settings.access.groups)
    if auth.apikeys.enabled:
        office = KeyOffice(store, auth.apikeys, admins, time.time)
        asked = {KEYS: ApiKeys(store, asked, time.time), **asked}
    rules = CurrentPolicy(make_policy(settings.access, world))
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
    living = [rules, *(each for each in asked.values() if ILifecycle.providedBy(each))]
    gate = Gate(asked, damping, shown, time.time)
    return Admission(
        GuardedDoor(door, rules), gate, tokens, rules, office, admins, living, accounts, world
    )


def make_policy(settings: Access, world: World) -> IAccessPolicy:
    """The policy that the section ``access`` describes or names.

    :raises ValueError: it refuses its settings.
    """
    if settings.policy is None:
        return policy(settings)
    name, options = settings.policy
    maker = discover(IAccessPolicyMaker).makers[name]
    try:
        made = maker.make(options, world)
    except ValueError as error:
        raise ValueError(f"access.{name}: {error}") from error
    except Exception as error:
        _log.failure("the access policy {name} cannot be made", name=name)
        raise ValueError(f"access.{name} cannot be made: {error!r}") from error
    return CheckedPolicy(name, made, world.reactor.seconds, fixed_tags(settings))


def _authenticator(maker: IAuthenticatorMaker, options: Any, world: World) -> IAuthenticator:
    """An authenticator; those of others are not trusted to keep to the interface."""
    made: IAuthenticator = maker.make(options, world)
    if type(maker).__module__.startswith(f"{__package__}."):
        return made
    return CheckedAuthenticator(maker.name, made, world.reactor)


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
