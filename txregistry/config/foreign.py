"""Options of CNCF distribution that this registry does not have, and what to do about each.

``UNSUPPORTED`` ones would change what clients may do or what is told to whom, so the start is
refused; ``IGNORED`` ones have no effect that anybody could miss.
"""

from __future__ import annotations

_LATER = "is not supported by this version; remove it, "

UNSUPPORTED = {
    "middleware": _LATER + "since nothing would be called",
    "proxy": _LATER + "and mirror with a copying client, since nothing would be pulled through",
    "policy": _LATER + "since nothing would be refused",
    "loglevel": "is the old spelling; write log.level",
    "http.tls.letsencrypt": _LATER + "and let an ACME client write http.tls.certificate and "
    "http.tls.key, which are read again when they change",
    "http.h2c": _LATER + "since clients of registries speak HTTP/1.1",
}

IGNORED = {
    "redis": "has no effect: there is no cache that needs it",
    "compatibility": "has no effect: images of Docker's schema 1 are refused",
    "storage.cache": "has no effect: the database answers what the cache did",
    "storage.s3.loglevel": "has no effect: errors of S3 are logged at log.level",
    "storage.s3.v4auth": "has no effect: requests are always signed with version 4",
    "storage.tag": "has no effect: tags are looked up in the database",
    "log.reportcaller": "has no effect: records carry their source",
    "http.http2": "has no effect: HTTP/1.1 is spoken",
    "validation.enabled": "has no effect: write validation.disabled",
}
