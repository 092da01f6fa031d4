"""Many requests in one, as the Blob service takes them: "Blob Batch" of its reference.

Each request is a part of a multipart body, signed for itself, and so is its answer.
May import the rest of this room.
"""

from __future__ import annotations

from collections.abc import Sequence
from email.parser import BytesParser
from email.policy import HTTP

from attrs import frozen

from .requests import Request

MOST = 256
"""Requests in one."""


@frozen
class Answered:
    """The answer to one of the requests: its status, and the code of its error if it is one."""

    status: int
    code: str = ""


def written(requests: Sequence[Request], boundary: str) -> bytes:
    """The body for some requests without bodies, signed and in their order.

    :param boundary: what separates them, which occurs in none.
    """
    lines: list[str] = []
    for number, request in enumerate(requests):
        lines += [f"--{boundary}", "Content-Type: application/http"]
        lines += ["Content-Transfer-Encoding: binary", f"Content-ID: {number}", ""]
        lines += [f"{request.method} {request.target()} HTTP/1.1"]
        lines += [f"{name}: {text}" for name, text in request.headers.items()]
        lines += ["Content-Length: 0", "", ""]
    lines += [f"--{boundary}--", ""]
    return "\r\n".join(lines).encode("ascii")


def read(media_type: str, body: bytes, count: int) -> list[Answered]:
    """The answers, in the order of the requests.

    :param count: the number of requests.
    :raises ValueError: these are no answers to so many requests.
    """
    whole = BytesParser(policy=HTTP).parsebytes(
        f"Content-Type: {media_type}\r\n\r\n".encode("latin-1") + body
    )
    found: dict[int, Answered] = {}
    for place, part in enumerate(whole.iter_parts() if whole.is_multipart() else ()):
        head, _, rest = bytes(part.get_payload(decode=True)).partition(b"\r\n")
        words = head.split(maxsplit=2)
        if len(words) < 2 or not words[1].isdigit():
            raise ValueError(f"a part of the answer begins with {head[:50]!r}")
        headers = BytesParser(policy=HTTP).parsebytes(rest, headersonly=True)
        number = str(part.get("Content-ID", place))
        place = int(number) if number.isdecimal() else place
        found[place] = Answered(int(words[1]), headers.get("x-ms-error-code", ""))
    if sorted(found) != list(range(count)):
        raise ValueError(f"the answer has {len(found)} parts, and not one for each request")
    return [found[number] for number in range(count)]
