"""What is known of an upload to S3, in memory and in the object that survives the process.

That object, ``txregistry/uploads/<token>``, is one line of JSON and behind it the *tail*: bytes
that are too few for a part of a multipart upload. May import the client for S3.
"""

from __future__ import annotations

import json
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, DeferredLock

from ..s3.client import Part

DIRECTORY = "txregistry/uploads"
"""Where uploads are kept, out of distribution's tree."""


@frozen
class Segment:
    """Bytes of an upload that are an object.

    ``own`` objects belong to the upload and go with it; others have their final key already.
    """

    key: str
    size: int
    own: bool = True


@frozen
class Multipart:
    """An open multipart upload: its identifier, and the key that it will get."""

    key: str
    id: str


@define(eq=False)
class UploadState:
    """An upload: segments, then parts, then the tail.

    :param etag: of the object that survives the process, as this process last saw it.
    :param kept: bytes of the tail that are in that object.
    :param tail: None if the tail is only there.
    :param aim: the key that it will probably be published as.
    :param published: whether this process has made it an object.
    """

    token: str
    etag: str
    segments: list[Segment] = field(factory=list)
    multipart: Multipart | None = None
    parts: list[Part] = field(factory=list)
    tail: list[bytes] | None = field(factory=list)
    tail_size: int = 0
    kept: int = 0
    parts_kept: int = 0
    serial: int = 0
    aim: str | None = None
    flights: list[Deferred[Exception | None]] = field(factory=list)
    lock: DeferredLock = field(factory=DeferredLock)
    dropped: bool = False
    published: bool = False

    @property
    def base(self) -> int:
        """Where the tail begins."""
        return sum(each.size for each in self.segments) + sum(each.size for each in self.parts)

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self.base + self.tail_size

    @property
    def dirty(self) -> bool:
        """Whether something would be lost with this process."""
        return (
            bool(self.flights) or self.tail_size != self.kept or len(self.parts) != self.parts_kept
        )

    @property
    def finished(self) -> bool:
        """Whether it has become an object under its final key, and cannot grow."""
        return any(not each.own for each in self.segments)

    def add(self, data: bytes) -> None:
        """Add bytes to the tail, which has to be in memory."""
        assert self.tail is not None
        if data:
            self.tail.append(bytes(data))
            self.tail_size += len(data)

    def cut(self, size: int) -> list[bytes]:
        """Take the first bytes of the tail away, for a part."""
        assert self.tail is not None
        taken: list[bytes] = []
        left = size
        while left:
            piece = self.tail.pop(0)
            if len(piece) > left:
                # Neither half is copied: both see the bytes of the piece.
                whole: Any = memoryview(piece)
                self.tail.insert(0, whole[left:])
                piece = whole[:left]
            taken.append(piece)
            left -= len(piece)
        self.tail_size -= size
        return taken

    def head_of_tail(self, size: int) -> list[bytes]:
        """The first bytes of the tail, which stays."""
        taken: list[bytes] = []
        for piece in self.tail or ():
            if size <= 0:
                break
            taken.append(piece[:size])
            size -= len(piece)
        return taken

    def become_segment(self, key: str, own: bool) -> None:
        """Its multipart upload was completed, tail and all."""
        size = sum(each.size for each in self.parts)
        self.segments.append(Segment(key, size, own))
        self.parts, self.multipart, self.parts_kept = [], None, 0

    def line(self) -> bytes:
        """The first line of the object that survives the process."""
        document = {
            "base": self.base,
            "serial": self.serial,
            "segments": [[each.key, each.size, each.own] for each in self.segments],
            "multipart": [self.multipart.key, self.multipart.id] if self.multipart else None,
        }
        return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def read_state(token: str, body: bytes, etag: str) -> tuple[UploadState, int]:
    """What an object tells of an upload; parts are listed elsewhere.

    :return: the state, and where its tail begins.
    :raises ValueError: it is damaged.
    """
    line, newline, tail = body.partition(b"\n")
    if not newline:
        raise ValueError(f"the state of the upload {token} is damaged")
    document = json.loads(line)
    state = UploadState(
        token,
        etag,
        [Segment(str(key), int(size), bool(own)) for key, size, own in document["segments"]],
        Multipart(*document["multipart"]) if document["multipart"] else None,
        tail=[tail] if tail else [],
        tail_size=len(tail),
        kept=len(tail),
        serial=int(document["serial"]),
    )
    return state, int(document["base"])
