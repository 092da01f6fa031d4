"""A request to the service before it is signed, and the endpoint that it goes to.

May import attrs.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from attrs import field, frozen

VERSION = "2021-12-02"
"""The version of the protocol: the first with everything that is used here."""


@frozen
class Endpoint:
    """The address of an account's Blob service.

    :param url: without a slash at its end; emulators have the account in its path.
    """

    account: str
    url: str

    @classmethod
    def of(cls, account: str, serviceurl: str, realm: str) -> Endpoint:
        """The endpoint for settings.

        :raises ValueError: the address is none.
        """
        url = (serviceurl or f"https://{account}.blob.{realm}").rstrip("/")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise ValueError(
                f"serviceurl: {url!r} is no address such as https://account.blob.core.windows.net"
            )
        return cls(account, url)

    @property
    def path(self) -> str:
        """What stands in front of a container's name in paths."""
        return urlsplit(self.url).path

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return self.url[: len(self.url) - len(self.path)]


@frozen
class Request:
    """One request.

    :param operation: the service's name for it, for messages.
    :param path: encoded as it is sent, from the first slash.
    :param query: values that are not encoded yet.
    """

    operation: str
    method: str
    path: str
    query: Mapping[str, str] = field(factory=dict)
    headers: Mapping[str, str] = field(factory=dict)
    body: bytes = b""

    def target(self) -> str:
        """Path and query as they are sent."""
        query = "&".join(f"{encoded(name)}={encoded(text)}" for name, text in self.query.items())
        return f"{self.path}?{query}" if query else self.path


def encoded(text: str, safe: str = "~") -> str:
    """Text as a part of an address."""
    return quote(text, safe=safe)


def blob_path(name: str) -> str:
    """The name of a blob as a part of a path."""
    return encoded(name, "/~")
