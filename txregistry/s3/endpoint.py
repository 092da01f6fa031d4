"""Where S3 is, and how its addresses are written. May import the standard library and attrs."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from attrs import frozen

UNRESERVED = "-_.~"


@frozen
class AWSServiceEndpoint:
    """The address of a service.

    :param uri: scheme and host, and the port if it is not the usual one.
    :param path_style: whether the bucket is the first part of the path; else it is a part of
        the host's name.
    """

    uri: str
    path_style: bool = False

    @property
    def secure(self) -> bool:
        """Whether it is reached by TLS."""
        return self.uri.startswith("https:")

    def url(self, bucket: str, key: str = "", query: Mapping[str, str] | None = None) -> str:
        """The address of a bucket or an object, encoded as it is signed."""
        parts = urlsplit(self.uri)
        host, path = parts.netloc, "/"
        # A certificate for all buckets covers no name with one more dot.
        if self.path_style or (self.secure and "." in bucket):
            path = f"/{quote(bucket, safe=UNRESERVED)}"
            path += f"/{quote(key, safe=UNRESERVED + '/')}" if key else ""
        else:
            host = f"{bucket}.{host}"
            path += quote(key, safe=UNRESERVED + "/")
        text = f"{parts.scheme}://{host}{parts.path.rstrip('/')}{path}"
        if query:
            text += "?" + encoded_query(query)
        return text


def encoded_query(query: Mapping[str, str]) -> str:
    """Parameters in the order and the encoding that are signed."""
    pairs = [(quote(k, safe=UNRESERVED), quote(v, safe=UNRESERVED)) for k, v in query.items()]
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def amazon(
    region: str,
    secure: bool = True,
    dual_stack: bool = False,
    accelerate: bool = False,
    fips: bool = False,
) -> AWSServiceEndpoint:
    """The endpoint of Amazon for a region."""
    scheme = "https" if secure else "http"
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    stack = ".dualstack" if dual_stack else ""
    if accelerate:
        return AWSServiceEndpoint(f"{scheme}://s3-accelerate{stack}.{domain}")
    service = "s3-fips" if fips else "s3"
    return AWSServiceEndpoint(f"{scheme}://{service}{stack}.{region}.{domain}")


def custom(address: str, secure: bool, path_style: bool) -> AWSServiceEndpoint:
    """The endpoint of another service.

    :param address: a URL, or a host with or without port.
    :raises ValueError: it is neither.
    """
    uri = address if "://" in address else f"{'https' if secure else 'http'}://{address}"
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"{address!r} is no address of a server; write https://host:port")
    return AWSServiceEndpoint(uri.rstrip("/"), path_style)
