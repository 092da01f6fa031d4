"""The health checks that the configuration asks for. May import everything."""

from __future__ import annotations

from urllib.parse import urlsplit

from .assembly import Registry
from .config.settings import Settings
from .health import STORAGE, Check, file_probe, http_probe, tcp_probe
from .interfaces import IHealth

AUDIT = 10.0
"""Seconds between two looks whether the audit log is written."""


def checks_of(settings: Settings, registry: Registry, audit: IHealth | None) -> list[Check]:
    """The checks; their names are those that distribution gives.

    :param audit: what writes the audit log, if there is one.
    """
    health, world = settings.health, registry.world
    driver, found = registry.core.driver, []
    wanted = health.storagedriver
    if wanted.enabled and IHealth.providedBy(driver):
        name, probe = f"storagedriver_{settings.storage.driver}", IHealth(driver).check
        found.append(Check(name, probe, wanted.interval, wanted.threshold, flag=STORAGE))
    if audit is not None:
        found.append(Check("audit", audit.check, AUDIT))
    for file in health.file:
        found.append(Check(str(file.file), file_probe(file.file, world), file.interval))
    for http in health.http:
        asked = http_probe(http.uri, http.headers, http.statuscode, http.timeout, world.reactor)
        found.append(Check(_public(http.uri), asked, http.interval, http.threshold, http.timeout))
    for tcp in health.tcp:
        tried = tcp_probe(tcp.addr, tcp.timeout, world.reactor)
        found.append(Check(tcp.addr, tried, tcp.interval, tcp.threshold, tcp.timeout))
    return found


def _public(address: str) -> str:
    """An address without what may be secret: a login before the host, the query behind the path."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
