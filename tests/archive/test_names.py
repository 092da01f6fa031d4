"""How images are called on the command line and in layouts."""

from __future__ import annotations

import pytest

from txregistry.archive.names import ImageName, target
from txregistry.model.digests import Digest
from txregistry.model.errors import RegistryError
from txregistry.model.names import RepositoryName

DIGEST = Digest.of(b"")
INTO = RepositoryName.parse("kept/here")


@pytest.mark.parametrize(
    "text", ["app", "team/app:1.0", "Host.Example/app:1", f"team/app@{DIGEST}"]
)
def test_names_are_written_as_they_are_read(text: str) -> None:
    assert str(ImageName.parse(text)) == text


@pytest.mark.parametrize("text", ["", "App", "app:", "app:a/b", "app@1", "/app", f"@{DIGEST}"])
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(RegistryError):
        ImageName.parse(text)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("1.0", "kept/here:1.0"),
        ("team/app:1.0", "kept/here:1.0"),
        ("localhost:5000/team/app:1.0", "kept/here:1.0"),
        ("localhost:5000/team/app", f"kept/here@{DIGEST}"),
        (f"team/app@{DIGEST}", f"kept/here@{DIGEST}"),
        (None, f"kept/here@{DIGEST}"),
    ],
)
def test_a_chosen_repository_wins(name: str | None, found: str) -> None:
    assert str(target(name, DIGEST, INTO)) == found


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("team/app:1.0", "team/app:1.0"),
        ("team/app", f"team/app@{DIGEST}"),
        (f"app@{DIGEST}", f"app@{DIGEST}"),
    ],
)
def test_the_layout_tells(name: str, found: str) -> None:
    assert str(target(name, DIGEST, None)) == found


@pytest.mark.parametrize("name", [None, "1.0"])
def test_a_layout_that_does_not_tell(name: str | None) -> None:
    with pytest.raises(ValueError, match="name one"):
        target(name, DIGEST, None)
