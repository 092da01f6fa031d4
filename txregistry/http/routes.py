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
# A component of a repository's name is never a hyphen alone, so what follows "/-/" is none.
_OURS = "/txregistry/v1/repositories"
_ONE = f"{_OURS}/<path:name>/-"
REPOSITORIES = Route("repositories", _OURS, ("GET",))
REPOSITORY = Route("repository", f"{_OURS}/<path:name>", ("GET", "DELETE"))
REPOSITORY_IMPACT = Route("repository_impact", f"{_ONE}/impact", ("GET",))
REPOSITORY_HISTORY = Route("repository_history", f"{_ONE}/history", ("GET",))
REPOSITORY_DIFF = Route("repository_diff", f"{_ONE}/diff", ("GET",))
RETENTION = Route("retention", f"{_ONE}/retention", ("GET",))
ONE_TAG = Route("tag", f"{_ONE}/tags/<tag>", ("GET", "DELETE"))
TAG_IMPACT = Route("tag_impact", f"{_ONE}/tags/<tag>/impact", ("GET",))
TAG_HISTORY = Route("tag_history", f"{_ONE}/tags/<tag>/history", ("GET",))
TAG_RESTORE = Route("tag_restore", f"{_ONE}/tags/<tag>/restore", ("POST",))
ONE_MANIFEST = Route("one_manifest", f"{_ONE}/manifests/<digest>", ("DELETE",))
MANIFEST_IMPACT = Route("manifest_impact", f"{_ONE}/manifests/<digest>/impact", ("GET",))
IMAGE = Route("image", f"{_ONE}/images/<reference>", ("DELETE",))
IMAGE_IMPACT = Route("image_impact", f"{_ONE}/images/<reference>/impact", ("GET",))
DIGEST = Route("digest", "/txregistry/v1/digests/<digest>", ("GET",))
COLLECTION = Route("collection", "/txregistry/v1/gc", ("GET",))

ROUTES = (ALIVE, BASE, CATALOG, TAGS, MANIFEST, BLOB, UPLOADS, UPLOAD, REFERRERS)
"""``GET`` includes ``HEAD``."""

TOKEN_ROUTES = (TOKEN, TOKEN_KEYS)
"""Where this registry issues tokens."""

OFFICE_ROUTES = (
    *(REPOSITORIES, REPOSITORY, REPOSITORY_IMPACT, REPOSITORY_HISTORY, REPOSITORY_DIFF, RETENTION),
    *(ONE_TAG, TAG_IMPACT, TAG_HISTORY, TAG_RESTORE, ONE_MANIFEST, MANIFEST_IMPACT),
    *(IMAGE, IMAGE_IMPACT, DIGEST, COLLECTION),
)
"""What this registry tells of repositories, and deletes, beyond the specification."""

KEY_ROUTES = (KEYS, KEY)
"""Where this registry has API keys."""

EVENT_ROUTES = (EVENTS,)
"""Where events can be followed."""

EVERY = (*ROUTES, *TOKEN_ROUTES, *OFFICE_ROUTES, *KEY_ROUTES, *EVENT_ROUTES)
