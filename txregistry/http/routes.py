"""The table of routes: every address of the API and the methods it takes.

One table serves every path through the room, so that they cannot disagree.
Source: distribution-spec 1.1 "Endpoints", and Docker's ``_catalog``.
"""

from __future__ import annotations

from attrs import frozen


@frozen
class Route:
    """An address: a name for logs and metrics, a Werkzeug rule, the methods it takes."""

    name: str
    rule: str
    methods: tuple[str, ...]


ALIVE = Route("alive", "/", ("GET",))
BASE = Route("base", "/v2/", ("GET",))
CATALOG = Route("catalog", "/v2/_catalog", ("GET",))
TAGS = Route("tags", "/v2/<path:name>/tags/list", ("GET",))
MANIFEST = Route("manifest", "/v2/<path:name>/manifests/<reference>", ("GET", "PUT", "DELETE"))
BLOB = Route("blob", "/v2/<path:name>/blobs/<digest>", ("GET", "DELETE"))
UPLOADS = Route("blob_upload", "/v2/<path:name>/blobs/uploads/", ("POST",))
UPLOAD = Route(
    "blob_upload_chunk",
    "/v2/<path:name>/blobs/uploads/<upload>",
    ("GET", "PATCH", "PUT", "DELETE"),
)
REFERRERS = Route("referrers", "/v2/<path:name>/referrers/<digest>", ("GET",))

TOKEN = Route("token", "/auth/token", ("GET", "POST"))
TOKEN_KEYS = Route("token_keys", "/auth/jwks", ("GET",))

KEYS = Route("keys", "/txregistry/v1/keys", ("GET", "POST"))
KEY = Route("key", "/txregistry/v1/keys/<key>", ("DELETE",))

EVENTS = Route("events", "/txregistry/v1/events", ("GET",))

ROUTES = (ALIVE, BASE, CATALOG, TAGS, MANIFEST, BLOB, UPLOADS, UPLOAD, REFERRERS)
"""``GET`` includes ``HEAD``."""

TOKEN_ROUTES = (TOKEN, TOKEN_KEYS)
"""Where this registry issues tokens."""

KEY_ROUTES = (KEYS, KEY)
"""Where this registry has API keys."""

EVENT_ROUTES = (EVENTS,)
"""Where events can be followed."""
