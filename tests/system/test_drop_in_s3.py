"""One bucket served by CNCF distribution and by us, in turn: drop-in, and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from buckets import Server, moto
from contents import NAMES, everything, fill, indexed
from distribution import distribution
from running import running

PLAIN = {"environment": {"AWS_CA_BUNDLE": ""}}
"""Its client cannot take authorities from the environment."""


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that speaks S3."""
    with moto() as found:
        yield found


@pytest.mark.parametrize(("prefix", "names"), [("", NAMES[1:3]), ("some/where", NAMES[:1])])
def test_there_and_back(tmp_path: Path, server: Server, prefix: str, names: Sequence[str]) -> None:
    """Filled there, the same is served here; changed here, the same is served there."""
    section = server.settings(server.bucket(), **({"rootdirectory": prefix} if prefix else {}))
    settings: dict[str, Any] = {"storage": {"s3": section, "redirect": {"disable": True}}}
    both: dict[str, Any] = {"driver": "s3", "settings": settings}
    with distribution(tmp_path / "theirs", tmp_path / "unused", **both, **PLAIN) as theirs:
        fill(theirs, names)
        before = everything(theirs)
    with running(tmp_path / "ours", **both) as ours:
        assert everything(ours) == before
        indexed(ours)
        assert everything(ours) == before
        fill(ours, [names[0], "new"])
        after = everything(ours)
    with distribution(tmp_path / "theirs", tmp_path / "unused", **both, **PLAIN) as theirs:
        assert everything(theirs) == after
        marked, _, manifests, words = theirs.collect()
        assert marked > 0
        assert manifests == 0
        assert "error" not in words.lower()
