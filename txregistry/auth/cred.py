"""Logins that a checker of ``twisted.cred`` knows.

Nothing is remembered: a checker does not tell when an account goes or gets another password, so
whoever is removed would stay in. May import twisted.cred, the interfaces and the model.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from attrs import define
from twisted.cred import strcred
from twisted.cred.checkers import ANONYMOUS
from twisted.cred.credentials import IUsernamePassword, UsernamePassword
from twisted.cred.error import LoginDenied, UnauthorizedLogin
from twisted.internet.defer import CancelledError, maybeDeferred
from twisted.logger import Logger
from zope.interface import implementer

from ..interfaces import IAuthenticator, StorageUnavailable
from ..model.access import Credentials, Identity, Password
from ..model.errors import TooManyRequests

TIMEOUT = 30.0
"""Seconds after which a checker that does not answer is given up."""

WAITING = 50
"""Logins that are asked about at once."""

_log = Logger()


def make_checker(description: str) -> Any:
    """The checker that a string of ``--auth`` means.

    The string may hold passwords, so nothing behind its first colon is repeated.

    :raises ValueError: with a sentence.
    """
    kind, _, argument = description.partition(":")
    if kind == "unix" and find_spec("spwd") is None:
        raise ValueError(
            "auth.cred.checker: unix needs Python's modules spwd and crypt, which ended with 3.12"
        )
    try:
        checker = strcred.makeChecker(description)
    except strcred.InvalidAuthType:
        known = {
            factory.authType
            for factory in strcred.findCheckerFactories()
            if IUsernamePassword in factory.credentialInterfaces
        }
        raise ValueError(
            "auth.cred.checker: there is no checker of that name; there are: "
            + ", ".join(sorted(known))
        ) from None
    except Exception as error:
        reason = _without(str(error), argument) or type(error).__name__
        raise ValueError(f"auth.cred.checker: {kind} refuses what it is given: {reason}") from None
    if IUsernamePassword not in checker.credentialInterfaces:
        raise ValueError(f"auth.cred.checker: {kind} takes no names and passwords")
    return checker


@implementer(IAuthenticator)
@define(eq=False)
class CheckerAuthenticator:
    """Asks a checker, in the reactor's thread, since checkers may use connections of Twisted.

    :param reactor: for the time.
    """

    checker: Any
    reactor: Any
    takes: Sequence[type] = (Password,)
    _asking: int = 0

    def stamp(self, name: str) -> str | None:
        """See :class:`~txregistry.interfaces.IAuthenticator`, as for the following.

        It is empty for every name, since nothing can tell.
        """
        return ""

    async def identify(self, credentials: Credentials) -> Identity | None:
        if not isinstance(credentials, Password) or not credentials.name or not credentials.secret:
            return None
        try:
            login = UsernamePassword(credentials.name.encode(), credentials.secret.encode())
        except UnicodeEncodeError:
            return None
        if self._asking >= WAITING:
            raise TooManyRequests("too many logins at once; try again in a moment", 1)
        self._asking += 1
        try:
            asked = maybeDeferred(self.checker.requestAvatarId, login)
            name = _name(await asked.addTimeout(TIMEOUT, self.reactor))
        except (UnauthorizedLogin, LoginDenied):
            return None
        except CancelledError:
            raise
        except Exception as error:
            _complain(error, credentials.secret)
            raise StorageUnavailable("the checker of logins has failed") from None
        finally:
            self._asking -= 1
        return Identity(name, authenticator="cred") if name else None


def _name(avatar: Any) -> str:
    """The name that a checker has found, empty for nobody in particular."""
    if avatar == ANONYMOUS:
        return ""
    if isinstance(avatar, bytes):
        return avatar.decode()
    if isinstance(avatar, str):
        return avatar
    raise TypeError(f"the checker gave a {type(avatar).__name__} in place of a name")


def _complain(error: Exception, secret: str) -> None:
    """Log an error of a checker: what was raised, and where; never what was sent."""
    _log.error(
        "a checker of logins has failed: {kind}: {reason}",
        kind=type(error).__name__,
        reason=_without(str(error), secret),
        stack="".join(traceback.format_tb(error.__traceback__)),
    )


def _without(text: str, secret: str) -> str:
    """A message, or nothing of it where it repeats what nobody should read."""
    return "(not shown)" if secret and secret in text else text
