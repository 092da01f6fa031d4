"""One connection to a directory: binds and searches, one after the other.

Source: RFC 4511. May import ldaptor and Twisted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define, frozen
from ldaptor.protocols import pureldap
from ldaptor.protocols.ldap.ldapclient import LDAPClient
from twisted.internet.defer import CancelledError, Deferred, TimeoutError

LARGEST = 8 * 1024 * 1024
"""Bytes of one message."""

SUCCESS, BUSY, UNAVAILABLE = 0, 51, 52

NO_SUCH_OBJECT, TOO_MANY = 32, 4

BASE, SUBTREE = pureldap.LDAP_SCOPE_baseObject, pureldap.LDAP_SCOPE_wholeSubtree

EVERYTHING = pureldap.LDAPFilter_present(b"objectClass")


class Lost(Exception):
    """The connection, or what was asked over it, is lost: another server may do better."""


class Refused(Exception):
    """The directory says no.

    :param code: why, as RFC 4511 section 4.1.9 numbers it.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message or 'no reason given'} (result {code})")
        self.code = code


@frozen
class Entry:
    """An entry as a search finds it; attributes by their names in lower case."""

    name: str
    attributes: Mapping[str, Sequence[bytes]]

    def texts(self, attribute: str) -> list[str]:
        """The values of an attribute that are texts."""
        found = []
        for value in self.attributes.get(attribute.lower(), ()):
            try:
                found.append(value.decode("utf-8"))
            except UnicodeDecodeError:
                continue
        return found


class Wire(LDAPClient):  # type: ignore[misc]
    """The protocol. Whatever a server sends harms nobody but its own connection."""

    def dataReceived(self, recd: bytes) -> None:
        """Take bytes."""
        try:
            if len(self.buffer) + len(recd) > LARGEST:
                raise ValueError("too large")
            super().dataReceived(recd)
        except Exception:
            self.transport.abortConnection()

    def unsolicitedNotification(self, msg: Any) -> None:
        """The server ends the connection (RFC 4511 section 4.4.1)."""
        self.transport.abortConnection()


@define(eq=False)
class Connection:
    """A connection, used by one at a time.

    :param reactor: for the time.
    :param timeout: seconds that an answer may take.
    """

    wire: Wire
    reactor: Any
    timeout: float
    bound: str = ""
    """As whom it acts: the name of an entry, or nobody."""

    async def start_tls(self, options: Any) -> None:
        """Go on with TLS (RFC 4511 section 4.14).

        :raises Lost: the server does not.
        """
        try:
            await self._ask(pureldap.LDAPStartTLSRequest())
        except Refused as error:
            self.close()
            raise Lost(f"StartTLS is refused: {error}") from None
        if self.wire.buffer:
            self.close()
            raise Lost("something came before TLS began")
        self.wire.transport.startTLS(options)

    async def bind(self, name: str, password: str) -> None:
        """Act as an entry from now on; with empty texts, as nobody.

        :raises ValueError: the password alone is empty, which servers take for nobody and answer
            as a success (RFC 4513 section 5.1.2).
        :raises Refused: the password is wrong, among other reasons.
        :raises Lost: there is no answer.
        """
        if name and not password:
            raise ValueError("no password")
        # What a bind that fails leaves behind acts as nobody.
        self.bound = ""
        await self._ask(pureldap.LDAPBindRequest(dn=name.encode(), auth=password.encode()))
        self.bound = name

    async def search(
        self, base: str, scope: int, matching: Any, attributes: Sequence[str], limit: int
    ) -> list[Entry]:
        """Entries that match.

        :param limit: how many at most; with more the directory refuses (``TOO_MANY``).
        :raises Refused: it does not want to, or there is no such base.
        :raises Lost: there is no answer.
        """
        found: list[Entry] = []
        request = pureldap.LDAPSearchRequest(
            baseObject=base.encode(),
            scope=scope,
            sizeLimit=limit,
            timeLimit=max(int(self.timeout), 1),
            filter=matching,
            attributes=[name.encode() for name in attributes],
        )
        await self._ask(request, found)
        return found

    async def _ask(self, request: Any, entries: list[Entry] | None = None) -> None:
        answered: Deferred[Any] = Deferred()

        def take(message: Any) -> bool:
            if isinstance(message, pureldap.LDAPSearchResultEntry):
                if entries is not None:
                    entries.append(_entry(message))
                return False
            if isinstance(message, pureldap.LDAPSearchResultReference):
                return False
            if not answered.called:
                answered.callback(message)
            return True

        def fail(failure: Any) -> None:
            if not answered.called:
                answered.errback(failure)

        try:
            self.wire.send_multiResponse(request, take).addErrback(fail)
            message = await answered.addTimeout(self.timeout, self.reactor)
        except CancelledError:
            self.close()
            raise
        except TimeoutError:
            self.close()
            raise Lost(f"no answer within {self.timeout:g} s") from None
        except Exception as error:
            self.close()
            raise Lost(str(error) or repr(error)) from error
        code = message.resultCode
        if code in (BUSY, UNAVAILABLE):
            self.close()
            raise Lost(f"it is busy (result {code})")
        if code != SUCCESS:
            raise Refused(code, _text(message.errorMessage))

    @property
    def usable(self) -> bool:
        """Whether it can be asked more."""
        return bool(self.wire.connected)

    def close(self) -> None:
        """End it at once."""
        self.wire.transport.abortConnection()


def _entry(message: Any) -> Entry:
    attributes = {_text(name).lower(): list(values) for name, values in message.attributes}
    return Entry(message.objectName.decode("utf-8"), attributes)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
