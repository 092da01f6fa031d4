"""What is measured: a round of a workload, and what a workload is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field, frozen


@define
class Measure:
    """One round of one workload on one server.

    ``value`` is what the workload's unit says; ``cpu`` and ``client`` are seconds of processor time
    for each piece of work, of the server and of the client; ``p50`` and ``p99`` are seconds;
    ``suite`` is that of TLS, and ``more`` what only some workloads have.
    """

    value: float
    cpu: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    client: float = 0.0
    suite: str = ""
    more: dict[str, float] = field(factory=dict)


class Odd(Exception):
    """A server answers something else than it should: a mistake of ours, a trait of a peer."""


@frozen
class Workload:
    """A workload.

    :param unit: of the value; a larger value is better unless ``less``.
    :param run: one round on a server, or what the stand has for one.
    :param check: looks whether the answers are right, once for each server.
    :param per: the piece of work that processor time is told for.
    :param store: the content that it needs, see :mod:`stand`.
    :param secure: over TLS.
    :param peerless: peers cannot do it, or it says something about this registry alone.
    """

    name: str
    unit: str
    run: Callable[[Any], Measure]
    check: Callable[[Any], None] | None = None
    less: bool = False
    per: str = "request"
    store: str = "main"
    secure: bool = False
    peerless: bool = False


def quantile(values: Sequence[float], part: float) -> float:
    """A quantile of unsorted values."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]
