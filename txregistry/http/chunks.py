"""Chunked transfer coding: taking bodies of unknown length apart (RFC 9112 section 7.1).

Strict where laxness lets requests be smuggled; extensions and trailers are bounded and ignored.
May import the standard library only.
"""

from __future__ import annotations

import re

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")

LINE = 4096
TRAILERS = 16 * 1024


class BadChunk(Exception):
    """The coding is broken; nothing behind it on this connection can be trusted."""


class ChunkReader:
    """Takes bytes as they come and gives the body's bytes out.

    ``done`` is True after the last chunk; ``rest`` are the bytes behind it.
    """

    def __init__(self) -> None:
        self.done = False
        self.rest = b""
        self._state = self._size
        self._left = 0
        self._buffer = b""
        self._position = 0
        self._trailers = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes.

        :return: pieces of the body, in order.
        :raises BadChunk: the coding is broken.
        """
        pieces: list[bytes] = []
        # The buffer is cut once per call, so that many tiny chunks cost no more than their bytes.
        self._buffer = self._buffer[self._position :] + data
        self._position = 0
        while not self.done and self._state(pieces):
            pass
        if self.done:
            self.rest, self._buffer = self._buffer[self._position :], b""
        return pieces

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n", self._position, self._position + LINE)
        if end < 0:
            waiting = self._buffer[self._position :]
            if len(waiting) >= LINE or b"\n" in waiting:
                raise BadChunk("a line of the chunked body is too long or ends wrongly")
            return None
        line = self._buffer[self._position : end]
        self._position = end + 2
        return line

    def _size(self, pieces: list[bytes]) -> bool:
        line = self._line()
        if line is None:
            return False
        match = _SIZE.fullmatch(line)
        if match is None:
            raise BadChunk("a chunk of the body has no valid size")
        self._left = int(match[1], 16)
        self._state = self._data if self._left else self._trailer
        return True

    def _data(self, pieces: list[bytes]) -> bool:
        piece = self._buffer[self._position : self._position + self._left]
        if not piece:
            return False
        self._position += len(piece)
        self._left -= len(piece)
        pieces.append(piece)
        if self._left == 0:
            self._state = self._end_of_data
        return True

    def _end_of_data(self, pieces: list[bytes]) -> bool:
        end = self._buffer[self._position : self._position + 2]
        if not b"\r\n".startswith(end):
            raise BadChunk("a chunk of the body is longer than its size")
        if len(end) < 2:
            return False
        self._position += 2
        self._state = self._size
        return True

    def _trailer(self, pieces: list[bytes]) -> bool:
        line = self._line()
        if line is None:
            return False
        if not line:
            self.done = True
            return False
        self._trailers += len(line)
        if self._trailers > TRAILERS or _TRAILER.fullmatch(line) is None:
            raise BadChunk("a trailer field of the body is not valid")
        return True
