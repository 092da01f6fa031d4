"""The stand: both registries with each content that workloads need, started when it is needed.

Ours is filled through its API. A peer of distribution's kind gets a copy of our tree, which is in
its layout; any other is filled through the API as well, and slowly.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from bulk import fill_tags
from content import (
    APP,
    PUSHED,
    REFERRERS,
    Content,
    Scale,
    digest_of,
    image,
    repository_name,
    small_images,
    tag_name,
    tags_of,
)
from push import MANIFEST, Pusher
from servers import Server

WRITERS = 16


@frozen
class Side:
    """One of the registries that are compared.

    :param options: for :class:`Server`.
    :param by_tree: whether it can be filled with a copy of our tree.
    """

    name: str
    options: dict[str, Any]
    by_tree: bool = False

    @property
    def own(self) -> bool:
        """Whether it is this registry."""
        return not self.options.get("binary")


@define(eq=False)
class Stand:
    """Servers by side, content, and whether they speak TLS; everything is made once.

    :param directory: for everything.
    :param tls: certificate, key and authority.
    """

    directory: Path
    sides: list[Side]
    content: Content
    scale: Scale
    tls: Any
    _servers: dict[tuple[int, str, bool], Server] = field(factory=dict)
    _failed: set[str] = field(factory=set)

    def server(self, side: int, store: str, secure: bool = False) -> Server:
        """A running server that is filled."""
        if store in self._failed:
            raise RuntimeError(f"{store} could not be filled")
        if (side, store, secure) not in self._servers:
            if secure:
                self._start(side, store, True, self.server(side, store).root)
            else:
                self._failed.add(store)
                self._fill(store)
                self._failed.remove(store)
        return self._servers[side, store, secure]

    def fresh(self, side: int, settings: dict[str, Any]) -> Server:
        """A server without content that nobody has started."""
        number = len(list(self.directory.glob("fresh*")))
        return self._make(side, f"fresh{number}", settings=settings)

    def beside(self, server: Server, name: str, settings: dict[str, Any]) -> Server:
        """A server of ours on the storage of another one, with other settings."""
        key = 0, name, False
        if key not in self._servers:
            found = self._make(0, name, storage=server.root, settings=settings)
            self._servers[key] = found
            found.start()
        return self._servers[key]

    def versions(self) -> list[str]:
        """Name and version of each side."""
        return [self._make(number, "none").version() for number in range(len(self.sides))]

    def facts(self) -> dict[str, str]:
        """What the figures depend on besides: nothing."""
        return {}

    def stop(self) -> None:
        """End every server."""
        for server in self._servers.values():
            server.stop()

    def _make(self, side: int, name: str, **more: Any) -> Server:
        options = dict(self.sides[side].options)
        options["settings"] = {**options.get("settings", {}), **more.pop("settings", {})}
        directory = self.directory / f"{name}-{self.sides[side].name}"
        return Server(directory, name=self.sides[side].name, **options, **more)

    def _start(self, side: int, store: str, secure: bool, storage: Path | None) -> Server:
        name = f"{store}-tls" if secure else store
        server = self._make(side, name, storage=storage, tls=self.tls if secure else None)
        self._servers[side, store, secure] = server
        server.start()
        return server

    def _fill(self, store: str) -> None:
        """Fill the servers of every side."""
        first: Path | None = None
        for number, side in enumerate(self.sides):
            began = time.perf_counter()
            if side.by_tree and first is not None:
                storage = self.directory / f"{store}-{side.name}" / "storage"
                storage.mkdir(parents=True)
                # Neither writes into a file that is there, so both may have the same ones.
                subprocess.run(["cp", "-al", str(first / "docker"), str(storage)], check=True)
                self._start(number, store, False, None)
            else:
                server = self._start(number, store, False, None)
                Filling(server, self.content).store(store, self.scale)
                if self.scale.restart:
                    server.stop(patience=300)
                    server.start()
                first = first or server.root
            seconds = time.perf_counter() - began
            print(f"{store} of {side.name}: filled in {seconds:.0f} s", file=sys.stderr, flush=True)
        subprocess.run(["sync"], check=True)


@frozen
class Filling:
    """Fills a server, each step over connections of its own, which nobody closes for idleness."""

    server: Server
    content: Content

    def store(self, store: str, scale: Scale) -> None:
        """Everything that a store holds."""
        if store == "main":
            self.app()
            for count in scale.tags:
                self.tags(count)
            self.small(scale)
        elif store == "referrers":
            self.referrers(scale)
        else:
            self.catalog(int(store.partition("-")[2]))

    def lanes(self, count: int, work: Callable[[Pusher, int], None]) -> None:
        """Do something for each number, over several connections."""

        def lane(first: int) -> None:
            with Pusher(self.server.port) as pusher:
                for number in range(first, count, WRITERS):
                    work(pusher, number)

        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(lane, range(WRITERS)))

    def one(self, repository: str, reference: str) -> None:
        """A repository with the configuration that most manifests have, and the manifest."""
        with Pusher(self.server.port) as pusher:
            pusher.blob(repository, self.content.config, digest_of(self.content.config))
            pusher.manifest(repository, reference, self.content.manifest)

    def app(self) -> None:
        """The repository that is pulled from, and one that is pushed to."""
        with Pusher(self.server.port) as pusher:
            for name, path in self.content.files.items():
                pusher.blob(APP, path, self.content.digests[name])
        for repository in (APP, PUSHED):
            self.one(repository, "latest")

    def tags(self, count: int) -> None:
        """A repository of many tags."""
        repository = tags_of(count)
        self.one(repository, self.content.digest)
        tags = [tag_name(number) for number in range(count)]
        if self.server.python == sys.executable and not self.server.binary:
            config = digest_of(self.content.config)
            fill_tags(self.server.root, repository, self.content.digest, config, tags)
        else:
            manifest = self.content.manifest
            self.lanes(count, lambda pusher, n: pusher.manifest(repository, tags[n], manifest))

    def small(self, scale: Scale) -> None:
        """Small images."""
        images = small_images(scale)

        def one(pusher: Pusher, number: int) -> None:
            for blob in images[number].blobs:
                pusher.blob(images[number].repository, blob, digest_of(blob))
            pusher.manifest(images[number].repository, "latest", images[number].manifest)

        self.lanes(len(images), one)

    def referrers(self, scale: Scale) -> None:
        """A repository of many manifests, some of which refer to the same subjects."""
        self.one(REFERRERS, "latest")
        subjects = [subject_of(count) for count in scale.referrers for _ in range(count)]

        def one(pusher: Pusher, number: int) -> None:
            subject = subjects[number] if number < len(subjects) else f"another {number}"
            link = {"mediaType": MANIFEST, "digest": digest_of(subject.encode()), "size": 1000}
            note = {"number": str(number)}
            body = image(self.content.config, subject=link, annotations=note)
            pusher.manifest(REFERRERS, digest_of(body), body)

        self.lanes(max(scale.manifests, len(subjects)), one)

    def catalog(self, count: int) -> None:
        """Many repositories, each with one tag."""
        config = digest_of(self.content.config)
        self.one(APP, "latest")

        def one(pusher: Pusher, number: int) -> None:
            name = repository_name(number)
            pusher.call("POST", f"/v2/{name}/blobs/uploads/?mount={config}&from={APP}")
            pusher.manifest(name, "latest", self.content.manifest)

        self.lanes(count - 1, one)


def subject_of(count: int) -> str:
    """The subject with so many referrers, before it is hashed."""
    return f"subject {count}"
