"""W3C Trace Context, and which traces are told. May import attrs and the standard library."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from attrs import frozen

_TRACEPARENT = re.compile(
    r"[ \t]*([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?[ \t]*"
)

LOW = 1 << 64


@frozen
class Context:
    """What a client says its request is a part of."""

    trace: int
    span: int
    sampled: bool


def read_traceparent(text: str) -> Context | None:
    """What a field ``traceparent`` says; None if it says nothing that is valid."""
    found = _TRACEPARENT.fullmatch(text)
    if found is None:
        return None
    version, trace, span = found[1], int(found[2], 16), int(found[3], 16)
    if version == "ff" or (version == "00" and found[5]) or not trace or not span:
        return None
    return Context(trace, span, bool(int(found[4], 16) & 1))


@frozen
class Sampler:
    """Decides which traces are told.

    :param below: of those whose identifier, in its lower half, is below this.
    :param follows: whether what the client has decided goes before.
    """

    below: int
    follows: bool

    def takes(self, trace: int, parent: Context | None) -> bool:
        """Whether a request is told."""
        if self.follows and parent is not None:
            return parent.sampled
        return trace % LOW < self.below


def _sampler(ratio: float | None, follows: bool) -> Callable[[float], Sampler]:
    def make(given: float) -> Sampler:
        return Sampler(round((given if ratio is None else ratio) * LOW), follows)

    return make


SAMPLERS: Mapping[str, Callable[[float], Sampler]] = {
    "always_on": _sampler(1.0, False),
    "always_off": _sampler(0.0, False),
    "traceidratio": _sampler(None, False),
    "parentbased_always_on": _sampler(1.0, True),
    "parentbased_always_off": _sampler(0.0, True),
    "parentbased_traceidratio": _sampler(None, True),
}
"""By their standard names; each is made for a ratio."""
