"""The generated files are those that the settings classes make."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from txregistry.auth.htpasswd_maker import HtpasswdMaker
from txregistry.config.load import load
from txregistry.config.reference import outputs
from txregistry.storage.makers import FilesystemMaker, MemoryMaker

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", sorted(outputs(ROOT)), ids=lambda path: path.name)
def test_no_drift(path: Path) -> None:
    assert path.read_text() == outputs(ROOT)[path], "run python -m txregistry.config.reference"


def test_the_sample_works_with_everything_uncommented(tmp_path: Path) -> None:
    """Each commented option of the sample is one that exists, with a value that is taken."""
    lines: list[str] = []
    for line in (ROOT / "etc" / "config.yml").read_text().splitlines():
        text = line.replace("# ", "", 1) if line.lstrip().startswith("# ") else line
        if ":" in text and not text.lstrip().startswith("# "):
            lines.append(text)
    text = "\n".join(line for line in lines if not _is_prose(line))
    document = yaml.safe_load(text)
    assert set(document) >= {"version", "storage", "http", "log", "validation", "metadata"}
    path = tmp_path / "all.yml"
    path.write_text(text)
    makers = {maker.name: maker for maker in (FilesystemMaker(), MemoryMaker())}
    authenticators = {"htpasswd": HtpasswdMaker()}
    settings = load(path, {}, makers, authenticators).settings  # type: ignore[arg-type]
    assert [name for name, _ in settings.auth.authenticators] == ["htpasswd"]
    assert settings.http.host == "https://registry.example"


def _is_prose(line: str) -> bool:
    """Comments in words are told from options by what is before the colon."""
    return " " in line.strip().partition(":")[0]
