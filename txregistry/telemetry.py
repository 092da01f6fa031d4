"""OpenTelemetry, assembled: spans of the requests of this process, and the metrics of all of them.

May import everything; what sends is loaded where the environment wants it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from . import __version__
from .assembly import Registry
from .config.settings import Settings
from .counters import Board, Value
from .http import routes
from .looked_up import of_registry
from .processes import processes_of
from .reporters.otlp_settings import Telemetry


def trace(telemetry: Telemetry, registry: Registry, settings: Settings) -> None:
    """Have requests told as spans, if somebody wants that.

    :raises ValueError: it cannot be done.
    """
    if telemetry.traces is None:
        return
    from .reporters.tracing import Shown, Traces

    shown = Shown(
        _templates(settings.http.prefix),
        "http" if settings.http.tls.certificate is None else "https",
    )
    resource = _resource(telemetry)
    traces = Traces(telemetry.traces, telemetry.sampler, resource, shown, registry.world)
    registry.reporting.watcher.traces = traces
    registry.reporting.living.append(traces)


def measure(
    telemetry: Telemetry, registry: Registry, board: Board, flush: Callable[[], object] | None
) -> None:
    """Have the numbers of all processes told, if somebody wants that.

    :raises ValueError: it cannot be done.
    """
    if telemetry.metrics is None:
        return
    from .reporters.measuring import Measures

    of_this, world = of_registry(registry, flush), registry.world

    async def look() -> list[Value]:
        return [*await of_this(), *await world.compute(processes_of, board)]

    measures = Measures(
        telemetry.metrics,
        _resource(telemetry),
        telemetry.interval,
        board,
        look,
        world,
    )
    registry.reporting.living.append(measures)


def _resource(telemetry: Telemetry) -> dict[str, Any]:
    """What this process is."""
    host = socket.gethostname()
    return {
        "service.version": __version__,
        "service.instance.id": f"{host}:{os.getpid()}",
        "host.name": host,
        "process.pid": os.getpid(),
        **telemetry.resource,
    }


def _templates(prefix: str) -> dict[str, str]:
    """The templates of addresses, by the names of routes."""
    return {
        route.name: prefix.rstrip("/")
        + route.rule.replace("<path:", "<").replace("<", "{").replace(">", "}")
        for route in routes.EVERY
    }
