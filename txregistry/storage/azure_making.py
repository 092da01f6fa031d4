"""From settings to the driver for Azure: endpoint, credentials, connections.

May import the interfaces, the Azure client and other modules of this room.
"""

from __future__ import annotations

import re

from ..azure.client import BlobClient
from ..azure.credentials import (
    ClientSecret,
    Credential,
    Identity,
    SharedAccess,
    SharedKey,
    default_issuer,
)
from ..azure.http import Http
from ..azure.requests import Endpoint
from ..azure.retries import Retries
from ..azure.signing import decoded_key
from ..interfaces import IWorld
from .azure import AzureDriver
from .azure_maker import AzureSettings
from .azure_names import Names

_CONTAINER = re.compile(r"[a-z0-9](?:-?[a-z0-9]){2,62}|\$root")


def make_driver(settings: AzureSettings, world: IWorld) -> AzureDriver:
    """The driver; nothing is connected yet.

    :raises ValueError: the settings cannot work together.
    """
    if settings.skipverify:
        raise ValueError(
            "skipverify: certificates are always verified; name a file with your authority in the "
            "environment variable SSL_CERT_FILE"
        )
    if _CONTAINER.fullmatch(settings.container) is None:
        raise ValueError(
            f"container: {settings.container!r} is no container's name, which has 3 to 63 "
            "lower-case letters, digits and single '-'"
        )
    endpoint = Endpoint.of(settings.accountname, settings.serviceurl, settings.realm)
    http = Http(world.reactor)
    retries = Retries(world.reactor, settings.max_retries, settings.retry_delay)
    credential = _credential(settings, http, retries)
    client = BlobClient(endpoint, settings.container, credential, http, retries, world)
    return AzureDriver(client, Names.under(settings.rootdirectory))


def _credential(settings: AzureSettings, http: Http, retries: Retries) -> Credential:
    given = settings.credentials
    kind = given.type or ("shared_key" if settings.accountkey else "default_credentials")
    if kind == "shared_key":
        if not settings.accountkey:
            raise ValueError("credentials.type shared_key needs accountkey")
        return SharedKey(settings.accountname, decoded_key(settings.accountkey))
    if kind == "shared_access":
        if not given.secret:
            raise ValueError("credentials.type shared_access needs credentials.secret")
        return SharedAccess.of(given.secret)
    if kind == "client_secret":
        if not (given.clientid and given.tenantid and given.secret):
            raise ValueError(
                "credentials.type client_secret needs credentials.clientid, tenantid and secret"
            )
        issuer = ClientSecret(given.tenantid, given.clientid, given.secret)
        return Identity(issuer, http, retries)
    return Identity(default_issuer(given.clientid), http, retries)
