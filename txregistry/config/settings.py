"""The configuration as frozen values: every section and option that exists, with its meaning.

The shape is that of CNCF distribution's file, with our own sections beside it.
May import the model's options, attrs and the settings of other rooms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen, validators

from ..auth.access_settings import Access
from ..auth.settings import Auth
from ..model.options import Duration, Secret, Size, Workers, option
from ..reporters.settings import Notifications, Reporting
from . import validating
from .lifecycle import Collection, History, Quota, Retention
from .observing import Audit, Debug, Health, LogHook

CLIENT_AUTH = (
    "require-and-verify-client-cert",
    "verify-client-cert-if-given",
    "require-any-client-cert",
    "request-client-cert",
)


@frozen
class AccessLog:
    """The log of requests."""

    disabled: bool = option("Leave requests out of the log.", default=False)
    delay: Duration = option(
        "How long a request may wait to be written with others; 0 writes each at once.",
        default=Duration(0.2),
    )
    format: str | None = option(
        "The form of requests: combined (the Combined Log Format) or json; without it that of "
        "other records.",
        default=None,
        example="combined",
        validator=validators.optional(validators.in_(("combined", "json"))),
    )


@frozen
class Log:
    """What is logged, and how."""

    level: str = option(
        "The least level that is logged: debug, info, warn or error.",
        default="info",
        validator=validators.in_(("debug", "info", "warn", "error")),
    )
    formatter: str = option(
        "The form of records: text or json.",
        default="text",
        validator=validators.in_(("text", "json", "logstash")),
    )
    fields: Mapping[str, Any] = option("Fields added to each record.", factory=dict)
    accesslog: AccessLog = option("The log of requests.", factory=AccessLog)
    hooks: Sequence[LogHook] = option(
        "Who is told of grave records. Each process sends at most one mail a minute.",
        factory=tuple,
        example="[{type: mail, levels: [panic, error], options: {smtp: {addr: 'mail.example:25'}, "
        "from: registry@example, to: [admin@example]}}]",
    )
    watchdog: Duration = option(
        "How long the reactor's thread may be busy with one thing before what it is doing is "
        "logged; 0 looks at nothing.",
        default=Duration(0.1),
    )


@frozen
class Delete:
    """Whether clients may delete."""

    enabled: bool = option("Allow clients to delete tags, manifests and blobs.", default=False)


@frozen
class UploadPurging:
    """Removing upload sessions that nobody goes on with."""

    enabled: bool = option("Remove stale upload sessions.", default=True)
    age: Duration = option(
        "How long after its last write a session is stale.", default=Duration(168 * 3600)
    )
    interval: Duration = option(
        "Time between two looks for stale sessions.", default=Duration(24 * 3600)
    )
    dryrun: bool = option("Only log what would be removed.", default=False)


@frozen
class Scrub:
    """Reading everything from time to time, to find what the storage has spoiled."""

    enabled: bool = option(
        "Read every object on local disk and compare it with its digest. What is damaged is moved "
        "to txregistry/quarantine, and can be pushed again.",
        default=True,
    )
    interval: Duration = option(
        "Time from the end of one pass to the beginning of the next.", default=Duration(168 * 3600)
    )
    rate: Size = option(
        "Bytes per second that are read at most.",
        default=Size(16 * 1024 * 1024),
        validator=validators.ge(1),
    )


@frozen
class ReadOnly:
    """Serving without changes."""

    enabled: bool = option(
        "Refuse everything that would change the registry. SIGHUP reads this section again.",
        default=False,
    )
    deletes: bool = option(
        "Go on deleting, letting tags go and collecting garbage, for instance on a full disk.",
        default=False,
    )

    @property
    def frozen(self) -> bool:
        """Whether nothing at all may change."""
        return self.enabled and not self.deletes


@frozen
class Maintenance:
    """Work on the storage beside serving."""

    uploadpurging: UploadPurging = option("Stale upload sessions.", factory=UploadPurging)
    scrub: Scrub = option("Reading everything from time to time.", factory=Scrub)
    readonly: ReadOnly = option("Serving without changes.", factory=ReadOnly)


@frozen
class Redirect:
    """Sending clients to the storage for blobs, where it has addresses of its own."""

    disable: bool = option("Send every blob from here.", default=False)
    lifetime: Duration = option(
        "How long such an address is good for; it has to outlast the start of a download.",
        default=Duration(20 * 60),
        validator=validators.gt(0),
    )


@frozen
class Storage:
    """Where bytes are kept. One storage driver's section stands beside the options here."""

    driver: str
    options: Any
    delete: Delete = option("Deleting by clients.", factory=Delete)
    maintenance: Maintenance = option("Work on the storage.", factory=Maintenance)
    redirect: Redirect = option(
        "Sending clients to the storage for blobs: S3 does, the local disk does not.",
        factory=Redirect,
    )

    @property
    def root(self) -> Path | None:
        """The directory of a storage that is one."""
        root = getattr(self.options, "rootdirectory", None)
        return root if isinstance(root, Path) else None


