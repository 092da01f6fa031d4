"""What an endpoint has answered, counted as distribution counts it. May import attrs."""

from __future__ import annotations

from http import HTTPStatus

from attrs import define, field


@define
class Answers:
    """Attempts since the start of the process: by their statuses, and those without an answer."""

    statuses: dict[int, int] = field(factory=dict)
    errors: int = 0

    def add(self, status: int) -> None:
        """Count an answer."""
        self.statuses[status] = self.statuses.get(status, 0) + 1

    @property
    def successes(self) -> int:
        """Events that were taken."""
        return sum(count for status, count in self.statuses.items() if 200 <= status < 300)

    @property
    def failures(self) -> int:
        """Answers that say something else."""
        return sum(self.statuses.values()) - self.successes

    def named(self) -> dict[str, int]:
        """The answers by status and reason, such as ``200 OK``."""
        return {f"{status} {_phrase(status)}".rstrip(): n for status, n in self.statuses.items()}


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
