"""The file of the audit log: nothing in it is changed unnoticed, and a crash leaves it whole."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from txregistry.audit.chain import GENESIS, Chain, ChainBroken, Tail, records


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    """A file in a directory that is not there yet."""
    return Chain(tmp_path / "state" / "audit.log")


def add(chain: Chain, *positions: int | None) -> None:
    """Append records, changes by their position or something else."""
    chain.append(
        [{"what": "x"} if each is None else {"what": "y", "position": each} for each in positions]
    )


def found(*paths: Path) -> list[dict[str, Any]]:
    """The records of files."""
    return [record for record, _ in records(paths)]


def test_records_carry_the_hash_of_the_one_before(chain: Chain) -> None:
    assert chain.tail() == Tail()
    add(chain, 3, None)
    add(chain, 7)
    one, two, three = found(chain.path)
    assert (one["previous"], one["number"]) == (GENESIS, 1)
    assert [each["position"] for each in (one, two, three)] == [3, 3, 7]
    hashes = [digest for _, digest in records([chain.path])]
    assert [two["previous"], three["previous"], chain.tail().digest] == hashes
    assert chain.path.stat().st_mode & 0o777 == 0o600


def test_what_is_there_is_not_written_again(chain: Chain) -> None:
    add(chain, 1, 2, None)
    add(chain, 1, 2, 3, None)
    assert [each["position"] for each in found(chain.path)] == [1, 2, 2, 3, 3]


@pytest.mark.parametrize("left", [1, 10, 60])
def test_the_beginning_of_a_line_is_cut_off(chain: Chain, left: int) -> None:
    """A crash leaves any part of what was being written."""
    add(chain, 1, 2)
    whole = chain.path.read_bytes()
    add(chain, 3)
    torn = chain.path.read_bytes()[: len(whole) + left]
    chain.path.write_bytes(torn)
    assert len(found(chain.path)) == 2
    assert chain.tail().position == 2
    add(chain, 3)
    assert [each["position"] for each in found(chain.path)] == [1, 2, 3]


def test_processes_take_turns(chain: Chain) -> None:
    children = []
    for _ in range(4):
        child = os.fork()
        if not child:
            try:
                for _ in range(25):
                    add(chain, None, None)
            finally:
                os._exit(0)
        children.append(child)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    assert [each["number"] for each in found(chain.path)] == list(range(1, 201))


def lines(chain: Chain) -> list[bytes]:
    """The lines of a file of several records."""
    add(chain, 1, None, 2, None, 3)
    return chain.path.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("number", range(5))
def test_a_change_is_found(chain: Chain, number: int) -> None:
    """But for one of the very last record, for which its hash has to be known."""
    all_lines = lines(chain)
    head = chain.tail().digest
    all_lines[number] = all_lines[number].replace(b'"what":"', b'"what":"z')
    chain.path.write_bytes(b"".join(all_lines))
    if number < 4:
        with pytest.raises(ChainBroken, match=rf"line {number + 2}: the record before it"):
            found(chain.path)
    else:
        assert head not in [digest for _, digest in records([chain.path])]


@pytest.mark.parametrize("number", range(4))
def test_a_gap_is_found(chain: Chain, number: int) -> None:
    all_lines = lines(chain)
    del all_lines[number]
    chain.path.write_bytes(b"".join(all_lines))
    with pytest.raises(ChainBroken, match="missing"):
        found(chain.path)


def test_records_that_change_places_are_found(chain: Chain) -> None:
    all_lines = lines(chain)
    all_lines[1:3] = reversed(all_lines[1:3])
    chain.path.write_bytes(b"".join(all_lines))
    with pytest.raises(ChainBroken):
        found(chain.path)


@pytest.mark.parametrize(
    "text", [b"[]\n", b"x\n", b"{}\n", b'{"number":"1","position":1}\n', b"\n"]
)
def test_files_of_others_are_left_alone(chain: Chain, text: bytes) -> None:
    chain.path.parent.mkdir()
    chain.path.write_bytes(text)
    with pytest.raises(ChainBroken):
        add(chain, 1)
    with pytest.raises(ChainBroken):
        found(chain.path)
    assert chain.path.read_bytes() == text


def test_a_new_file_goes_on(chain: Chain) -> None:
    add(chain, 1, 2)
    old = chain.rotate()
    add(chain, 1, 2, 3)
    assert old.name == "audit.log.2"
    together = found(old, chain.path)
    assert [each["number"] for each in together] == [1, 2, 3, 4]
    assert [each["what"] for each in together] == ["y", "y", "continued", "y"]
    assert len(found(chain.path)) == 2
    second = chain.rotate()
    assert len(found(old, second, chain.path)) == 5
    for wrong in ((second, old), (old, chain.path)):
        with pytest.raises(ChainBroken):
            found(*wrong)
    assert json.loads(chain.path.read_bytes())["file"] == second.name
