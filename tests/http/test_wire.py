"""Texts of the wire: ranges, chunks, pages, entity tags, targets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txregistry.http.wire import (
    choose_range,
    chunk_offset,
    matches,
    next_link,
    one,
    page_size,
    split_target,
)
from txregistry.model.errors import (
    NameInvalid,
    PageInvalid,
    RangeInvalid,
    SizeInvalid,
    UploadInvalid,
)
from txregistry.model.spans import Span

CONTENT = bytes(range(10))


@given(st.integers(0, 12), st.integers(0, 12) | st.none(), st.integers(0, 10))
def test_ranges(start: int, stop: int | None, size: int) -> None:
    """The part is that of a slice, or there is none."""
    header = f"bytes={start}-{'' if stop is None else stop}"
    expected = CONTENT[:size][start : size if stop is None else stop + 1]
    if expected:
        span = choose_range(header, size)
        assert span is not None
        assert CONTENT[span.start : span.stop] == expected
    else:
        with pytest.raises(RangeInvalid):
            choose_range(header, size)


@given(st.integers(0, 12), st.integers(0, 10))
def test_suffixes(count: int, size: int) -> None:
    expected = CONTENT[:size][-count:] if count else b""
    if expected:
        span = choose_range(f"bytes=-{count}", size)
        assert span is not None
        assert CONTENT[span.start : span.stop] == expected
    else:
        with pytest.raises(RangeInvalid):
            choose_range(f"bytes=-{count}", size)


@pytest.mark.parametrize("header", [None, "lines=1-2", "bytes=0-1,3-4", "bytes 0-1", "nonsense"])
def test_ranges_that_mean_everything(header: str | None) -> None:
    assert choose_range(header, 10) is None


@pytest.mark.parametrize(
    "header", ["bytes=", "bytes=-", "bytes=a-b", "bytes=1", "bytes=--1", "bytes=+1-2", "bytes=٣-"]
)
def test_ranges_that_mean_nothing(header: str) -> None:
    with pytest.raises(RangeInvalid):
        choose_range(header, 10)


def test_huge_ranges_are_clamped() -> None:
    assert choose_range(f"bytes=1-{'9' * 60}", 10) == Span(1, 10)


@pytest.mark.parametrize(
    ("header", "length", "offset"),
    [
        (None, 5, None),
        ("0-4", 5, 0),
        ("5-9", None, 5),
        ("bytes 5-9", 5, 5),
        ("bytes 5-9/20", 5, 5),
        ("5-9/*", 5, 5),
    ],
)
def test_chunks(header: str | None, length: int | None, offset: int | None) -> None:
    assert chunk_offset(header, length) == offset


@pytest.mark.parametrize("header", ["", "5", "-5", "5-", "9-5", "a-b", "0-4-5", "bytes=0-4", "٣-٣"])
def test_chunks_that_are_none(header: str) -> None:
    with pytest.raises(UploadInvalid):
        chunk_offset(header, None)


def test_chunks_that_lie() -> None:
    with pytest.raises(SizeInvalid):
        chunk_offset("0-4", 4)


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("7", 7), ("100", 50), ("9" * 500, 50)])
def test_page_sizes(text: str, size: int) -> None:
    assert page_size({"n": [text]}, 10, 50) == size


def test_no_page_size() -> None:
    assert page_size({}, 10, 50) == 10
    assert page_size({}, None, 50) is None


@pytest.mark.parametrize("text", ["", "-1", "1.0", "ten", "٣", "1 "])
def test_page_sizes_that_are_none(text: str) -> None:
    with pytest.raises(PageInvalid):
        page_size({"n": [text]}, 10, 50)


def test_parameters_given_twice() -> None:
    assert one({"a": ["1"]}, "a", NameInvalid) == "1"
    assert one({}, "a", NameInvalid) is None
    with pytest.raises(NameInvalid):
        one({"a": ["1", "1"]}, "a", NameInvalid)


@pytest.mark.parametrize(
    ("header", "weak", "expected"),
    [
        (None, True, False),
        ("*", False, True),
        ('"tag"', False, True),
        ("tag", False, True),
        ('W/"tag"', True, True),
        ('W/"tag"', False, False),
        ('"other", "tag"', False, True),
        ('"other"', True, False),
        ('"ta', True, False),
    ],
)
def test_entity_tags(header: str | None, weak: bool, expected: bool) -> None:
    assert matches(header, "tag", weak) is expected


@given(st.text(max_size=30), st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=4))
def test_targets(path: str, fields: dict[str, str]) -> None:
    """What a client encodes comes out decoded, once."""
    target = next_link("/" + path, list(fields.items()))[1:].partition(">")[0]
    decoded, query = split_target(target.encode())
    assert decoded == "/" + path
    assert query == {name: [value] for name, value in fields.items()}


@pytest.mark.parametrize("target", [b"/%ff", b"/?%ff=1", b"/?" + b"a&" * 300, b"/?\xff"])
def test_targets_that_are_no_text(target: bytes) -> None:
    with pytest.raises(NameInvalid):
        split_target(target)
