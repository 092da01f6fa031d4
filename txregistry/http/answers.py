"""Answers: what handlers return, before it is written to a connection.

May import the standard library, attrs, the interfaces and the model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from ..interfaces import IFollowing, IReader
from ..model.events import Pulled

JSON = "application/json"


@frozen
class Stream:
    """A body that is read while it is sent: the reader, and the bytes it will give.

    ``path`` is the file that the bytes come from, ``start`` their place in it, where there is one.
    """

    reader: IReader
    length: int
    path: Path | None = None
    start: int = 0


@frozen
class Live:
    """A body that goes on for as long as there is somebody to take it."""

    following: IFollowing


EVERYTHING = "*"
"""Stands for every repository where an answer depends on all of them."""


@frozen
class Reuse:
    """An answer that holds for the same request until something in a repository changes.

    ``repository`` may be ``EVERYTHING``, and is None for an answer that always holds. One that
    tells of a file, which is ``path``, holds as long as that is there.
    """

    repository: str | None
    path: Path | None = None


@frozen
class Answer:
    """Status, header fields, body.

    ``length`` overrides the Content-Length, for answers to HEAD; ``reuse`` tells how long the
    answer holds, None for answers that are made anew each time; ``pulled`` is what a client gets
    with it.
    """

    status: int
    fields: Sequence[tuple[str, str]] = ()
    body: bytes | Stream | Live = b""
    length: int | None = None
    reuse: Reuse | None = None
    pulled: Pulled | None = None

    @property
    def content_length(self) -> int | None:
        """The Content-Length to announce, None where nobody knows it."""
        if self.length is not None:
            return self.length
        if isinstance(self.body, Live):
            return None
        return self.body.length if isinstance(self.body, Stream) else len(self.body)


def json_answer(
    status: int,
    document: Any,
    fields: Sequence[tuple[str, str]] = (),
    media_type: str = JSON,
) -> Answer:
    """An answer with a JSON body."""
    body = json.dumps(document, separators=(",", ":")).encode() + b"\n"
    return Answer(status, (("Content-Type", media_type), *fields), body)
