"""Names of blobs for keys, in the forms of distribution 3.x and 2.x, and errors in our words.

May import the interfaces, the Azure client and this room's keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from attrs import frozen

from ..azure.errors import AzureError
from ..interfaces import StorageError, StorageUnavailable
from .keys import check_key

OWN = "txregistry"
"""The first component of what is no object: uploads that are not published."""

MISSING = frozenset({"BlobNotFound", "ResourceNotFound"})

_TOKEN = re.compile(r"[0-9a-f]{32}")


@frozen
class Names:
    """Names in one container.

    :param root: what stands before every key: nothing, or components with a slash behind each.
    :param old: whether there are names with a leading slash as well, as distribution 2.x has them.
    """

    root: str
    old: bool = False

    @classmethod
    def under(cls, rootdirectory: str) -> Names:
        """Names below a root directory as the configuration writes it.

        :raises ValueError: it is none.
        """
        root = rootdirectory.strip("/")
        if root:
            try:
                check_key(root)
            except ValueError:
                raise ValueError(
                    f"rootdirectory: {rootdirectory!r} is no path of plain components"
                ) from None
        return cls(f"{root}/" if root else "")

    @property
    def bases(self) -> tuple[str, ...]:
        """What may stand before a key; the first is what is written."""
        return (self.root, f"/{self.root}") if self.old else (self.root,)

    def blob(self, key: str) -> str:
        """The name that an object is written under.

        :raises StorageError: the key would lie among the uploads.
        """
        if key.partition("/")[0] == OWN:
            raise StorageError(f"{key!r} lies where no objects are kept")
        return self.root + key

    def blobs(self, key: str) -> list[str]:
        """The names that an object may have, in the order in which they count."""
        return [self.blob(key), *(base + key for base in self.bases[1:])]

    def upload(self, token: str) -> str | None:
        """The name of an upload; None for what is no token of ours."""
        if _TOKEN.fullmatch(token) is None:
            return None
        return self.uploads + token

    @property
    def uploads(self) -> str:
        """What the names of uploads begin with."""
        return f"{self.root}{OWN}/uploads/"


def is_missing(error: AzureError) -> bool:
    """Whether an error says that there is no such blob."""
    return error.status == 404 and error.code in MISSING


@contextmanager
def azure_errors() -> Iterator[None]:
    """What the service refuses is an outage."""
    try:
        yield
    except AzureError as error:
        raise StorageUnavailable(str(error)) from error
