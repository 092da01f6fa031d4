"""Deletion, history, sizes and collecting over HTTP, for those who may, in several processes."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from accounts import basic, password_file, token
from attrs import define
from running import Running, running
from wire import OCI_INDEX, OCI_MANIFEST, Client, Reply, digest_of

BASE = "/txregistry/v1/repositories"
NAMES = ("alice", "owner", "pusher", "reader", "other")

SETTINGS: Mapping[str, Any] = {
    "workers": 2,
    "gc": {"interval": "300ms", "delay": "1h"},
    "retention": {
        "interval": "0s",
        "policies": [
            {
                "repositories": ["team/kept"],
                "keeptags": [{"patterns": ["v*"], "mostrecentlypushedcount": 1}],
            }
        ],
    },
    "access": {
        "immutable": [{"repositories": ["team/**"], "tags": ["fixed*"]}],
        "rules": [
            {"repositories": ["**"], "users": {"alice": ["*"]}},
            {
                "repositories": ["team/**"],
                "users": {"owner": ["*"], "pusher": ["pull", "push"], "reader": ["pull"]},
            },
            {"repositories": ["team/below/closed"], "deny": {"users": {"owner": ["delete"]}}},
            {"repositories": ["team/below/secret"], "deny": {"users": {"owner": ["*"]}}},
            {"repositories": ["other/**"], "users": {"other": ["*"]}},
        ],
    },
}


@define
class Account(Client):
    """A client that asks for documents."""

    def get(self, path: str, **query: Any) -> Any:
        """A document."""
        reply = self.call("GET", path, **query)
        assert reply.status == 200, reply.body
        return reply.json()

    def restore(self, name: str, tag: str, **where: Any) -> Reply:
        """Point a tag somewhere again."""
        path, fields = f"{BASE}/{name}/-/tags/{tag}/restore", {"Content-Type": "application/json"}
        return self.call("POST", path, json.dumps(where), fields)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("repositories")
    accounts = password_file(directory / "accounts", *NAMES)
    auth = {
        "htpasswd": {"path": str(accounts)},
        "apikeys": {"admins": {"users": ["alice"]}},
        "tokenservice": {"enabled": True},
    }
    with running(directory / "registry", settings={**SETTINGS, "auth": auth}) as found:
        yield found
        assert "error.traceback" not in found.log()
        assert "incident" not in found.log()


Accounts = Callable[[str], Account]


@pytest.fixture
def account(registry: Running) -> Iterator[Accounts]:
    found: list[Account] = []

    def make(name: str) -> Account:
        found.append(Account(registry, basic(name)))
        return found[-1]

    yield make
    for each in found:
        each.close()


@pytest.fixture
def owner(account: Accounts) -> Account:
    return account("owner")


def now() -> str:
    """A moment between what was before and what comes."""
    time.sleep(0.01)
    text = datetime.now(UTC).isoformat()
    time.sleep(0.01)
    return text


def events(registry: Running, repository: str) -> set[tuple[str, str]]:
    """Who has done what in a repository, as the log of events tells."""
    import sqlite3

    database = sqlite3.connect(registry.root / "txregistry/metadata.sqlite3")
    rows = database.execute(
        "SELECT action, origin FROM event WHERE repository = ?", (repository,)
    ).fetchall()
    database.close()
    return {(action, json.loads(origin)["actor"]) for action, origin in rows}


# --- deleting --------------------------------------------------------------------------------


def test_an_image_with_its_referrers(registry: Running, owner: Account) -> None:
    document = owner.image("team/image", layers=2)
    body = json.dumps(document).encode()
    digest = digest_of(body)
    for tag in ("1", "2"):
        assert owner.manifest("team/image", tag, body, media_type=OCI_MANIFEST).status == 201
    other = {**document, "layers": document["layers"][:1], "annotations": {"a": "b"}}
    assert owner.manifest("team/image", "3", other).status == 201
    subject = {"mediaType": OCI_MANIFEST, "digest": digest, "size": len(body)}
    signature = {**other, "subject": subject}
    signed = digest_of(json.dumps(signature).encode())
    assert owner.manifest("team/image", signed, signature).status == 201
    lost = document["layers"][1]
    alone = owner.get(f"{BASE}/team/image/-/tags/1/impact")["repositories"][0]
    assert alone["counts"] == {"tags": 1, "manifests": 0, "blobs": 0}
    told = owner.get(f"{BASE}/team/image/-/images/1/impact")
    assert not told["deleted"]
    assert told["kept_shared"] == 2
    assert told["freed"] == len(body) + len(json.dumps(signature)) + lost["size"]
    assert told["repositories"][0]["tags"] == ["1", "2"]
    assert set(told["repositories"][0]["manifests"]) == {digest, signed}
    assert told["repositories"][0]["blobs"] == [lost["digest"]]
    assert owner.call("HEAD", f"/v2/team/image/manifests/{signed}").status == 200
    done = owner.call("DELETE", f"{BASE}/team/image/-/images/1")
    assert done.status == 200, done.body
    assert done.json() == {**told, "deleted": True}
    for reference in ("1", "2", digest, signed):
        assert owner.call("HEAD", f"/v2/team/image/manifests/{reference}").status == 404
    assert owner.call("HEAD", "/v2/team/image/manifests/3").status == 200
    assert ("delete", "owner") in events(registry, "team/image")


def test_a_tag_or_a_manifest_alone(owner: Account) -> None:
    body = json.dumps(owner.image("team/alone")).encode()
    digest = digest_of(body)
    for tag in ("1", "2", "3"):
        assert owner.manifest("team/alone", tag, body, media_type=OCI_MANIFEST).status == 201
    assert owner.call("DELETE", f"{BASE}/team/alone/-/tags/1").status == 200
    assert owner.get("/v2/team/alone/tags/list")["tags"] == ["2", "3"]
    assert owner.call("DELETE", f"{BASE}/team/alone/-/tags/1").code == "MANIFEST_UNKNOWN"
    told = owner.get(f"{BASE}/team/alone/-/manifests/{digest}/impact")["repositories"][0]
    assert told["tags"] == ["2", "3"]
    assert owner.call("DELETE", f"{BASE}/team/alone/-/manifests/{digest}").status == 200
    assert owner.get("/v2/team/alone/tags/list")["tags"] == []


def test_parts_of_a_live_index_stay(owner: Account) -> None:
    child = owner.pushed("team/index", "child")
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child]}
    assert owner.manifest("team/index", "all", index).status == 201
    for kind in ("manifests", "images"):
        refused = owner.call("DELETE", f"{BASE}/team/index/-/{kind}/{child['digest']}")
        assert (refused.status, refused.code) == (403, "DENIED")
        assert "delete that one first" in refused.json()["errors"][0]["message"]
        index_digest = digest_of(json.dumps(index).encode())
        assert refused.json()["errors"][0]["detail"] == {"indexes": [index_digest]}
    assert owner.call("DELETE", f"{BASE}/team/index/-/tags/child").status == 200
    assert owner.call("HEAD", f"/v2/team/index/manifests/{child['digest']}").status == 200
    # What refers to an image, and holds a part that does so itself, goes whole.
    subject = owner.pushed("team/index", "subject")
    part = owner.image("team/index", subject=subject)
    assert owner.manifest("team/index", "part", part).status == 201
    size = len(json.dumps(part))
    held = {"mediaType": OCI_MANIFEST, "digest": digest_of(json.dumps(part).encode())}
    both = {**index, "manifests": [{**held, "size": size}], "subject": subject}
    assert owner.manifest("team/index", "both", both).status == 201
    done = owner.call("DELETE", f"{BASE}/team/index/-/images/subject")
    assert done.status == 200, done.body
    assert done.json()["repositories"][0]["counts"]["manifests"] == 3
    assert owner.get("/v2/team/index/tags/list")["tags"] == ["all"]


def test_a_repository_and_what_is_below(owner: Account, account: Accounts) -> None:
    for name in ("team/whole", "team/whole/a/b", "team/whole-not"):
        owner.pushed(name, "1")
        owner.pushed(name, "2")
    path = f"{BASE}/team/whole"
    told = owner.get(f"{path}/-/impact")
    assert [each["repository"] for each in told["repositories"]] == ["team/whole"]
    assert told["repositories"][0]["counts"] == {"tags": 2, "manifests": 2, "blobs": 4}
    assert told["freed"] == owner.get(path)["own"]
    below = owner.get(f"{path}/-/impact", below="true")
    names = [each["repository"] for each in below["repositories"]]
    assert names == ["team/whole", "team/whole/a/b"]
    # A misspelled parameter is no parameter.
    assert owner.call("DELETE", path, dryrun="true").status == 400
    assert owner.call("DELETE", path, below="maybe").status == 400
    assert owner.call("DELETE", path).status == 200
    assert owner.call("GET", path).code == "NAME_UNKNOWN"
    assert owner.call("DELETE", path).code == "NAME_UNKNOWN"
    assert owner.call("DELETE", path, below="true").status == 200
    assert owner.call("HEAD", "/v2/team/whole/a/b/manifests/1").status == 404
    assert owner.call("HEAD", "/v2/team/whole-not/manifests/1").status == 200


def test_rights_of_every_repository_below(owner: Account, account: Accounts) -> None:
    alice = account("alice")
    for name in ("team/below", "team/below/closed", "team/below/open", "team/below/secret"):
        alice.pushed(name, "1")
    path = f"{BASE}/team/below"
    refused = owner.call("DELETE", path, below="true")
    assert (refused.status, refused.code) == (403, "DENIED")
    assert refused.json()["errors"][0]["detail"]["repository"] == "team/below/closed"
    # Nothing of it was done.
    assert owner.call("HEAD", "/v2/team/below/manifests/1").status == 200
    assert alice.call("DELETE", f"{BASE}/team/below/closed").status == 200
    done = owner.call("DELETE", path, below="true").json()
    names = [each["repository"] for each in done["repositories"]]
    assert names == ["team/below", "team/below/open"]
    assert alice.call("HEAD", "/v2/team/below/secret/manifests/1").status == 200


def test_immutable_tags_stay(owner: Account) -> None:
    fixed = owner.pushed("team/fixed", "fixed-1")
    newer = owner.pushed("team/fixed", "2")
    digest = fixed["digest"]
    for rest in ("/-/tags/fixed-1", f"/-/manifests/{digest}", "/-/images/fixed-1", ""):
        for method, what in (("GET", "/impact" if rest else "/-/impact"), ("DELETE", "")):
            refused = owner.call(method, f"{BASE}/team/fixed{rest}{what}")
            assert (refused.status, refused.code) == (403, "DENIED"), refused.body
            assert refused.json()["errors"][0]["detail"] == {"tags": ["fixed-1"]}
    assert owner.get("/v2/team/fixed/tags/list")["tags"] == ["2", "fixed-1"]
    refused = owner.restore("team/fixed", "fixed-1", digest=newer["digest"])
    assert (refused.status, refused.code) == (403, "DENIED")


# --- history ---------------------------------------------------------------------------------


def test_history_of_a_tag(registry: Running, owner: Account, account: Accounts) -> None:
    name, path = "team/history", f"{BASE}/team/history/-"
    moments = [now()]
    digests = []
    for _ in range(3):
        digests.append(owner.pushed(name, "latest")["digest"])
        moments.append(now())
    owner.pushed(name, "steady")
    assert owner.call("DELETE", f"{path}/tags/latest").status == 200
    moves = owner.get(f"{path}/tags/latest/history")["moves"]
    assert [each["digest"] for each in moves] == [None, *reversed(digests)]
    assert [each["previous"] for each in moves] == [*reversed(digests), None]
    assert {each["actor"] for each in moves} == {"owner"}
    assert len(owner.get(f"{path}/history")["moves"]) == 5
    # Page by page, in whichever process.
    found, where = [], f"{path}/tags/latest/history?n=3"
    while where:
        reply = owner.call("GET", where)
        found += reply.json()["moves"]
        where = reply.headers.get("link", "").partition("<")[2].partition(">")[0]
    assert found == moves
    # As of a moment; the time of a move itself counts.
    for moment, digest in zip(moments[1:], digests, strict=True):
        assert owner.get(f"{path}/tags/latest", at=moment)["digest"] == digest
    assert owner.get(f"{path}/tags/latest", at=moves[1]["at"])["digest"] == digests[2]
    missing = owner.call("GET", f"{path}/tags/latest", at=moments[0])
    assert (missing.status, missing.code) == (404, "MANIFEST_UNKNOWN")
    assert owner.call("GET", f"{path}/tags/latest").status == 404
    # Two moments.
    tags = owner.get(f"{path}/diff", **{"from": moments[1], "to": moments[2]})["tags"]
    assert tags == [{"tag": "latest", "before": digests[0], "after": digests[1]}]
    tags = owner.get(f"{path}/diff", **{"from": moments[3]})["tags"]
    steady = owner.get(f"{path}/tags/steady")["digest"]
    assert tags == [
        {"tag": "latest", "before": digests[2], "after": None},
        {"tag": "steady", "before": None, "after": steady},
    ]
    assert len(owner.get(f"{path}/diff", **{"from": moments[3], "n": 1})["tags"]) == 1
    assert owner.get(f"{path}/diff", **{"from": moments[0], "to": moments[0]})["tags"] == []
    for query in ({}, {"from": "yesterday"}, {"from": moments[1], "to": moments[0]}):
        assert owner.call("GET", f"{path}/diff", **query).status == 400


def test_restoring(registry: Running, owner: Account, account: Accounts) -> None:
    first = owner.pushed("team/restored", "latest")["digest"]
    before = now()
    second = owner.pushed("team/restored", "latest")["digest"]
    pusher, reader = account("pusher"), account("reader")
    # Who may push, but not overwrite, and who may neither.
    assert pusher.restore("team/restored", "latest", at=before).code == "DENIED"
    assert reader.restore("team/restored", "latest", at=before).code == "DENIED"
    done = owner.restore("team/restored", "latest", at=before)
    assert done.status == 200, done.body
    assert done.json()["digest"] == first
    assert owner.get(f"{BASE}/team/restored/-/tags/latest")["digest"] == first
    assert owner.restore("team/restored", "other", digest=second).status == 200
    assert pusher.restore("team/restored", "third", digest=second).status == 200
    moves = owner.get(f"{BASE}/team/restored/-/tags/third/history")["moves"]
    assert moves[0]["actor"] == "pusher"
    assert owner.call("DELETE", f"{BASE}/team/restored/-/images/{second}").status == 200
    gone = owner.restore("team/restored", "latest", digest=second)
    assert (gone.status, gone.code) == (404, "MANIFEST_UNKNOWN")
    assert "push it again" in gone.json()["errors"][0]["message"]
    path = f"{BASE}/team/restored/-/tags/latest/restore"
    for body, kind, status in (
        ('{"at": 5}', "application/json", 400),
        ("{}", "application/json", 400),
        ('{"to": "x"}', "application/json", 400),
        ('{"digest": "x"}', "application/json", 400),
        ("no", "application/json", 400),
        ("digest=x", "application/x-www-form-urlencoded", 415),
    ):
        assert owner.call("POST", path, body, {"Content-Type": kind}).status == status, body


# --- how much, and why -----------------------------------------------------------------------


def test_sizes(owner: Account, account: Accounts) -> None:
    document = owner.image("team/size/a")
    body = json.dumps(document).encode()
    assert owner.manifest("team/size/a", "1", body, media_type=OCI_MANIFEST).status == 201
    layer = document["layers"][0]
    mounted = owner.call(
        "POST",
        "/v2/team/size/b/blobs/uploads/",
        mount=layer["digest"],
        **{"from": "team/size/a"},
    )
    assert mounted.status == 201
    total = len(body) + document["config"]["size"] + layer["size"]
    assert owner.get(f"{BASE}/team/size/a") == {
        "repository": "team/size/a",
        "tags": 1,
        "manifests": 1,
        "blobs": 2,
        "own": total - layer["size"],
        "shared": layer["size"],
        "total": total,
    }
    reader, other, alice = account("reader"), account("other"), account("alice")
    assert reader.get(f"{BASE}/team/size/a")["total"] == total
    other.pushed("other/size", "1")
    mine = other.get(BASE)
    assert [each["repository"] for each in mine["repositories"]] == ["other/size"]
    assert mine["stored"] is None
    everything = alice.get(BASE)
    assert everything["stored"] > total
    names, where = [], f"{BASE}?n=2"
    while where:
        reply = reader.call("GET", where)
        names += [each["repository"] for each in reply.json()["repositories"]]
        where = reply.headers.get("link", "").partition("<")[2].partition(">")[0]
    all_names = [each["repository"] for each in everything["repositories"]]
    assert names == [name for name in all_names if name.startswith("team/")]
    assert len(names) > 2


def test_why_a_digest_is_kept(owner: Account, account: Accounts) -> None:
    pushed = owner.pushed("team/why", "1")
    path = f"/txregistry/v1/digests/{pushed['digest']}"
    held = owner.get(path)["held"]
    assert [(each["repository"], each["kind"]) for each in held] == [("team/why", "manifest")]
    assert held[0]["held_by"] == [{"kind": "tag", "name": "1"}]
    assert held[0]["without_holder_since"] is None
    assert owner.call("DELETE", f"{BASE}/team/why/-/tags/1").status == 200
    since = owner.get(path)["held"][0]["without_holder_since"]
    ago = datetime.now(UTC) - datetime.fromisoformat(since)
    assert timedelta(0) <= ago < timedelta(minutes=5)
    unknown = account("other").call("GET", path)
    assert (unknown.status, unknown.code) == (404, "BLOB_UNKNOWN")
    nothing = account("other").call("GET", f"/txregistry/v1/digests/{digest_of(b'nothing')}")
    assert nothing.status == 404


def test_what_retention_would_do(owner: Account) -> None:
    for tag in ("v1", "v2", "x", "fixed"):
        owner.pushed("team/kept", tag)
    found = owner.get(f"{BASE}/team/kept/-/retention")
    assert (found["policy"], found["kept"], found["gone"]) == (True, 2, 2)
    kept = {each["tag"]: each["kept"] for each in found["tags"]}
    assert kept == {"fixed": True, "v1": False, "v2": True, "x": False}
    assert "no rule" in found["tags"][3]["because"]
    reply = owner.call("GET", f"{BASE}/team/kept/-/retention", n=1, last="fixed")
    assert [each["tag"] for each in reply.json()["tags"]] == ["v1"]
    assert "last=v1" in reply.headers["link"]
    owner.pushed("team/policyless", "1")
    found = owner.get(f"{BASE}/team/policyless/-/retention")
    assert (found["policy"], found["tags"]) == (False, [])


def test_how_collecting_is_going(registry: Running, owner: Account, account: Accounts) -> None:
    alice, path = account("alice"), "/txregistry/v1/gc"
    owner.pushed("team/waiting", "1")
    assert owner.call("DELETE", f"{BASE}/team/waiting/-/tags/1").status == 200
    deadline = time.monotonic() + 20
    while (found := alice.get(path))["last"] is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert found["enabled"]
    assert not found["paused"]
    assert found["waiting"]["manifest"] >= 1
    assert set(found["last"]["removed"]) == {"tag", "manifest", "blob", "content"}
    assert owner.call("GET", path).code == "DENIED"
    assert account("").call("GET", path).status == 401
    # A token is limited, whoever has it.
    limited = token(registry, "alice", "repository:team/waiting:pull")
    assert account("").call("GET", path, headers=limited).status == 403


# --- who may ---------------------------------------------------------------------------------

PATHS = (
    ("GET", ""),
    ("DELETE", ""),
    ("GET", "/-/impact"),
    ("GET", "/-/history"),
    ("GET", "/-/diff?from=2026-01-01"),
    ("GET", "/-/retention"),
    ("GET", "/-/tags/1"),
    ("DELETE", "/-/tags/1"),
    ("GET", "/-/tags/1/impact"),
    ("GET", "/-/tags/1/history"),
    ("POST", "/-/tags/1/restore"),
    ("DELETE", "/-/manifests/{digest}"),
    ("GET", "/-/manifests/{digest}/impact"),
    ("DELETE", "/-/images/1"),
    ("GET", "/-/images/1/impact"),
)


@pytest.mark.parametrize(("method", "rest"), PATHS)
def test_what_one_may_not_see_is_as_if_absent(
    registry: Running, account: Accounts, method: str, rest: str
) -> None:
    pushed = account("owner").pushed("team/seen", "1")
    other, reader, nobody = account("other"), account("reader"), account("")
    body = json.dumps({"digest": pushed["digest"]}) if method == "POST" else None
    fields = {"Content-Type": "application/json"}
    rest = rest.replace("{digest}", pushed["digest"])

    def ask(who: Account, name: str, **headers: str) -> tuple[int, str]:
        reply = who.call(method, f"{BASE}/{name}{rest}", body, {**fields, **headers})
        return reply.status, reply.body.decode().replace(name, "NAME")

    assert ask(other, "team/seen") == ask(other, "team/unseen")
    assert ask(other, "team/seen")[0] == 403
    assert ask(nobody, "team/seen")[0] == 401
    # Who may pull may not delete, or learn what that would mean.
    forbidden = method != "GET" or rest.endswith("impact")
    assert ask(reader, "team/seen")[0] == (403 if forbidden else 200)
    # A token that grants something else.
    limited = token(registry, "owner", "repository:team/else:pull,push,delete")
    assert ask(nobody, "team/seen", **limited)[0] == 401


def test_names_that_look_like_resources(owner: Account) -> None:
    """What follows a hyphen alone is no part of a name."""
    for name in ("team/tags/1", "team/a-/b", "team/history"):
        reply = owner.call("GET", f"{BASE}/{name}")
        assert reply.status in (200, 400, 404)
        assert reply.status == 200 or reply.code in ("NAME_UNKNOWN", "NAME_INVALID")
    owner.pushed("team/tags/impact", "impact")
    path = f"{BASE}/team/tags/impact/-/tags/impact"
    assert owner.get(f"{path}/impact")["repositories"][0]["repository"] == "team/tags/impact"
    assert owner.call("DELETE", f"{BASE}/team/tags/impact/-/nonsense").status == 400
    assert owner.call("PUT", path).status == 405
    assert owner.call("DELETE", path).status == 200
    assert owner.get(f"{BASE}/team/tags/impact")["manifests"] == 1


# --- modes -----------------------------------------------------------------------------------


def test_read_only(tmp_path: Path) -> None:
    """Nothing is deleted where deleting is switched off, or nothing may change; all is told."""
    with running(tmp_path) as registry:
        client = Account(registry)
        pushed = client.pushed("a", "1")
        upload = client.start("empty").location
        assert client.call("DELETE", upload).status == 204

        def refused() -> list[tuple[int, str]]:
            paths = ("a", "a/-/tags/1", f"a/-/manifests/{pushed['digest']}", "a/-/images/1")
            replies = [client.call("DELETE", f"{BASE}/{path}") for path in paths]
            replies.append(client.restore("a", "2", digest=pushed["digest"]))
            return [(reply.status, reply.body.decode()) for reply in replies]

        registry.settings = {"storage": {"maintenance": {"readonly": {"enabled": True}}}}
        registry.configure()
        assert registry.process is not None
        registry.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 20
        while client.restore("a", "1", digest=pushed["digest"]).status != 405:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert {status for status, _ in refused()} == {405}
        assert all("storage.maintenance.readonly" in text for _, text in refused())
        assert client.get(f"{BASE}/a/-/impact")["repositories"][0]["tags"] == ["1"]
        assert client.get("/txregistry/v1/gc")["paused"]
        client.close()
        registry.stop()
        registry.settings = {"storage": {"delete": {"enabled": False}}}
        registry.start()
        *deletes, restored = refused()
        assert {status for status, _ in deletes} == {405}
        assert all("storage.delete.enabled" in text for _, text in deletes)
        assert restored[0] == 200
        assert not client.get("/txregistry/v1/gc")["enabled"]
        assert client.get("/v2/a/tags/list")["tags"] == ["1", "2"]
        client.close()
