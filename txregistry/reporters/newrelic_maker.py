"""The maker of the reporter to New Relic: its settings, the license key and what follows from it.

A light module: what sends is imported when it is made. May import the model, the interfaces, attrs
and the settings of this room.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen, validators
from zope.interface import implementer

from ..interfaces import IReporterMaker, IWorld
from ..model.options import Duration, Secret, option
from .settings import actions, web_address

VARIABLE = "NEW_RELIC_LICENSE_KEY"

METRICS = "/metric/v1"

HOSTS = {
    "us": ("https://metric-api.newrelic.com", "https://insights-collector.newrelic.com"),
    "eu": ("https://metric-api.eu.newrelic.com", "https://insights-collector.eu01.nr-data.net"),
}
"""Where the Metric API and the Event API are."""

_REGION = re.compile(r"([a-z]{2,3})[0-9]{2}x|(gov)")
"""How a key begins that belongs to another region than the first one."""


@frozen
class NewRelicSettings:
    """Metrics of requests, and events, for New Relic."""

    licensekey: Secret | None = option(
        f"The license key (of the kind INGEST). Without it: licensekeyfile, or else {VARIABLE} in "
        "the environment.",
        default=None,
    )
    licensekeyfile: Path | None = option(
        "A file with the license key.", default=None, example="/etc/txregistry/newrelic.key"
    )
    name: str = option(
        "The name of the application there.",
        default="txregistry",
        validator=validators.matches_re(r".{1,255}"),
    )
    verbose: bool = option("Log what New Relic answers, with its identifiers.", default=False)
    region: str | None = option(
        "us or eu. Without it: what the key says.",
        default=None,
        validator=validators.optional(validators.in_(tuple(HOSTS))),
    )
    metricsurl: str | None = option(
        "Scheme and host of the Metric API, where it is another one.",
        default=None,
        example="https://metric-api.example",
        validator=validators.optional(web_address),
    )
    eventsurl: str | None = option(
        "The same of the Event API.",
        default=None,
        example="https://event-api.example",
        validator=validators.optional(web_address),
    )
    accountid: int | None = option(
        "The number of the account, for the address of the Event API; it works without.",
        default=None,
        validator=validators.optional(validators.gt(0)),
    )
    interval: Duration = option(
        "The time that requests are added up before they are told, up to a minute.",
        default=Duration(30.0),
        validator=[validators.ge(1), validators.le(60)],
    )
    actions: Sequence[str] = option(
        "Which events of the registry are told, of push, pull, mount and delete. Pulls are many.",
        default=("push", "mount", "delete"),
        validator=actions,
    )
    samples: int = option(
        "Requests of each interval that are told one by one, chosen at random; 0 for none.",
        default=100,
        validator=[validators.ge(0), validators.le(2000)],
    )


@frozen
class Account:
    """A license key and the addresses that it is for."""

    key: str
    metrics: str
    events: str


def account(settings: NewRelicSettings, environ: Mapping[str, str]) -> Account:
    """Where to send to, and with which key; blocking.

    :raises ValueError: there is no key, or nobody knows where it belongs.
    """
    key = _key(settings, environ)
    metrics, events = settings.metricsurl, settings.eventsurl
    if metrics is None or events is None:
        hosts = HOSTS.get(settings.region or _region(key))
        if hosts is None:
            raise ValueError(
                "reporting.newrelic.licensekey: the key is for a region whose addresses are not "
                "known here; set reporting.newrelic.metricsurl and reporting.newrelic.eventsurl"
            )
        metrics, events = metrics or hosts[0], events or hosts[1]
    number = f"/{settings.accountid}" if settings.accountid else ""
    path = f"/v1/accounts{number}/events"
    return Account(key, metrics.rstrip("/") + METRICS, events.rstrip("/") + path)


def _key(settings: NewRelicSettings, environ: Mapping[str, str]) -> str:
    where = "reporting.newrelic.licensekey"
    if settings.licensekey is not None and settings.licensekeyfile is not None:
        raise ValueError(f"{where}: there is reporting.newrelic.licensekeyfile too; keep one")
    if settings.licensekey is not None:
        key: str = settings.licensekey
    elif settings.licensekeyfile is not None:
        where = "reporting.newrelic.licensekeyfile"
        try:
            key = settings.licensekeyfile.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise ValueError(f"{where}: cannot be read: {error}") from None
    elif environ.get(VARIABLE):
        where, key = f"environment {VARIABLE}", environ[VARIABLE]
    else:
        raise ValueError(f"{where} is missing: set it, or licensekeyfile, or {VARIABLE}")
    if not re.fullmatch(r"[\x21-\x7e]{1,256}", key):
        raise ValueError(f"{where}: this is no license key: letters and digits, without spaces")
    return key


def _region(key: str) -> str:
    found = _REGION.match(key)
    return "us" if found is None else found[1] or found[2]


@implementer(IReporterMaker)
@frozen
class NewRelicMaker:
    """Makes the reporter to New Relic."""

    name: str = "newrelic"
    summary: str = "metrics and events for New Relic"
    settings: type = NewRelicSettings

    def make(self, settings: NewRelicSettings, world: IWorld) -> Any:
        """See :class:`~txregistry.interfaces.IMaker`."""
        from .newrelic import NewRelic

        return NewRelic(settings, account(settings, os.environ), world)
