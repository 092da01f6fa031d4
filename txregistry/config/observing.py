"""Settings of what tells how the service is and was: the operator's listener, mails, the audit log.

May import the model's options and attrs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import Attribute, evolve, frozen, validators

from ..model.options import Duration, HookAddress, Secret, option

INTERVAL = "Time between two looks."
THRESHOLD = "Failures in a row after which the check fails."
TIMEOUT = "Time until an answer has to be there."


def _address(_: Any, attribute: Attribute[str], value: str) -> None:
    if not re.fullmatch(r"([^:\s]+|\[[0-9A-Fa-f:.]+\]):\d{1,5}", value):
        raise ValueError("has to be host:port")


def _web_address(_: Any, attribute: Attribute[str], value: str) -> None:
    if not re.fullmatch(r"https?://[^/?#\s]+[^\s]*", value):
        raise ValueError("has to be an address such as http://127.0.0.1:8080/")


def _path(_: Any, attribute: Attribute[str], value: str) -> None:
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", value):
        raise ValueError("has to be a path such as /metrics")


def _interval() -> Any:
    return option(INTERVAL, default=Duration(10.0), validator=validators.gt(0))


def _threshold() -> Any:
    return option(THRESHOLD, default=3, validator=validators.ge(1))


def _timeout() -> Any:
    return option(TIMEOUT, default=Duration(3.0), validator=validators.gt(0))


@frozen
class StorageCheck:
    """Whether the storage works."""

    enabled: bool = option(
        "Try the storage from time to time. While it fails pushes and deletes are refused at once.",
        default=True,
    )
    interval: Duration = _interval()
    threshold: int = _threshold()


@frozen
class FileCheck:
    """A switch in the file system."""

    file: Path = option("The check fails while this file exists.")
    interval: Duration = _interval()


@frozen
class HttpCheck:
    """Another web service."""

    uri: HookAddress = option(
        "What is asked, by HEAD. A login and a query in it are told nobody.",
        validator=_web_address,
    )
    headers: Mapping[str, Sequence[Secret]] = option("Header fields of the request.", factory=dict)
    statuscode: int = option("The status that the answer has to have.", default=200)
    timeout: Duration = _timeout()
    interval: Duration = _interval()
    threshold: int = _threshold()


@frozen
class TcpCheck:
    """Another service, of any kind."""

    addr: str = option("host:port that has to take a connection.", validator=_address)
    timeout: Duration = _timeout()
    interval: Duration = _interval()
    threshold: int = _threshold()


@frozen
class Health:
    """Checks that are made from time to time, and shown on the operator's listener."""

    strict: bool = option(
        "While any check fails, or the service was switched off by hand, answer every request with "
        "503, as CNCF distribution does. Without it a failing storage refuses changes only, and "
        "other checks are only shown.",
        default=False,
    )
    storagedriver: StorageCheck = option("Whether the storage works.", factory=StorageCheck)
    file: Sequence[FileCheck] = option(
        "Switches in the file system.",
        factory=tuple,
        example="[{file: /run/txregistry/down, interval: 10s}]",
    )
    http: Sequence[HttpCheck] = option(
        "Other web services.",
        factory=tuple,
        example="[{uri: 'http://127.0.0.1:8080/', statuscode: 200, timeout: 3s, threshold: 3}]",
    )
    tcp: Sequence[TcpCheck] = option(
        "Other services.",
        factory=tuple,
        example="[{addr: '127.0.0.1:6379', timeout: 3s, threshold: 3}]",
    )


LEVELS = ("debug", "info", "warn", "warning", "error", "fatal", "panic")
"""Levels as distribution names them; the last two are failures that nobody expected."""


@frozen
class MailOptions:
    """How mails are sent, from the free-form options of a hook."""

    host: str
    port: int
    sender: str
    recipients: tuple[str, ...]
    username: str = ""
    password: str = ""
    insecure: bool = False


def mail_options(options: Mapping[str, Any]) -> MailOptions:
    """Read the options of a hook of the type mail.

    :raises ValueError: they cannot be used.
    """
    _only(options, "options", ("smtp", "from", "to"))
    smtp = options.get("smtp")
    if not isinstance(smtp, Mapping):
        raise ValueError("options.smtp has to be a section with addr")
    _only(smtp, "options.smtp", ("addr", "username", "password", "insecure"))
    _address(None, None, str(smtp.get("addr", "")))  # type: ignore[arg-type]
    host, _, port = str(smtp["addr"]).rpartition(":")
    sender, recipients = options.get("from"), options.get("to")
    if not isinstance(sender, str) or not isinstance(recipients, Sequence) or not recipients:
        raise ValueError("options.from has to be an address, and options.to a list of some")
    if isinstance(recipients, str):
        recipients = [recipients]
    addresses = [sender, *map(str, recipients)]
    if any(re.search(r"[\s<>]", text) or "@" not in text for text in addresses):
        raise ValueError("options.from and options.to take addresses such as admin@example.com")
    found = MailOptions(host.strip("[]"), int(port), sender, tuple(addresses[1:]))
    return evolve(
        found,
        username=str(smtp.get("username") or ""),
        password=str(smtp.get("password") or ""),
        insecure=smtp.get("insecure") is True,
    )


def _only(section: Mapping[str, Any], name: str, known: Sequence[str]) -> None:
    for key in section:
        if key not in known:
            raise ValueError(f"{name} has no option {key!r}; there are {', '.join(known)}")


def _hook_options(_: Any, attribute: Attribute[Any], value: Mapping[str, Any]) -> None:
    mail_options(value)


def _levels(_: Any, attribute: Attribute[Any], value: Sequence[str]) -> None:
    for level in value:
        if level not in LEVELS:
            raise ValueError(f"{level!r} is no level; there are {', '.join(LEVELS)}")


@frozen
class LogHook:
    """Somebody who is told of records of some levels."""

    type: str = option("How: mail.", validator=validators.in_(("mail",)))
    disabled: bool = option("Tell nobody.", default=False)
    levels: Sequence[str] = option(
        "Which records: those of these levels. Failures that nobody expected are panic.",
        default=("panic",),
        validator=_levels,
    )
    options: Mapping[str, Any] = option(
        "smtp (addr, username, password, insecure), from, to. A password is sent over TLS only, "
        "unless insecure is true.",
        validator=_hook_options,
    )


@frozen
class Audit:
    """Who changed what, and who could not come in, in a file that shows if it was altered."""

    enabled: bool = option("Write the audit log.", default=False)
    path: Path | None = option(
        "The file. Without it: audit.log beside the database's usual place.",
        default=None,
        example="/var/lib/registry/txregistry/audit.log",
    )


@frozen
class Prometheus:
    """Metrics for Prometheus, on the operator's listener."""

    enabled: bool = option("Count requests and more, and show it.", default=False)
    path: str = option("Where it is shown.", default="/metrics", validator=_path)


@frozen
class Debug:
    """A second listener for the operator; keep it on a private address."""

    addr: str | None = option(
        "Address of the listener for health checks and metrics.",
        default=None,
        example="127.0.0.1:5001",
    )
    prometheus: Prometheus = option("Metrics for Prometheus.", factory=Prometheus)
