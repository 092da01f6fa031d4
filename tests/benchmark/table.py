"""The table of results: medians, ranges and ratios, as reStructuredText."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

from attrs import define, field
from measure import Measure, Workload

UNSTEADY = 2.0
"""How far the base may move between rounds."""

HEADS = (
    "workload",
    "ours",
    "peer",
    "ratio",
    "CPU: ours, peer, ratio",
    "p99: ours, peer, ratio",
    "client",
)


@define
class Row:
    """A workload's rounds on each side, ours first; what was odd about answers; why it failed."""

    workload: Workload
    measures: list[list[Measure]]
    remarks: list[str] = field(factory=list)
    failure: str = ""

    @property
    def steady(self) -> bool:
        """Whether the base stood still enough for a ratio: the peer, or ours alone."""
        values = [each.value for each in self.measures[-1]]
        return not values or max(values) <= UNSTEADY * min(values)

    def cells(self) -> list[str]:
        """The cells of the table."""
        name = self.workload.name
        if self.failure:
            return [name, "failed", *[""] * (len(HEADS) - 2)]
        marks = (" [note]_" if self.notes() else "") + ("" if self.steady else " [unsteady]_")
        ours, *theirs = [self._range(each) for each in self.measures]
        return [
            name + marks,
            f"{ours} {self.workload.unit}",
            *(theirs or [""]),
            self._ratio(lambda each: each.value, self.workload.less),
            self._pair(lambda each: each.cpu),
            self._pair(lambda each: each.p99),
            _time(self._middle(0, lambda each: each.client)),
        ]

    def text(self) -> str:
        """One line."""
        return " | ".join(self.cells()) + "".join(f"\n    {each}" for each in self.notes())

    def notes(self) -> list[str]:
        """What has to be said beside the numbers."""
        suites = [found[-1].suite for found in self.measures if found]
        differ = ["suites of TLS: " + ", ".join(suites)] if len(set(suites)) > 1 else []
        return [*self.remarks, *differ, *([self.failure] if self.failure else [])]

    def _middle(self, side: int, value: Callable[[Measure], float]) -> float:
        return median(value(each) for each in self.measures[side])

    def _range(self, found: list[Measure]) -> str:
        values = [each.value for each in found]
        return f"{median(values):.4g} ({min(values):.4g}-{max(values):.4g})"

    def _ratio(self, value: Callable[[Measure], float], less: bool) -> str:
        """How many times better ours is."""
        if len(self.measures) < 2:
            return ""
        ours, theirs = self._middle(0, value), self._middle(1, value)
        if not ours or not theirs:
            return ""
        return f"{(theirs / ours) if less else (ours / theirs):.2f}"

    def _pair(self, value: Callable[[Measure], float]) -> str:
        times = [_time(self._middle(side, value)) for side in range(len(self.measures))]
        return ", ".join(each for each in [*times, self._ratio(value, True)] if each)


def _time(seconds: float) -> str:
    if not seconds:
        return ""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} us"
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def render(facts: dict[str, Any], rows: list[Row]) -> str:
    """The table, with what it was measured on."""
    lines = [f"* {name}: {text}" for name, text in facts.items()]
    lines += ["", ".. list-table::", "   :header-rows: 1", "   :class: benchmark", ""]
    for cells in [list(HEADS), *(row.cells() for row in rows)]:
        lines += [f"   {' ' if n else '*'} - {cell}".rstrip() for n, cell in enumerate(cells)]
    lines.append("")
    if any(not row.steady for row in rows):
        lines += [".. [unsteady] The base moved by more than twice between rounds: no result.", ""]
    odd = [f"{row.workload.name}: {note}" for row in rows for note in row.notes()]
    if odd:
        lines += [".. [note] The two did not do quite the same; see below.", ""]
    lines += [f"* {each}" for each in odd]
    return "\n".join(lines).rstrip() + "\n"
