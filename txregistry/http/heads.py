"""Request heads: strict reading of request line and header fields (RFC 9112).

What two parsers could read apart is refused: repeated or odd lengths, length beside transfer
coding, folded lines, spaces before the colon, control characters, bare line feeds.
May import the standard library, attrs and the limits.
"""

from __future__ import annotations

import re

from attrs import frozen

from .limits import Limits

MAXIMUM_LENGTH = 2**63 - 1

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")
_TARGET = re.compile(rb"/[\x21-\x7e]*")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")


class BadHead(Exception):
    """A head that is refused; the connection closes after the answer.

    :param status: the HTTP status.
    :param message: a sentence for the person behind the client.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@frozen
class Head:
    """A request head.

    ``length`` is the size of the body in bytes, None for a chunked one. ``expects`` tells that the
    client waits for ``100 Continue``.
    """

    method: bytes
    target: bytes
    version: bytes
    fields: list[tuple[bytes, bytes]]
    length: int | None
    persistent: bool
    expects: bool


def read_head(block: bytes, limits: Limits) -> Head:
    """Read a head.

    :param block: everything before the empty line.
    :raises BadHead: it breaks a rule or a limit.
    """
    if _BARE_LINE_FEED.search(block):
        raise BadHead(400, "lines of a request end with CR LF")
    first, *lines = block.split(b"\r\n")
    method, target, version = _request_line(first, limits)
    if len(lines) > limits.header_count:
        raise BadHead(431, f"a request has at most {limits.header_count} header fields here")
    fields = [_field(line) for line in lines]
    values: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        values.setdefault(name.lower(), []).append(value)
    if version == b"HTTP/1.1" and len(values.get(b"host", ())) != 1:
        raise BadHead(400, "a request has exactly one Host field")
    return Head(
        method=method,
        target=target,
        version=version,
        fields=fields,
        length=_length(values, version),
        persistent=_persistent(values, version),
        expects=_expects(values, version),
    )


def check_unfinished(start: bytes, limits: Limits) -> None:
    """Check the start of a head whose end has not arrived.

    :raises BadHead: it cannot become a good one any more.
    """
    if len(start) > limits.uri_size and b"\r\n" not in start:
        raise BadHead(414, f"paths have at most {limits.uri_size} bytes here")
    if len(start) > limits.header_size:
        raise BadHead(431, f"a request head has at most {limits.header_size} bytes here")
    if _BARE_LINE_FEED.search(start):
        raise BadHead(400, "lines of a request end with CR LF")


def _request_line(line: bytes, limits: Limits) -> tuple[bytes, bytes, bytes]:
    parts = line.split(b" ")
    if len(parts) != 3:
        raise BadHead(400, "the request line has to be method, path and version")
    method, target, version = parts
    if len(target) > limits.uri_size:
        raise BadHead(414, f"the path of a request has at most {limits.uri_size} bytes here")
    if _TOKEN.fullmatch(method) is None:
        raise BadHead(400, "the method is not a token")
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise BadHead(505 if _VERSION.fullmatch(version) else 400, "speak HTTP/1.1")
    if method in (b"CONNECT", b"TRACE"):
        raise BadHead(405, "this server neither tunnels nor echoes")
    if _TARGET.fullmatch(target) is None:
        raise BadHead(400, "the request line needs a path that begins with '/'")
    return method, target, version


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon or _TOKEN.fullmatch(name) is None:
        raise BadHead(400, "a header field is not 'name: value'")
    value = value.strip(b" \t")
    if _CONTROL.search(value):
        raise BadHead(400, "a header field has a control character in its value")
    return name, value


def _length(values: dict[bytes, list[bytes]], version: bytes) -> int | None:
    coding, lengths = values.get(b"transfer-encoding"), values.get(b"content-length")
    if coding is not None:
        if lengths is not None or version != b"HTTP/1.1":
            raise BadHead(400, "Transfer-Encoding does not go with Content-Length or HTTP/1.0")
        if len(coding) != 1 or coding[0].lower() != b"chunked":
            raise BadHead(400, "the only Transfer-Encoding here is chunked")
        return None
    if lengths is None:
        return 0
    if len(lengths) != 1 or not lengths[0].isdigit():
        raise BadHead(400, "Content-Length has to be one decimal number")
    if len(lengths[0]) > 19 or int(lengths[0]) > MAXIMUM_LENGTH:
        raise BadHead(413, "no body may be that long")
    return int(lengths[0])


def _persistent(values: dict[bytes, list[bytes]], version: bytes) -> bool:
    if version != b"HTTP/1.1":
        return False
    options = b",".join(values.get(b"connection", ())).lower().split(b",")
    return b"close" not in [option.strip() for option in options]


def _expects(values: dict[bytes, list[bytes]], version: bytes) -> bool:
    expectation = values.get(b"expect")
    if expectation is None or version != b"HTTP/1.1":
        return False
    if [value.lower() for value in expectation] != [b"100-continue"]:
        raise BadHead(417, "the only Expect here is 100-continue")
    return True
