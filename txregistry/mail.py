"""Mails about grave records of the log: at most one a minute, whatever happens.

May import the log and Twisted.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from email.message import EmailMessage
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel
from zope.interface import implementer

from .log import record, render_text

INTERVAL = 60.0
"""Seconds between two mails."""

TOLD = 20
"""Records that one mail tells; others are counted."""

LONGEST = 20_000
"""Characters of a record that are told."""

PATIENCE = 60.0

LEVELS: Mapping[str, Any] = {
    "debug": LogLevel.debug,
    "info": LogLevel.info,
    "warn": LogLevel.warn,
    "warning": LogLevel.warn,
    "error": LogLevel.error,
    "fatal": LogLevel.critical,
    "panic": LogLevel.critical,
}

Deliver = Callable[[EmailMessage], Awaitable[object]]

_log = Logger()


@implementer(ILogObserver)
@define(eq=False)
class MailHook:
    """Collects records and sends them.

    :param levels: those of the records that are told.
    :param fields: are added to each record, as in the log.
    """

    reactor: Any
    levels: Sequence[str]
    sender: str
    recipients: Sequence[str]
    deliver: Deliver
    fields: Mapping[str, Any] = field(factory=dict)
    _wanted: frozenset[Any] = field(init=False)
    _texts: list[str] = field(init=False, factory=list)
    _subject: str = field(init=False, default="")
    _untold: int = field(init=False, default=0)
    _call: Any = field(init=False, default=None)
    _stopped: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._wanted = frozenset(LEVELS[level] for level in self.levels)

    def __call__(self, event: LogEvent) -> None:
        """Take note of an event, in any thread."""
        if event.get("log_level") not in self._wanted or event.get("log_namespace") == __name__:
            return
        try:
            found = record(event, self.fields)
            text = render_text(found)[:LONGEST]
        except Exception:
            text, found = repr(event.get("log_format")), {"level": "", "message": "?"}
        subject = f"[{found['level']}] {found['message'][:100]}"
        self.reactor.callFromThread(self._note, subject, text)

    def stop(self) -> None:
        """Send no more."""
        self._stopped = True
        if self._call is not None and self._call.active():
            self._call.cancel()

    def _note(self, subject: str, text: str) -> None:
        if self._stopped:
            return
        if len(self._texts) >= TOLD:
            self._untold += 1
            return
        self._subject = self._subject or subject
        self._texts.append(text)
        if self._call is None:
            self._send()

    def _send(self) -> None:
        """Send what has come, and wait before the next mail."""
        self._call = None
        if not self._texts:
            return
        message = EmailMessage()
        message["From"], message["To"] = self.sender, ", ".join(self.recipients)
        message["Subject"] = f"txregistry on {socket.gethostname()}: {_line(self._subject)}"
        more = f"\n\nand {self._untold} more, which the log tells" if self._untold else ""
        message.set_content("\n".join(self._texts) + more + "\n")
        self._texts, self._subject, self._untold = [], "", 0
        self._call = self.reactor.callLater(INTERVAL, self._send)
        Deferred.fromCoroutine(self._deliver(message))

    async def _deliver(self, message: EmailMessage) -> None:
        try:
            await self.deliver(message)
        except Exception as error:
            _log.warn("a mail could not be sent: {error}", error=str(error) or repr(error))


def _line(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


def smtp_delivery(
    reactor: Any,
    host: str,
    port: int,
    username: str = "",
    password: str = "",
    insecure: bool = False,
) -> Deliver:
    """Delivery to a mail server; over TLS where it offers that.

    :param insecure: whether a password may be sent without TLS.
    """
    # Imports the reactor, and is a part of a start that only some need.
    from twisted.mail.smtp import sendmail

    async def deliver(message: EmailMessage) -> None:
        recipients = [text.strip() for text in str(message["To"]).split(",")]
        sending: Deferred[Any] = sendmail(
            host,
            str(message["From"]),
            recipients,
            message.as_bytes(),
            port=port,
            reactor=reactor,
            username=username.encode() or None,
            password=password.encode() or None,
            requireAuthentication=bool(username),
            requireTransportSecurity=bool(username) and not insecure,
        )
        await sending.addTimeout(PATIENCE, reactor)

    return deliver
