"""Chunked transfer coding: any coding, cut anywhere, gives the body back; the rest is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txregistry.http.chunks import LINE, TRAILERS, BadChunk, ChunkReader

extensions = st.sampled_from([b"", b";name", b" ; name=value", b';a="b c"'])
trailers = st.lists(st.sampled_from([b"X-One: 1\r\n", b"Expires: never\r\n"]), max_size=3)
sizes = st.sampled_from([b"%x", b"%X", b"0%x", b"000%x"])


def coded(parts: list[bytes], size: bytes, extension: bytes, trailing: list[bytes]) -> bytes:
    """A body in chunks."""
    chunks = [size % len(part) + extension + b"\r\n" + part + b"\r\n" for part in parts]
    return b"".join(chunks) + b"0" + extension + b"\r\n" + b"".join(trailing) + b"\r\n"


@given(
    parts=st.lists(st.binary(min_size=1, max_size=300), max_size=8),
    size=sizes,
    extension=extensions,
    trailing=trailers,
    rest=st.binary(max_size=20),
    cuts=st.lists(st.integers(0, 3000), max_size=30),
)
def test_any_coding_cut_anywhere(
    parts: list[bytes],
    size: bytes,
    extension: bytes,
    trailing: list[bytes],
    rest: bytes,
    cuts: list[int],
) -> None:
    data = coded(parts, size, extension, trailing)
    reader = ChunkReader()
    found: list[bytes] = []
    position = 0
    for cut in [*sorted(cut for cut in cuts if cut < len(data)), len(data)]:
        assert not reader.done
        found += reader.feed(data[position:cut] + (rest if cut == len(data) else b""))
        position = cut
    assert reader.done
    assert b"".join(found) == b"".join(parts)
    assert reader.rest == rest


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"+3\r\nabc\r\n",
        b"-3\r\nabc\r\n",
        b"0x3\r\nabc\r\n",
        b" 3\r\nabc\r\n",
        b"3 \r\nabc\r\n",
        b"3\nabc\n",
        b"3;a\nb\r\nabc\r\n",
        b"3\r\nabcd\r\n",
        b"3\r\nabc\n",
        b"3\r\nabc\rx",
        b"g\r\n",
        b"1" * 16 + b"\r\n",
        b"3;" + b"x" * LINE,
        b"0\r\nno field\r\n\r\n",
        b"0\r\nbad name: x\r\n\r\n",
        b"0\r\n: x\r\n\r\n",
        b"0\r\nA: \x00\r\n\r\n",
        b"0\r\n" + b"A: b\r\n" * (TRAILERS // 4 + 1) + b"\r\n",
    ],
)
@pytest.mark.parametrize("step", [1, 1_000_000])
def test_broken_codings(data: bytes, step: int) -> None:
    def feed() -> None:
        reader = ChunkReader()
        for position in range(0, len(data), step):
            reader.feed(data[position : position + step])

    with pytest.raises(BadChunk):
        feed()


def test_tiny_chunks_are_read_once() -> None:
    """Cutting the buffer for each chunk would copy gigabytes here."""
    reader = ChunkReader()
    data = b"1\r\nx\r\n" * 400_000
    assert len(reader.feed(data)) == 400_000
    reader.feed(b"0\r\n\r\n")
    assert reader.done
