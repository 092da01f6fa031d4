"""A client of the distribution protocol that does exactly what a test says, and nothing more."""

from __future__ import annotations

import hashlib
import json
import secrets
import select
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode, urlsplit

from attrs import define, field
from running import Running

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    """The digest of some bytes."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


@define
class Reply:
    """An answer: status, headers with lower-case names (the last of each), body."""

    status: int
    headers: dict[str, str]
    body: bytes
    fields: list[tuple[str, str]] = field(factory=list)

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The first error code of the body."""
        code: str = self.json()["errors"][0]["code"]
        return code

    @property
    def location(self) -> str:
        """Path and query of the Location field."""
        parts = urlsplit(self.headers["location"])
        return parts.path + (f"?{parts.query}" if parts.query else "")

    def all(self, name: str) -> list[str]:
        """Every value of a header field."""
        return [value for key, value in self.fields if key.lower() == name.lower()]


@define
class Client:
    """Speaks to a registry over one kept connection.

    :param fields: header fields of every request.
    """

    registry: Running
    fields: Mapping[str, str] = {}
    _connection: HTTPConnection | None = None

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        **query: Any,
    ) -> Reply:
        """One request; an iterator as body is sent chunked."""
        if query:
            pairs = [(name.replace("_", "-"), value) for name, value in query.items()]
            path += ("&" if "?" in path else "?") + urlencode(pairs, doseq=True)
        if self._connection is None:
            self._connection = self.registry.connect()
        fields = {**self.fields, **(headers or {})}
        if isinstance(body, bytes) and len(body) > 256 * 1024:
            send_attentively(self._connection, method, path, body, fields)
        else:
            chunked = body is not None and not isinstance(body, (bytes, str))
            self._connection.request(method, path, body, fields, encode_chunked=chunked)
        answer = self._connection.getresponse()
        data = answer.read()
        reply = Reply(
            answer.status,
            {name.lower(): value for name, value in answer.getheaders()},
            data,
            answer.getheaders(),
        )
        if answer.will_close:
            self.close()
        return reply

    def local_port(self) -> int:
        """The port that answers are sent to."""
        if self._connection is None:
            self._connection = self.registry.connect()
        if self._connection.sock is None:
            self._connection.connect()
        port: int = self._connection.sock.getsockname()[1]
        return port

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # --- steps that tests are made of --------------------------------------------------------

    def start(self, name: str, **query: Any) -> Reply:
        """Open an upload session."""
        reply = self.call("POST", f"/v2/{name}/blobs/uploads/", b"", **query)
        assert reply.status == 202, reply.body
        return reply

    def blob(self, name: str, data: bytes, algorithm: str = "sha256") -> str:
        """Push a blob, whole."""
        digest = digest_of(data, algorithm)
        reply = self.call("PUT", self.start(name).location, data, digest=digest)
        assert reply.status == 201, reply.body
        return digest

    def descriptor(self, name: str, data: bytes, media_type: str = OCI_LAYER) -> dict[str, Any]:
        """Push a blob; its descriptor."""
        return {"mediaType": media_type, "digest": self.blob(name, data), "size": len(data)}

    def manifest(self, name: str, reference: str, document: Any, **options: Any) -> Reply:
        """Push a manifest."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        media_type = options.pop("media_type", None)
        if media_type is None and not isinstance(document, bytes):
            media_type = document.get("mediaType", OCI_MANIFEST)
        headers = {"Content-Type": media_type} if media_type else {}
        return self.call("PUT", f"/v2/{name}/manifests/{reference}", body, headers, **options)

    def image(self, name: str, layers: int = 1, **extra: Any) -> dict[str, Any]:
        """An image manifest whose content is pushed."""
        return {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.descriptor(name, json.dumps({"r": secrets.token_hex(8)}).encode()),
            "layers": [self.descriptor(name, secrets.token_bytes(64)) for _ in range(layers)],
            **extra,
        }

    def pushed(self, name: str, reference: str | None = None, **extra: Any) -> dict[str, Any]:
        """Push an image; the descriptor of its manifest."""
        body = json.dumps(self.image(name, **extra)).encode()
        digest = digest_of(body)
        reply = self.manifest(name, reference or digest, body, media_type=OCI_MANIFEST)
        assert reply.status == 201, reply.body
        return {"mediaType": OCI_MANIFEST, "digest": digest, "size": len(body)}


def send_attentively(
    connection: HTTPConnection, method: str, path: str, body: bytes, headers: Mapping[str, str]
) -> None:
    """Send a large body, but stop as soon as there is an answer, as clients in Go and curl do."""
    connection.putrequest(method, path)
    for key, value in {**headers, "Content-Length": str(len(body))}.items():
        connection.putheader(key, value)
    connection.endheaders()
    channel = connection.sock
    rest = memoryview(body)
    while rest:
        readable, writable, _ = select.select([channel], [channel], [], 30)
        if readable or not writable:
            return
        rest = rest[channel.send(rest[: 64 * 1024]) :]


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    """A body in pieces, for chunked coding."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


def fresh_name(prefix: str = "conformance") -> str:
    """A repository name that no other test uses."""
    return f"{prefix}/{secrets.token_hex(6)}"
