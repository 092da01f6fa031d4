"""Where a registry process keeps its objects, of each kind, and how a test looks at them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import field, frozen

KINDS = ["filesystem", "inmemory", "s3", "azure"]

SERVERS = {"s3": "patient_moto_server", "radosgw": "radosgw_server"}
"""Servers that speak S3, by kind: the fixture of each."""


@frozen
class Store:
    """An empty storage.

    :param driver: the name of the driver.
    :param directory: where a process has its files.
    :param settings: those of the process.
    :param keys: everything that is stored, uploads and temporaries included; None where nobody can
        look from outside.
    """

    driver: str
    directory: Path
    settings: Mapping[str, Any] = field(factory=dict)
    keys: Callable[[], list[str]] | None = None


def make_store(kind: str, directory: Path, request: pytest.FixtureRequest) -> Store:
    """An empty storage of one kind; its server is started by a fixture of the session."""
    directory.mkdir(exist_ok=True)
    if kind in SERVERS:
        server = request.getfixturevalue(SERVERS[kind])
        bucket = server.bucket()
        return _remote("s3", directory, server.settings(bucket), lambda: server.everything(bucket))
    if kind == "azure":
        from azure.storage.blob import ContainerClient

        azurite = request.getfixturevalue("azurite")
        name = f"test-{secrets.token_hex(8)}"
        container = ContainerClient.from_connection_string(azurite.connection, name)
        container.create_container()
        request.addfinalizer(container.close)
        request.addfinalizer(container.delete_container)
        return _remote(
            kind,
            directory,
            azurite.settings(name),
            lambda: [blob.name for blob in container.list_blobs(include=["uncommittedblobs"])],
        )
    if kind == "filesystem":
        return Store(kind, directory, keys=lambda: files(directory / "storage"))
    return Store(kind, directory)


def _remote(
    kind: str, directory: Path, section: Mapping[str, Any], keys: Callable[[], list[str]]
) -> Store:
    settings = {
        "storage": {kind: section, "redirect": {"disable": True}},
        "metadata": {"sqlite": {"path": str(directory / "metadata.sqlite3")}},
    }
    return Store(kind, directory, settings, keys)


def files(root: Path) -> list[str]:
    """Every file below the root directory of a local disk, but those of the database."""
    state = root / "txregistry"
    return [
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() and path.parent != state
    ]
