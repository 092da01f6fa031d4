"""``txregistry check``: what it finds in a tree that was tampered with, and what it mends."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from attrs import define
from running import Running, running
from trees import ROOT, Tree, into, links_in
from wire import OCI_INDEX, OCI_MANIFEST, Client, digest_of


def found(registry: Running, *options: str) -> tuple[int, Counter[str]]:
    """Its exit code, and what it found, by kind."""
    done = registry.check("--json", *options)
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    assert findings[-1]["counts"] == Counter(each["kind"] for each in findings[:-1])
    return done.returncode, Counter(findings[-1]["counts"])


@define
class Broken:
    """A registry that is stopped, and where its things are."""

    registry: Running
    image: dict[str, Any]
    digest: str

    def link(self, place: str) -> Path:
        """The file of a link."""
        return self.registry.root / ROOT / "repositories" / "team/app" / place / "link"

    def layer(self, digest: str) -> Path:
        """The link of a layer."""
        return self.link(f"_layers/{digest.replace(':', '/')}")

    def data(self, digest: str) -> Path:
        """The file of some bytes."""
        algorithm, _, text = digest.partition(":")
        return self.registry.root / ROOT / "blobs" / algorithm / text[:2] / text / "data"


@pytest.fixture
def broken(tmp_path: Path) -> Broken:
    with running(tmp_path / "ours") as registry:
        client = Client(registry)
        image = client.image("team/app", layers=4)
        body = json.dumps(image).encode()
        for tag in ("one", "two"):
            assert client.manifest("team/app", tag, body, media_type=OCI_MANIFEST).status == 201
        client.pushed("other", "1")
        client.close()
        # While it serves nothing is wrong either.
        assert found(registry, "--bytes") == (0, Counter())
        done = registry.check("--repair")
        assert done.returncode == 1
        assert "a registry serves it" in done.stderr
    return Broken(registry, image, digest_of(body))


def test_nothing_is_wrong(broken: Broken) -> None:
    done = broken.registry.check("--repair", "--bytes")
    assert (done.returncode, done.stdout) == (0, "0 wrong, 0 mended\n"), done.stderr


def test_links(broken: Broken) -> None:
    """Links are written as the database says; what only the tree knows is taken over."""
    before = links_in(broken.registry.root)
    layers = [layer["digest"] for layer in broken.image["layers"]]
    broken.layer(layers[0]).unlink()
    broken.layer(layers[1]).write_bytes(b"")
    broken.link(f"_manifests/revisions/{broken.digest.replace(':', '/')}").write_text(layers[0])
    broken.link("_manifests/tags/one/current").unlink()
    other = digest_of(b"other")
    broken.link("_manifests/tags/two/current").write_text(other)
    tree = Tree(into(broken.registry.root))
    new = tree.image("team/new", "1")
    tree.link("team/app", "_manifests/tags/nothing/current", other)
    tree.link("team/app", "_manifests/tags/empty/current", b"")
    tree.link("team/app", f"_layers/{other.replace(':', '/')}", other)
    tree.write(f"{ROOT}/repositories/team/app/_manifests/tags/one/current/link.1.tmp", b"")
    tree.write(f"{ROOT}/repositories/team/app/_uploads/1/startedat", b"2015-01-01T00:00:00Z")
    expected = Counter(
        {
            "link missing": 2,
            "link damaged": 3,
            "tag differs": 1,
            "link unknown": 4,
            "tag without manifest": 1,
            "link without bytes": 1,
            "leftover": 2,
        }
    )
    # The bytes of what is not known yet count as unused until it is.
    unused = Counter({"unused bytes": 3})
    assert found(broken.registry) == (1, expected + unused)
    assert found(broken.registry, "--repair") == (0, expected)
    assert found(broken.registry, "--bytes") == (0, Counter({"leftover": 2}))
    after = links_in(broken.registry.root)
    assert before.items() <= after.items()
    assert all(key.startswith("team/new/") for key in after.keys() - before.keys())
    with running(broken.registry.directory) as registry:
        client = Client(registry)
        reply = client.call("HEAD", "/v2/team/new/manifests/1")
        assert reply.headers["docker-content-digest"] == new
        assert client.call("GET", "/v2/team/app/tags/list").json()["tags"] == ["one", "two"]
        client.close()


def test_bytes(broken: Broken) -> None:
    """What is damaged is set aside, what is gone is dropped."""
    layers = [layer["digest"] for layer in broken.image["layers"]]
    kept = broken.data(layers[0]).read_bytes()
    broken.data(layers[0]).write_bytes(bytes([kept[0] ^ 1]) + kept[1:])
    broken.data(layers[1]).write_bytes(b"short")
    shutil.rmtree(broken.data(layers[2]).parent)
    loose = digest_of(b"loose")
    broken.data(loose).parent.mkdir(parents=True)
    broken.data(loose).write_bytes(b"loose")
    broken.data(loose).with_name("data.tmp").write_bytes(b"")
    notes = Counter({"unused bytes": 1, "leftover": 1})
    quick = Counter({"size differs": 1, "bytes missing": 1}) + notes
    thorough = quick + Counter({"bytes damaged": 2})
    # A layer that is gone is missed by its link as well.
    assert found(broken.registry) == (1, quick)
    assert found(broken.registry, "--bytes") == (1, thorough)
    assert found(broken.registry, "--bytes", "--repair") == (1, thorough)
    # What was set aside is neither in the database nor in the tree any more; the image lacks it.
    lacking = Counter({"content lacking": 3})
    assert found(broken.registry, "--bytes") == (1, notes + lacking)
    told = broken.registry.check().stdout
    for layer in layers[:3]:
        line = f"content lacking: team/app@{broken.digest}: {layer} (push the image again)"
        assert line in told.splitlines()
    assert len(list((broken.registry.root / "txregistry/quarantine/sha256").iterdir())) == 2
    shutil.rmtree(broken.data(broken.digest).parent)
    assert found(broken.registry, "--repair")[1]["bytes missing"] == 1
    with running(broken.registry.directory) as registry:
        client = Client(registry)
        assert client.call("GET", "/v2/team/app/tags/list").json()["tags"] == []
        assert client.call("GET", f"/v2/team/app/blobs/{layers[2]}").status == 404
        client.close()


def test_content_that_is_lacking(tmp_path: Path) -> None:
    """Children of indexes, and what need not be there: subjects, layers that are elsewhere."""
    elsewhere = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    absent = digest_of(b"absent")
    with running(tmp_path) as registry:
        client = Client(registry)
        image = client.image("a", layers=1)
        foreign = {"mediaType": elsewhere, "digest": absent, "size": 6, "urls": ["http://x/y"]}
        image["layers"].append(foreign)
        image["subject"] = {"mediaType": OCI_MANIFEST, "digest": absent, "size": 6}
        body = json.dumps(image).encode()
        assert client.manifest("a", "1", body, media_type=OCI_MANIFEST).status == 201
        child = {"mediaType": OCI_MANIFEST, "digest": digest_of(body), "size": len(body)}
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child]}
        whole = json.dumps(index).encode()
        assert client.manifest("a", "all", whole, media_type=OCI_INDEX).status == 201
        client.close()
        assert found(registry) == (0, Counter())
        client = Client(registry)
        assert client.call("DELETE", f"/v2/a/manifests/{digest_of(body)}").status == 202
        client.close()
        told = registry.check().stdout.splitlines()
        lacking = f"a@{digest_of(whole)}: {digest_of(body)} (push the image again)"
        assert told == [f"content lacking: {lacking}", "1 wrong, 0 mended: 1 x content lacking"]
    indexes = {"validation": {"manifests": {"indexes": {"platforms": "none"}}}}
    assert found(Running(tmp_path, settings=indexes)) == (0, Counter())


def test_a_tree_that_is_not_read(tmp_path: Path) -> None:
    registry = Running(tmp_path / "ours")
    registry.directory.mkdir()
    Tree(into(registry.root)).image("a", "1")
    done = registry.check()
    assert done.returncode == 1
    assert "not read to the end" in done.stdout
