"""The table of results: medians, ranges and ratios."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

from attrs import frozen
from workloads import Measure


@frozen
class Row:
    """A workload's rounds on each server, ours first."""

    name: str
    unit: str
    less: bool
    measures: list[list[Measure]]

    def middle(self, server: int, value: Callable[[Measure], float]) -> float:
        """A median over the rounds of one server."""
        return median(value(each) for each in self.measures[server])

    def ratio(self, value: Callable[[Measure], float], less: bool) -> str:
        """How many times better ours is."""
        if len(self.measures) < 2:
            return ""
        ours, theirs = self.middle(0, value), self.middle(1, value)
        if not ours or not theirs:
            return ""
        return f"{(theirs / ours) if less else (ours / theirs):.2f}x"

    def cells(self) -> list[str]:
        """The cells of the table."""
        values = [each.value for each in self.measures[0]]
        theirs = f"{self.middle(1, rate):.4g}" if len(self.measures) > 1 else ""
        return [
            self.name,
            f"{self.middle(0, rate):.4g} {self.unit}",
            f"{min(values):.4g}-{max(values):.4g}",
            theirs,
            self.ratio(rate, self.less),
            self.ratio(lambda each: each.cpu, True),
            self.ratio(lambda each: each.p99, True),
            _time(self.middle(0, lambda each: each.p99)),
            _time(self.middle(0, lambda each: each.cpu)),
        ]

    def text(self) -> str:
        """One line."""
        return " | ".join(self.cells())


def rate(each: Measure) -> float:
    """What a workload is about."""
    return each.value


def _time(seconds: float) -> str:
    if not seconds:
        return ""
    return f"{seconds * 1e6:.0f} us" if seconds < 0.001 else f"{seconds * 1000:.2f} ms"


def render(facts: dict[str, Any], rows: list[Row]) -> str:
    """The table as reStructuredText, with what it was measured on."""
    lines = [
        f"Machine: {facts['machine']}; load average at the end {facts['load']:.1f}; "
        f"median of {facts['rounds']} rounds.",
        "",
    ]
    for version, start in zip(facts["versions"], facts["start"], strict=True):
        lines.append(f"* {version}: ready after {start:.2f} s")
    lines += ["", ".. list-table::", "   :header-rows: 1", ""]
    heads = ["workload", "ours", "min-max", "peer", "ratio", "CPU ratio", "p99 ratio"]
    for cells in [[*heads, "our p99", "our CPU"], *(row.cells() for row in rows)]:
        for number, cell in enumerate(cells):
            lines.append(f"   {'*' if number == 0 else ' '} - {cell}".rstrip())
    return "\n".join(lines) + "\n"
