"""Names, tags and digests: the grammar, read a second way."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from txregistry.model.digests import ALGORITHMS, Digest, Hasher, parse_algorithm, well_formed
from txregistry.model.errors import DigestInvalid, NameInvalid, TagInvalid
from txregistry.model.names import RepositoryName, Tag, parse_reference


def good_component(text: str) -> bool:
    """Alphanumeric runs, between them one dot, one or two underscores, or dashes."""
    pieces = re.split("([a-z0-9]+)", text)
    joints = pieces[2:-2:2]
    alike = all(joint in (".", "_", "__") or set(joint) == {"-"} for joint in joints)
    return len(pieces) > 1 and pieces[0] == pieces[-1] == "" and alike


def good_host(text: str) -> bool:
    """Labels between single dots, of letters, digits, and dashes that do not stand at an end."""
    return all(
        re.sub("[A-Za-z0-9-]", "", label) == "" and label != "" and label.strip("-") == label
        for label in text.split(".")
    )


@given(st.text("ab1._-/A é\n", max_size=12))
@example("A/a")
@example("A-1.b/a/b")
@example("A_b/a")
@example("A..b/a")
@example("a/A")
@example("A")
def test_repository_names(text: str) -> None:
    first, *others = text.split("/")
    good_first = good_component(first) or (others and good_host(first))
    if good_first and all(good_component(part) for part in others):
        assert RepositoryName.parse(text) == text
    else:
        with pytest.raises(NameInvalid):
            RepositoryName.parse(text)


@pytest.mark.parametrize("length", [255, 256])
def test_the_length_of_names(length: int) -> None:
    if length <= 255:
        assert RepositoryName.parse("a" * length) == "a" * length
    else:
        with pytest.raises(NameInvalid, match="255"):
            RepositoryName.parse("a" * length)


@given(st.text("aZ1._-/:é\n", max_size=6) | st.just("x" * 128) | st.just("x" * 129))
def test_tags(text: str) -> None:
    ascii_word = all(c.isascii() and (c.isalnum() or c in "_.-") for c in text)
    if ascii_word and 0 < len(text) <= 128 and text[0] not in ".-":
        assert Tag.parse(text) == text
        assert isinstance(parse_reference(text), Tag)
    else:
        with pytest.raises(TagInvalid):
            Tag.parse(text)


@given(st.binary(max_size=100), st.sampled_from(sorted(ALGORITHMS)))
def test_digests(data: bytes, algorithm: str) -> None:
    digest = Digest.of(data, algorithm)
    assert digest == f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
    assert Digest.parse(digest) == digest
    assert (digest.algorithm, digest.hex) == (algorithm, digest.partition(":")[2])
    assert isinstance(parse_reference(digest), Digest)
    hasher = Hasher(algorithm)
    for start in range(0, len(data), 7):
        hasher.update(data[start : start + 7])
    assert (hasher.digest(), hasher.size) == (digest, len(data))


GOOD = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "sha256",
        "sha256:",
        GOOD[:-1],
        GOOD + "0",
        GOOD.replace("a", "A"),
        GOOD.upper(),
        GOOD + "\n",
        " " + GOOD,
        GOOD.replace("3", "٣", 1),
        GOOD.replace("sha256", "sha512"),
        "md5:" + "0" * 32,
        "sha256:../../" + "0" * 58,
    ],
)
def test_texts_that_are_no_digests(text: str) -> None:
    with pytest.raises(DigestInvalid):
        Digest.parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD, True),
        (GOOD[:-1], False),
        ("blake3:abc-_=", True),
        ("multi+part.name:x", True),
        ("x:", False),
        ("x:" + "y" * 600, False),
        ("x y:z", False),
        (GOOD + "\n", False),
    ],
)
def test_the_syntax_of_digests(text: str, expected: bool) -> None:
    assert well_formed(text) is expected


def test_algorithms() -> None:
    assert parse_algorithm("sha512") == "sha512"
    with pytest.raises(DigestInvalid):
        parse_algorithm("md5")
