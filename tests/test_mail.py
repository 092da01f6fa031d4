"""Mails about grave records: few, whole, and never in the way."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage, Message
from pathlib import Path
from typing import Any

import pytest
from lives import wait_for
from running import running
from twisted.internet.task import Clock
from twisted.logger import Logger

from txregistry.config.observing import mail_options
from txregistry.mail import INTERVAL, TOLD, MailHook

GOOD: dict[str, Any] = {
    "smtp": {"addr": "mail.example:25", "username": "u", "password": "hush", "insecure": True},
    "from": "registry@example",
    "to": ["admin@example", "other@example"],
}


class Now(Clock):
    """A reactor that lives in one thread."""

    def callFromThread(self, call: Any, *arguments: Any) -> None:
        """Call at once."""
        call(*arguments)


class Scene:
    """A hook, and the mails that it has sent."""

    def __init__(self, levels: list[str]) -> None:
        self.clock, self.mails = Now(), list[EmailMessage]()
        self.fails = False
        to = ["admin@example"]
        self.hook = MailHook(self.clock, levels, "registry@example", to, self.deliver)
        self.log = Logger("somebody", observer=self.hook)

    async def deliver(self, message: EmailMessage) -> None:
        """Take a mail."""
        self.mails.append(message)
        if self.fails:
            raise OSError("nobody takes mails")

    def text(self) -> str:
        """The last mail."""
        return str(self.mails[-1].get_content())


def test_levels() -> None:
    scene = Scene(["panic", "warning"])
    scene.log.error("not this")
    scene.log.info("nor this")
    assert scene.mails == []
    scene.log.warn("this, by {who}", who="me")
    assert "this, by me" in scene.text()
    assert scene.mails[0]["Subject"].endswith(": [warn] this, by me")
    assert (scene.mails[0]["From"], scene.mails[0]["To"]) == ("registry@example", "admin@example")


def test_one_mail_a_minute() -> None:
    scene = Scene(["error"])
    for number in range(TOLD + 6):
        scene.log.error("number {number}", number=number)
    assert len(scene.mails) == 1
    scene.clock.advance(INTERVAL - 1)
    assert len(scene.mails) == 1
    scene.clock.advance(1)
    assert [f"number {number}" in scene.text() for number in (0, 1, TOLD, TOLD + 1)] == [
        False,
        True,
        True,
        False,
    ]
    assert "and 5 more" in scene.text()
    scene.clock.advance(INTERVAL)
    assert (len(scene.mails), scene.clock.getDelayedCalls()) == (2, [])
    scene.log.error("much later")
    assert len(scene.mails) == 3
    assert "more" not in scene.text()


def test_a_subject_is_one_line() -> None:
    scene = Scene(["error"])
    scene.log.error("one\r\nBcc: everybody@example\nline {text}", text="\x00\u2028")
    assert "\n" not in scene.mails[0]["Subject"]
    assert scene.mails[0]["Bcc"] is None


def test_failures_carry_their_traceback() -> None:
    scene = Scene(["panic"])
    try:
        raise ValueError("why")
    except ValueError:
        scene.log.failure("it failed")
    assert "test_failures_carry_their_traceback" in scene.text()


def test_what_cannot_be_sent_is_no_reason_for_more() -> None:
    scene = Scene(["warn", "panic"])
    scene.fails = True
    scene.log.warn("once")
    Logger("txregistry.mail", observer=scene.hook).warn("not about itself")
    scene.clock.advance(INTERVAL)
    assert len(scene.mails) == 1
    scene.hook.stop()
    scene.log.warn("too late")
    assert len(scene.mails) == 1


def test_options() -> None:
    found = mail_options(GOOD)
    assert (found.host, found.port, found.username) == ("mail.example", 25, "u")
    assert (found.password, found.insecure) == ("hush", True)
    assert (found.sender, found.recipients) == (GOOD["from"], tuple(GOOD["to"]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"smtp": None}, "smtp"),
        ({"smtp": {"addr": "nowhere"}}, "host:port"),
        ({"smtp": {"adr": "x:25"}}, "no option 'adr'"),
        ({"from": None}, "from"),
        ({"to": []}, "to"),
        ({"to": ["nobody"]}, "addresses"),
        ({"from": "a@b\nBcc: c@d"}, "addresses"),
        ({"cc": ["a@b"]}, "no option 'cc'"),
    ],
)
def test_options_that_cannot_be_used(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        mail_options({**GOOD, **change})


class Mailbox(socketserver.StreamRequestHandler):
    """A mail server that takes everything; ``mails`` are what has come."""

    mails: list[bytes]

    def handle(self) -> None:
        """Talk to one client."""
        self._say("220 here")
        while line := self.rfile.readline():
            word = line[:4].upper()
            if word == b"DATA":
                self._say("354 go on")
                lines = []
                while (text := self.rfile.readline()) not in (b".\r\n", b""):
                    lines.append(text)
                self.mails.append(b"".join(lines))
            self._say("221 bye" if word == b"QUIT" else "250 good")

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@pytest.fixture
def mailbox() -> Iterator[Any]:
    """A mail server."""
    handler = type("Own", (Mailbox,), {"mails": []})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_registry_sends_them(tmp_path: Path, mailbox: Any) -> None:
    options = {
        "smtp": {"addr": f"127.0.0.1:{mailbox.server_address[1]}"},
        "from": "registry@example.com",
        "to": ["one@example.com", "two@example.com"],
    }
    settings = {
        "log": {"hooks": [{"type": "mail", "levels": ["error"], "options": options}]},
        "health": {"storagedriver": {"interval": "50ms", "threshold": 1}},
    }
    mails: list[bytes] = mailbox.RequestHandlerClass.mails
    with running(tmp_path, settings=settings) as registry:
        staging = registry.root / "txregistry" / "tmp"
        staging.rename(staging.with_name("away"))
        found: Message = message_from_bytes(wait_for(lambda: mails)[0])
        assert registry.get("/v2/")[0] == 200
    assert found["To"] == "one@example.com, two@example.com"
    assert "storagedriver_filesystem fails" in found["Subject"]
