"""The section ``notifications``: what is taken, what is told to be wrong, what is never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from txregistry.config.load import ConfigurationMistakes, Loaded, load
from txregistry.config.show import shown
from txregistry.interfaces.reporters import SCHEDULE
from txregistry.storage.makers import FilesystemMaker

SECRET = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3JldA=="


def loaded(tmp_path: Path, endpoint: str, more: str = "") -> Loaded:
    path = tmp_path / "config.yml"
    path.write_text(
        f"version: 0.1\nnotifications:\n  guard: true\n  endpoints:\n    - {endpoint}\n{more}"
    )
    return load(path, {}, {"filesystem": FilesystemMaker()})  # type: ignore[dict-item]


GOOD = "{name: one, url: 'https://receiver.example/hook'}"


def test_what_distribution_knows(tmp_path: Path) -> None:
    text = (
        "{name: one, disabled: true, url: 'http://u:p@h/x?y',"
        " headers: {Authorization: [Bearer x]}, timeout: 500ms, threshold: 5,"
        " backoff: 1s, ignoredmediatypes: [a/b],"
        " ignore: {mediatypes: [c/d], actions: [pull]}}"
    )
    (found,) = loaded(tmp_path, text).settings.notifications.endpoints
    assert (found.name, found.disabled, found.timeout, found.threshold) == ("one", True, 0.5, 5)
    assert found.headers == {"Authorization": ("Bearer x",)}
    assert (found.ignoredmediatypes, found.ignore.actions) == (("a/b",), ("pull",))
    assert found.retries == SCHEDULE


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    text = f"{GOOD[:-1]}, secrets: [{SECRET}], headers: {{Authorization: [Bearer hush]}}}}"
    text = shown(loaded(tmp_path, text), origins=False)
    assert SECRET not in text
    assert "hush" not in text
    assert text.count("(hidden)") >= 2
    assert "receiver.example" in text
    text = shown(loaded(tmp_path, "{name: one, url: 'https://u:hush@h'}"), origins=False)
    assert "hush" not in text
    assert "https://(hidden)@h" in text


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://hooks.example/services/T0/B0/hush", "https://hooks.example/(hidden)"),
        ("https://hooks.example:81?key=hush", "https://hooks.example:81/(hidden)"),
        ("https://hooks.example/#hush", "https://hooks.example/(hidden)"),
        ("https://hooks.example/", "https://hooks.example/"),
    ],
)
def test_the_secrets_of_chats_are_not_shown(tmp_path: Path, url: str, told: str) -> None:
    text = shown(loaded(tmp_path, f"{{name: one, url: '{url}'}}"), origins=True)
    assert "hush" not in text
    assert f'"url": "{told}"' in text


def test_an_address_is_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("https://hooks.example/hush\n")
    path = tmp_path / "config.yml"
    path.write_text("version: 0.1\nnotifications: {endpoints: [{name: chat, format: chat}]}\n")
    given = {"REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL_FILE": str(tmp_path / "url")}
    found = load(path, given, {"filesystem": FilesystemMaker()})  # type: ignore[dict-item]
    assert found.settings.notifications.endpoints[0].url == "https://hooks.example/hush"


def test_passwords_in_addresses_are_not_shown(tmp_path: Path) -> None:
    text = "{name: one, url: 'https://user:p%40ss@receiver.example/hook?x=a@b'}"
    more = "health: {http: [{uri: 'http://u:pass@other.example/'}]}"
    text = shown(loaded(tmp_path, text, more), origins=True)
    assert "ss@" not in text
    assert "user" not in text
    assert "https://(hidden)@receiver.example/(hidden)" in text
    assert "http://(hidden)@other.example/" in text


@pytest.mark.parametrize(
    ("endpoint", "wrong"),
    [
        ("{url: 'http://a'}", "name: is required"),
        ("{name: one}", "url: is required"),
        ("{name: one, url: 'ftp://a'}", "has to be an address"),
        ("{name: one, url: 'http://'}", "has to be an address"),
        ("{name: one, url: 'http://a b'}", "has to be an address"),
        (f"{GOOD[:-1]}, format: v3}}", "has to be one of chat, cloudevents, v1, v2"),
        (f"{GOOD[:-1]}, secrets: [short]}}", "base64 of at least 24"),
        (f"{GOOD[:-1]}, ignore: {{actions: [pulls]}}}}", "is no action"),
        (f"{GOOD[:-1]}, repositories: ['a b']}}", "matches no repository"),
        (f"{GOOD[:-1]}, tags: ['a/b']}}", "matches no tag"),
        (f"{GOOD[:-1]}, headers: {{'a b': [c]}}}}", "no name of a header field"),
        (f"{GOOD[:-1]}, threshold: 0}}", "has to be >= 1"),
        (f"{GOOD}\n    - {GOOD}", "two endpoints have the name"),
        ("{name: 'a b', url: 'http://a'}", "has to be of letters"),
    ],
)
def test_mistakes(tmp_path: Path, endpoint: str, wrong: str) -> None:
    with pytest.raises(ConfigurationMistakes) as caught:
        loaded(tmp_path, endpoint)
    assert wrong in str(caught.value)
