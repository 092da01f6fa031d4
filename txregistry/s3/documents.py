"""The XML of S3: reading answers whatever their namespace, writing the few bodies there are.

May import the standard library and attrs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from attrs import frozen


@frozen
class Element:
    """An element, seen without its namespace: not every server writes the same one."""

    _inner: ElementTree.Element

    @property
    def name(self) -> str:
        """Its name."""
        return _local(self._inner.tag)

    def text(self, name: str, default: str = "") -> str:
        """The text of the first part of a name."""
        for part in self._inner:
            if _local(part.tag) == name:
                return part.text or ""
        return default

    def texts(self) -> dict[str, str]:
        """The texts of its parts by name."""
        return {_local(part.tag): part.text or "" for part in self._inner}

    def all(self, name: str) -> Iterator[Element]:
        """The parts of a name."""
        for part in self._inner:
            if _local(part.tag) == name:
                yield Element(part)


def read(body: bytes) -> Element | None:
    """The outermost element of a document, None if it is no XML.

    Servers may send white space before the document, to keep a slow answer alive.
    """
    try:
        return Element(ElementTree.fromstring(body.strip()))
    except (ElementTree.ParseError, ValueError):
        return None


def parts_document(parts: Sequence[tuple[int, str]]) -> bytes:
    """The body that completes a multipart upload.

    :param parts: number and ETag of each part.
    """
    inner = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>"
        for number, etag in parts
    )
    return f"<CompleteMultipartUpload>{inner}</CompleteMultipartUpload>".encode()


def delete_document(keys: Sequence[str]) -> bytes:
    """The body that deletes many objects, and asks only for the failures."""
    inner = "".join(f"<Object><Key>{escape(key)}</Key></Object>" for key in keys)
    return f"<Delete><Quiet>true</Quiet>{inner}</Delete>".encode()


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]