@frozen
class Sqlite:
    """The embedded database."""

    path: Path | None = option(
        "The database file. Without it: txregistry/metadata.sqlite3 below the root directory "
        "of the storage; for a storage without one, registry-state/metadata.sqlite3 in the working "
        "directory, or metadata.sqlite3 in the directory that the service manager gives "
        "(STATE_DIRECTORY).",
        default=None,
        example="/var/lib/registry/txregistry/metadata.sqlite3",
    )


@frozen
class Metadata:
    """Where tags, links and upload sessions are kept."""

    sqlite: Sqlite = option("The embedded database.", factory=Sqlite)


@frozen
class Tls:
    """TLS, terminated by this server."""

    certificate: Path | None = option(
        "PEM file with the certificate and its chain; read again when it changes.",
        default=None,
        example="/etc/txregistry/tls/server.crt",
    )
    key: Path | None = option(
        "PEM file with the private key.", default=None, example="/etc/txregistry/tls/server.key"
    )
    clientcas: Sequence[Path] = option(
        "PEM files with the authorities of client certificates; turns client certificates on.",
        factory=tuple,
        example="[/etc/txregistry/tls/clients.crt]",
    )
    clientauth: str = option(
        "What is asked of clients when clientcas is given: " + ", ".join(CLIENT_AUTH) + ".",
        default="require-and-verify-client-cert",
        validator=validators.in_(CLIENT_AUTH),
    )
    minimumtls: str = option(
        "The oldest version that is spoken: tls1.2 or tls1.3.",
        default="tls1.2",
        validator=validators.in_(("tls1.2", "tls1.3")),
    )
    ciphersuites: Sequence[str] = option(
        "Cipher suites of TLS 1.2 by their IANA names, the preferred first; without it a modern "
        "choice. Those of TLS 1.3 are not configurable.",
        factory=tuple,
        example="[TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]",
    )

    @property
    def verifies_clients(self) -> bool:
        """Whether the certificate of a client, where there is one, is of an authority."""
        verifying = ("require-and-verify-client-cert", "verify-client-cert-if-given")
        return bool(self.clientcas) and self.clientauth in verifying


@frozen
class Rate:
    """How often somebody may ask. Each worker counts what it answers."""

    rate: int = option("Requests per second in the long run; 0 for any.", default=0)
    burst: int = option(
        "Requests that may come at once, by those who have not asked for a while.",
        default=100,
        validator=validators.ge(1),
    )


@frozen
class RequestLimits:
    """How many requests are answered; a transfer is one, however long it takes."""

    peraddress: Rate = option(
        "Of each address (IPv6: of each /64), with or without a login.", factory=Rate
    )
    peridentity: Rate = option("Of each account, from wherever.", factory=Rate)


@frozen
class HttpLimits:
    """What one client may cost. 0 switches a cap off."""

    headersize: Size = option("Bytes of a request's head.", default=Size(16 * 1024))
    headercount: int = option("Header fields of a request.", default=100)
    urisize: Size = option("Bytes of a request's path with its query.", default=Size(8 * 1024))
    headertimeout: Duration = option(
        "Time for a request's head, for the first one with the TLS handshake.",
        default=Duration(10.0),
    )
    idletimeout: Duration = option(
        "Time that a connection may wait for its next request.", default=Duration(75.0)
    )
    bodyrate: Size = option("Least bytes per second of a request's body.", default=Size(8 * 1024))
    bodygrace: Duration = option(
        "Time over which the rate of a body is judged.", default=Duration(15.0)
    )
    writetimeout: Duration = option(
        "Time that a client may take nothing of an answer.", default=Duration(60.0)
    )
    connections: int = option(
        "Open connections; several workers have equal parts of them.", default=10_000
    )
    connectionsperaddress: int = option(
        "Open connections of one address (IPv6: of one /64), to each worker.", default=256
    )
    manifestsize: Size = option("Bytes of a manifest.", default=Size(4 * 1024 * 1024))
    blobsize: Size = option("Bytes of a blob.", default=Size(50 * 1024**3))
    requests: RequestLimits = option("How many requests are answered.", factory=RequestLimits)
    uploads: int = option("Open upload sessions.", default=10_000)
    uploadsperidentity: int = option(
        "Open upload sessions of one account; of one address (IPv6: of one /64) without a login. "
        "Sessions that were given up count until they are removed "
        "(storage.maintenance.uploadpurging).",
        default=1000,
    )


@frozen
class Fast:
    """What makes serving fast. Each piece can be switched off, to measure it or to be rid of it."""

    transport: bool = option(
        "Send and receive at once, by system calls of our own, instead of through Twisted's "
        "buffers.",
        default=True,
    )
    sendfile: bool = option("Have the kernel send blobs that are local files.", default=True)
    answers: Size = option(
        "Bytes of memory of each process for finished answers, which are given again while "
        "nothing has changed; 0 keeps none.",
        default=Size(32 * 1024 * 1024),
    )


