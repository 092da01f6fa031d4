"""The benchmark's short form: it ends, and it looks at the answers. No number is judged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tools import require_tool

HERE = Path(__file__).parent
SHORT = ("--scale", "short", "--rounds", "1", "--seconds", "0.05")


def benchmark(directory: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    """The exit code of the short form, what it has measured, and its table."""
    files = [directory / name for name in ("json", "table", "scratch")]
    places = [
        part
        for name, file in zip(("--json", "--table", "--directory"), files, strict=True)
        for part in (name, str(file))
    ]
    command = [sys.executable, str(HERE), *SHORT, *options, *places]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=directory)
    assert files[0].exists(), done.stdout + done.stderr
    assert list(files[2].iterdir()) == [], "nothing is left"
    return done.returncode, json.loads(files[0].read_text()), files[1].read_text()


def test_every_workload_beside_a_peer(tmp_path: Path) -> None:
    code, found, table = benchmark(tmp_path, "--peer", require_tool("docker-registry"))
    assert "docker-registry" in found["facts"]["peer"]
    notes = {name: each["notes"] for name, each in found["workloads"].items() if each["notes"]}
    # That peer neither sorts tags nor cuts pages of them, and each chooses its suite of TLS.
    assert {name for name in notes if not name.startswith(("tags of", "TLS"))} == set(), notes
    assert code == 0
    for name, each in found["workloads"].items():
        assert name in table
        assert [len(rounds) for rounds in each["rounds"]] in ([1], [1, 1]), name
        assert all(measure["value"] > 0 for rounds in each["rounds"] for measure in rounds), name
    assert sum(len(each["rounds"]) == 2 for each in found["workloads"].values()) > 40


def test_two_configurations_of_ours(tmp_path: Path) -> None:
    """With the client in Python, which is what there is without a compiler."""
    (tmp_path / "quiet.yml").write_text("log: {accesslog: {disabled: true}}")
    options = ("--peer", "ours", "--peer-config", str(tmp_path / "quiet.yml"), "--python-client")
    only = [part for name in ("1 conn", "whole") for part in ("--only", name)]
    code, found, _ = benchmark(tmp_path, *options, *only)
    assert code == 0
    assert found["facts"]["peer"] == found["facts"]["ours"]
    assert {len(each["rounds"]) for each in found["workloads"].values()} == {2}
    assert [each["notes"] for each in found["workloads"].values() if each["notes"]] == []


def test_a_wrong_answer_is_no_result(tmp_path: Path) -> None:
    (tmp_path / "short.yml").write_text("catalog: {maxentries: 20}")
    options = ("--no-peer", "--ours-config", str(tmp_path / "short.yml"))
    code, found, table = benchmark(tmp_path, *options, "--only", "catalog of 50, ")
    assert code == 1
    failed = [name for name, each in found["workloads"].items() if each["notes"]]
    assert failed == ["catalog of 50, whole", "catalog of 50, page of 100"]
    assert "failed" in table


def test_both_on_s3(tmp_path: Path) -> None:
    for program in ("ceph-mon", "ceph-osd", "radosgw"):
        require_tool(program)
    code, found, table = benchmark(tmp_path, "--s3", "--peer", require_tool("docker-registry"))
    assert code == 0, table
    assert "radosgw" in found["facts"]["S3"]
    assert len(found["workloads"]) == 7
    for name, each in found["workloads"].items():
        assert [len(rounds) for rounds in each["rounds"]] == [1, 1], name
        assert each["notes"] == [], name
        if not name.startswith("memory"):
            assert all(part["value"] > 0 for rounds in each["rounds"] for part in rounds), name


def test_the_driver_for_azure_beside_its_package(tmp_path: Path) -> None:
    require_tool("azurite-blob", str(Path(sys.prefix) / "node_modules" / ".bin" / "azurite-blob"))
    code, found, table = benchmark(tmp_path, "--azure")
    assert code == 0, table
    assert "azure-storage-blob" in found["facts"]["peer"]
    for name, each in found["workloads"].items():
        assert each["notes"] == [], name
        assert all(part["value"] > 0 for rounds in each["rounds"] for part in rounds), name


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["delivering.py", "--events", "300", "--rounds", "1", "--seconds", "0.3"], "events/s"),
        (["collecting.py", "--blobs", "100", "--tags", "20", "--seconds", "1"], "collected in"),
    ],
)
def test_what_has_a_program_of_its_own(tmp_path: Path, words: list[str], told: str) -> None:
    command = [sys.executable, str(HERE / words[0]), *words[1:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert told in done.stdout
