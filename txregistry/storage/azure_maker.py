"""The maker of the driver for Azure: a light object for the plugin module.

May import the interfaces and the model's options; the driver is imported when it is made.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen, validators
from zope.interface import implementer

from ..interfaces import IStorageMaker, IWorld
from ..model.options import Duration, Secret, option

KINDS = ("client_secret", "default_credentials", "shared_access", "shared_key")


@frozen
class AzureCredentials:
    """Who the registry is for Azure."""

    type: str | None = option(
        "How it proves that: shared_key (accountkey), client_secret (clientid, tenantid and "
        "secret of an application), shared_access (secret is a shared access signature for the "
        "container), or default_credentials (what AZURE_CLIENT_ID and the other variables of "
        "Azure's tools say, or the managed identity of the machine). Without a type it is "
        "shared_key if there is an accountkey, otherwise default_credentials.",
        default=None,
        validator=validators.optional(validators.in_(KINDS)),
    )
    clientid: str = option(
        "The application's identifier, or that of one of several managed identities.", default=""
    )
    tenantid: str = option("The directory that the application belongs to.", default="")
    secret: Secret | None = option(
        "The application's secret, or the shared access signature.", default=None
    )


@frozen
class AzureSettings:
    """Settings of the driver for Azure."""

    accountname: str = option("The storage account.")
    container: str = option("The container; it has to exist.")
    accountkey: Secret | None = option("The account's key.", default=None)
    rootdirectory: str = option(
        "What the names of all blobs begin with; empty for the container itself.", default=""
    )
    realm: str = option(
        "The domain of the cloud, behind the account's name and .blob.",
        default="core.windows.net",
    )
    serviceurl: str = option(
        "The address of the Blob service, where it is not made of accountname and realm: emulators "
        "and private endpoints.",
        default="",
    )
    credentials: AzureCredentials = option("Who we are.", factory=AzureCredentials)
    max_retries: int = option("How often a request is repeated that may succeed later.", default=5)
    retry_delay: Duration = option(
        "The pause before the first repetition, doubled before each further one; a random part of "
        "it is waited.",
        default=Duration(0.1),
    )
    skipverify: bool = option(
        "Has to be false: certificates are always verified. The environment variable SSL_CERT_FILE "
        "names a file with a private authority.",
        default=False,
    )


@implementer(IStorageMaker)
@frozen
class AzureMaker:
    """Makes the driver for Azure."""

    name: str = "azure"
    summary: str = "Azure Blob Storage, in the layout of CNCF distribution"
    settings: type = AzureSettings

    def make(self, settings: AzureSettings, world: IWorld) -> Any:
        """See :class:`~txregistry.interfaces.IMaker`."""
        from .azure_making import make_driver

        return make_driver(settings, world)
