"""A real LDAP directory for tests: OpenLDAP's slapd with a database of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from attrs import define, field
from authority import Pair
from running import free_port
from tools import require_tool

from txregistry.auth.ldap import LdapAuthenticator, make_authenticator
from txregistry.auth.ldap_maker import LdapGroups, LdapSettings
from txregistry.world import StillWorld

SUFFIX = "dc=example,dc=org"
ADMIN = f"cn=admin,{SUFFIX}"
READER = f"cn=reader,{SUFFIX}"
PEOPLE = f"ou=people,{SUFFIX}"
GROUPS = f"ou=groups,{SUFFIX}"
SECRET = "Correct Horse"
READER_SECRET = "only to read"

CONFIG = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {directory}/pid
{tls}
database mdb
maxsize 10485760
suffix "{suffix}"
rootdn "{admin}"
rootpw admin
directory {directory}/data
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{reader}" read by self read by * none
"""

ENTRIES = f"""
dn: {SUFFIX}
objectClass: dcObject
objectClass: organization
dc: example
o: Example

dn: {PEOPLE}
objectClass: organizationalUnit
ou: people

dn: {GROUPS}
objectClass: organizationalUnit
ou: groups

dn: {READER}
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: reader
userPassword: {READER_SECRET}
"""

PERSON = """
dn: {dn}
objectClass: inetOrgPerson
uid: {uid}
cn: {uid}
sn: {uid}
userPassword: {secret}
"""

GROUP = """
dn: cn={name},{base}
objectClass: groupOfNames
cn: {name}
member: {member}
"""


@define
class Slapd:
    """A directory.

    :param pair: the certificate for TLS, with which ``ldaps`` is served as well.
    """

    directory: Path
    pair: Pair | None = None
    port: int = field(factory=free_port)
    tls_port: int = field(factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"ldap://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        return f"ldaps://localhost:{self.tls_port}"

    def prepare(self) -> None:
        """Write the configuration and the first entries."""
        (self.directory / "data").mkdir(parents=True)
        tls = ""
        if self.pair is not None:
            tls = (
                f"TLSCACertificateFile {self.pair.authority}\n"
                f"TLSCertificateFile {self.pair.certificate}\n"
                f"TLSCertificateKeyFile {self.pair.key}\n"
            )
        config = CONFIG.format(
            directory=self.directory, suffix=SUFFIX, admin=ADMIN, reader=READER, tls=tls
        )
        self.config.write_text(config)
        subprocess.run(
            [require_tool("slapadd"), "-f", self.config],
            input=ENTRIES.encode(),
            check=True,
            capture_output=True,
        )

    @property
    def config(self) -> Path:
        return self.directory / "slapd.conf"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        hosts = ("127.0.0.1", "127.0.0.2")
        urls = " ".join(f"ldap://{host}:{self.port}" for host in hosts)
        if self.pair is not None:
            urls += "".join(f" ldaps://{host}:{self.tls_port}" for host in hosts)
        # With -d it stays in the foreground.
        command = [require_tool("slapd"), "-f", str(self.config), "-h", urls, "-d", "0"]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ})
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self.process.poll() is None, (self.directory / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.01)

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    def change(self, text: str, program: str = "ldapmodify") -> None:
        """Change entries, described as LDIF."""
        subprocess.run(
            [require_tool(program), "-x", "-H", self.url, "-D", ADMIN, "-w", "admin"],
            input=text.encode(),
            check=True,
            capture_output=True,
        )

    def add_person(self, uid: str, secret: str = SECRET, dn: str = "") -> None:
        dn = dn or f"uid={uid},{PEOPLE}"
        self.change(PERSON.format(dn=dn, uid=uid, secret=secret), "ldapadd")

    def add_group(self, name: str, member: str) -> None:
        text = GROUP.format(name=name, base=GROUPS, member=f"uid={member},{PEOPLE}")
        self.change(text, "ldapadd")

    def set_password(self, uid: str, secret: str) -> None:
        self.change(
            f"dn: uid={uid},{PEOPLE}\nchangetype: modify\nreplace: userPassword\n"
            f"userPassword: {secret}\n"
        )

    def remove(self, name: str) -> None:
        """Remove an entry."""
        self.change(f"dn: {name}\nchangetype: delete\n")

    def restore(self, uid: str, secret: str = SECRET) -> None:
        """Have a person as at the beginning, whatever happened."""
        with suppress(subprocess.CalledProcessError):
            self.remove(f"uid={uid},{PEOPLE}")
        self.add_person(uid, secret)

    def settings(self, **more: Any) -> dict[str, Any]:
        """The section ``auth.ldap`` for it."""
        return {
            "urls": [self.url],
            "binddn": READER,
            "bindpassword": READER_SECRET,
            "base": PEOPLE,
            "filter": "(&(objectClass=inetOrgPerson)(uid={name}))",
            "groups": {"base": GROUPS},
            **more,
        }


@contextmanager
def slapd(directory: Path, pair: Pair | None = None) -> Iterator[Slapd]:
    """A directory that ends with the block."""
    found = Slapd(directory, pair)
    found.prepare()
    found.start()
    try:
        yield found
    finally:
        found.stop()


class Later:
    """The reactor, whose time a test can put forward."""

    def __init__(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.ahead = 0.0

    def seconds(self) -> float:
        now: float = self.reactor.seconds()
        return now + self.ahead

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reactor, name)


def asking(settings: Mapping[str, Any], later: Later, least: float = 0.0) -> LdapAuthenticator:
    """An authenticator with the settings of a section."""
    given = {**settings}
    if "groups" in given:
        given["groups"] = LdapGroups(**given["groups"])
    found = make_authenticator(LdapSettings(**given), StillWorld(later.reactor, Path("/nowhere")))
    return LdapAuthenticator(found.directory, later, found.at_once, least)
