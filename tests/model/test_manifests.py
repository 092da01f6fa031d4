"""Reading manifests: what they refer to, and documents that two parsers would read apart."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txregistry.model import descriptors
from txregistry.model.documents import MAXIMUM_DEPTH, MAXIMUM_NODES, read_object
from txregistry.model.errors import ManifestInvalid
from txregistry.model.manifests import read_manifest

DIGEST = "sha256:" + "a" * 64

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=10,
)


def link(media_type: str = "x/y", digest: str = DIGEST, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": 1, **more}


def image(**more: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "config": link("config/type"), "layers": [link()], **more}


@given(st.dictionaries(st.text(max_size=3), values, max_size=4))
def test_documents(document: dict[str, Any]) -> None:
    assert read_object(json.dumps(document).encode()) == document
    assert read_object(json.dumps(document, ensure_ascii=False).encode()) == document


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"a": 1} x',
        b'{"a": 1, "a": 1}',
        b'{"b": {"a": 1, "\\u0061": 1}}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": "\\ud800"}',
        b'\xef\xbb\xbf{"a": 1}',
        '{"a": 1}'.encode("utf-16"),
        b'{"a": "\xff"}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a": ' + b"[" * MAXIMUM_DEPTH + b"]" * MAXIMUM_DEPTH + b"}",
        b'{"a": [' + b"{}," * MAXIMUM_NODES + b"{}]}",
    ],
)
def test_documents_that_are_refused(body: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        read_object(body)


@given(st.dictionaries(st.sampled_from(["other", "annotation", "Config"]), values))
def test_unknown_fields_pass(more: dict[str, Any]) -> None:
    found = read_manifest(json.dumps(image(**more)).encode(), descriptors.OCI_MANIFEST)
    assert [each.media_type for each in found.blobs] == ["config/type", "x/y"]
    assert found.artifact_type == "config/type"


def test_what_an_index_says() -> None:
    document = {
        "schemaVersion": 2,
        "manifests": [link(platform={"architecture": "arm64", "os": "linux"})],
        "subject": link(digest="sha512:" + "b" * 128),
        "artifactType": "a/t",
        "annotations": {"key": "value"},
    }
    found = read_manifest(json.dumps(document).encode(), descriptors.OCI_INDEX)
    assert (found.children[0].architecture, found.children[0].os) == ("arm64", "linux")
    assert found.subject == "sha512:" + "b" * 128
    assert (found.artifact_type, found.annotations) == ("a/t", {"key": "value"})
    assert found.blobs == []


@pytest.mark.parametrize(
    ("media_type", "required"),
    [
        ("application/vnd.oci.image.layer.v1.tar", 2),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", 1),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", 1),
    ],
)
def test_layers_that_may_be_elsewhere(media_type: str, required: int) -> None:
    document = image(layers=[link(media_type, urls=["https://example.org/x"])])
    found = read_manifest(json.dumps(document).encode(), descriptors.OCI_MANIFEST)
    assert len(found.required_blobs()) == required
    assert len(found.optional_blobs()) == 2 - required


@pytest.mark.parametrize(
    ("stated", "sent", "expected"),
    [
        (descriptors.OCI_MANIFEST, descriptors.OCI_MANIFEST, descriptors.OCI_MANIFEST),
        (None, descriptors.DOCKER_MANIFEST, descriptors.DOCKER_MANIFEST),
        (descriptors.DOCKER_MANIFEST, "", descriptors.DOCKER_MANIFEST),
        (None, "", descriptors.OCI_MANIFEST),
        (None, "application/json", descriptors.OCI_MANIFEST),
    ],
)
def test_types(stated: str | None, sent: str, expected: str) -> None:
    document = image(**({"mediaType": stated} if stated else {}))
    assert read_manifest(json.dumps(document).encode(), sent).media_type == expected


WRONG: list[tuple[str, Any]] = [
    (descriptors.OCI_MANIFEST, image(mediaType=descriptors.OCI_INDEX)),
    (descriptors.OCI_MANIFEST, image(mediaType=7)),
    (descriptors.OCI_MANIFEST, image(manifests=[])),
    (descriptors.OCI_MANIFEST, image(schemaVersion=1)),
    (descriptors.OCI_MANIFEST, image(schemaVersion=2.0)),
    (descriptors.OCI_MANIFEST, image(schemaVersion=True)),
    (descriptors.OCI_MANIFEST, image(config=None)),
    (descriptors.OCI_MANIFEST, image(config=[])),
    (descriptors.OCI_MANIFEST, image(layers=None)),
    (descriptors.OCI_MANIFEST, image(layers={})),
    (descriptors.OCI_MANIFEST, image(layers=["text"])),
    (descriptors.OCI_MANIFEST, image(layers=[link(digest="sha256:short")])),
    (descriptors.OCI_MANIFEST, image(layers=[link(size=-1)])),
    (descriptors.OCI_MANIFEST, image(layers=[link(size=1.5)])),
    (descriptors.OCI_MANIFEST, image(layers=[link(size=True)])),
    (descriptors.OCI_MANIFEST, image(layers=[link(urls="text")])),
    (descriptors.OCI_MANIFEST, image(subject="text")),
    (descriptors.OCI_MANIFEST, image(artifactType=[])),
    (descriptors.OCI_MANIFEST, image(annotations={"a": 1})),
    (descriptors.OCI_INDEX, {"schemaVersion": 2}),
    (descriptors.OCI_INDEX, {"schemaVersion": 2, "manifests": [], "layers": []}),
    (descriptors.OCI_INDEX, {"schemaVersion": 2, "manifests": [link(platform="text")]}),
    (descriptors.DOCKER_SCHEMA1, {"schemaVersion": 1, "fsLayers": []}),
    (descriptors.OCI_MANIFEST, {"schemaVersion": 1, "fsLayers": [{"blobSum": DIGEST}]}),
    ("text/plain", image()),
]


@pytest.mark.parametrize(("media_type", "document"), WRONG)
def test_manifests_that_are_refused(media_type: str, document: Any) -> None:
    with pytest.raises(ManifestInvalid):
        read_manifest(json.dumps(document).encode(), media_type)