@frozen
class Http:
    """The listener of the API."""

    addr: str = option(
        "host:port to listen on, or the path of a socket; ':5000' means every address.",
        default="127.0.0.1:5000",
    )
    net: str = option(
        "tcp, or unix for a socket in the file system.",
        default="tcp",
        validator=validators.in_(("tcp", "unix")),
    )
    host: str | None = option(
        "Scheme and host that clients reach this registry by. With it addresses in answers are "
        "absolute; without it they are relative, which suits every proxy.",
        default=None,
        example="https://registry.example",
        validator=validating.host,
    )
    proxies: Sequence[str] = option(
        "Proxies in front of this registry: addresses, networks, and unix for those that connect "
        "by a socket in the file system. They are believed what they say about clients in "
        "X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host and Forwarded, and nobody else is.",
        factory=tuple,
        example="[127.0.0.1, 10.0.0.0/8]",
        validator=validating.networks,
    )
    prefix: str = option(
        "The path that the API is below.", default="/", validator=validating.prefix
    )
    secret: Secret | None = option(
        "Accepted for distribution's sake; upload sessions are kept in the database here.",
        default=None,
    )
    relativeurls: bool = option("Keep addresses relative even if host is given.", default=False)
    draintimeout: Duration = option(
        "Time that running transfers have to end when the server stops.", default=Duration(60.0)
    )
    headers: Mapping[str, Sequence[str]] = option(
        "Header fields added to each answer.",
        factory=dict,
        example="{Strict-Transport-Security: [max-age=31536000]}",
        validator=validating.header_texts,
    )
    tls: Tls = option("TLS, terminated by this server.", factory=Tls)
    debug: Debug = option("The operator's listener.", factory=Debug)
    limits: HttpLimits = option("What one client may cost.", factory=HttpLimits)
    fast: Fast = option("What makes serving fast.", factory=Fast)


@frozen
class Catalog:
    """The list of repositories."""

    maxentries: int = option("Entries of a page at most.", default=1000)


@frozen
class Tags:
    """The list of a repository's tags."""

    maxtags: int = option("Entries of a page at most, where a page is asked for.", default=1000)


@frozen
class Urls:
    """Addresses of layers that are kept elsewhere."""

    allow: Sequence[str] = option(
        "Regular expressions, one of which has to match; without any, every address is allowed.",
        factory=tuple,
        validator=validating.expressions,
    )
    deny: Sequence[str] = option(
        "Regular expressions, none of which may match.",
        factory=tuple,
        validator=validating.expressions,
    )


@frozen
class Platform:
    """A platform of an index."""

    architecture: str = option("For instance amd64.")
    os: str = option("For instance linux.")


@frozen
class Indexes:
    """Which manifests of an index have to exist when it is pushed."""

    platforms: str = option(
        "all, none, or list for those of platformlist.",
        default="all",
        validator=validators.in_(("all", "none", "list")),
    )
    platformlist: Sequence[Platform] = option(
        "Platforms whose manifests have to exist.",
        factory=tuple,
        example="[{architecture: amd64, os: linux}]",
    )


@frozen
class ManifestRules:
    """Rules for manifests."""

    urls: Urls = option("Addresses of layers that are kept elsewhere.", factory=Urls)
    indexes: Indexes = option("Manifests of an index.", factory=Indexes)


@frozen
class Validation:
    """What is checked when a manifest is pushed, beyond its form."""

    disabled: bool = option(
        "Do not check that the content a manifest refers to is there.", default=False
    )
    manifests: ManifestRules = option("Rules for manifests.", factory=ManifestRules)


@frozen
class Settings:
    """The whole configuration."""

    storage: Storage
    auth: Auth
    reporting: Reporting
    workers: Workers = option(
        "Processes that serve: a number, or auto for one on each core. With more than one a "
        "small process supervises them and replaces those that die.",
        default=Workers(1),
    )
    log: Log = option("What is logged, and how.", factory=Log)
    metadata: Metadata = option("Where tags and links are kept.", factory=Metadata)
    http: Http = option("The listener of the API.", factory=Http)
    access: Access = option("Who may do what.", factory=Access)
    health: Health = option("Checks that are made from time to time.", factory=Health)
    audit: Audit = option("Who changed what, and who could not come in.", factory=Audit)
    catalog: Catalog = option("The list of repositories.", factory=Catalog)
    tags: Tags = option("The list of a repository's tags.", factory=Tags)
    validation: Validation = option("Checks of manifests.", factory=Validation)
    gc: Collection = option("Removing what nobody holds any more.", factory=Collection)
    history: History = option("What tags have pointed at.", factory=History)
    retention: Retention = option("Removing tags by rules.", factory=Retention)
    quotas: Sequence[Quota] = option(
        "How much repositories may hold; all that match count.",
        factory=tuple,
        example="[{repositories: ['team/**'], bytes: 100GiB, tags: 1000}]",
    )
    notifications: Notifications = option("Webhooks.", factory=Notifications)
