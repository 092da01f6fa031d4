"""Events as lines for people."""

from __future__ import annotations

from typing import Any

import pytest

from txregistry.model.descriptors import OCTET_STREAM
from txregistry.model.digests import Digest
from txregistry.model.events import Event, EventAction, LoggedEvent, Origin
from txregistry.model.names import RepositoryName, Tag
from txregistry.reporters.chat import harmless
from txregistry.reporters.envelope import Envelope, Place

DIGEST = Digest.of(b"x")
SHORT = DIGEST[:19]
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
TAG = Tag("v1")
NAMELESS = Place()
ORIGIN = Origin(host="registry.example", actor="alice")


def told(action: EventAction, place: Place = NAMELESS, origin: Origin = ORIGIN, **more: Any) -> str:
    """The text of an event."""
    event = Event(action, RepositoryName("team/app"), origin=origin, **more)
    document = Envelope("chat", place).document(LoggedEvent("1", 1, 0.0, event, "r"))
    assert set(document) == {"text"}
    text = document["text"]
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize(
    ("action", "more", "expected"),
    [
        ("push", {"digest": DIGEST, "media_type": MANIFEST, "tag": TAG}, "pushed {}:v1"),
        ("push", {"digest": DIGEST, "media_type": MANIFEST}, f"pushed {{}}@{SHORT}"),
        ("push", {"digest": DIGEST, "media_type": OCTET_STREAM}, "pushed a blob of {}"),
        ("mount", {"digest": DIGEST, "media_type": OCTET_STREAM}, "mounted a blob of {}"),
        ("pull", {"digest": DIGEST, "media_type": MANIFEST, "tag": TAG}, "pulled {}:v1"),
        ("delete", {"tag": TAG}, "deleted {}:v1"),
        ("delete", {"digest": DIGEST}, f"deleted {{}}@{SHORT}"),
        ("delete", {}, "deleted the repository {}"),
    ],
)
def test_lines(action: str, more: dict[str, Any], expected: str) -> None:
    expected = expected.format("registry.example/team/app")
    assert told(EventAction(action), **more) == f"alice {expected}"


def test_a_quota() -> None:
    text = "the quota of team is nearly used up: 93 of 100 bytes"
    assert told(EventAction.QUOTA, detail=text) == text


def test_nobody_and_a_registry_with_a_name() -> None:
    place = Place("https://images.example:8443")
    text = told(EventAction.PUSH, place, Origin(host="x"), digest=DIGEST, tag=TAG)
    assert text == "somebody pushed images.example:8443/team/app:v1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alice@example.com", "alice@example.com"),
        ("CN=Jürgen Müller,O=Team", "CN=Jürgen Müller,O=Team"),
        ("robot_one-2", "robot_one-2"),
        ("@channel", "?channel"),
        ("x @here", "x ?here"),
        ("<!channel>", "??channel?"),
        ("<https://evil.example|log in>", "?https://evil.example?log in?"),
        ("[log in](https://evil.example)", "?log in??https://evil.example?"),
        ("*bold* _slanted_ `code` ~gone~", "?bold? ?slanted? ?code? ?gone?"),
        ("two\nlines", "two?lines"),
        ("x" * 200, "x" * 100),
    ],
)
def test_texts_of_others_are_nothing_but_texts(text: str, expected: str) -> None:
    assert harmless(text) == expected
