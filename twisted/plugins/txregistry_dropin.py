"""What txregistry offers to twistd and to itself; imports nothing heavy."""

from twisted.application.service import ServiceMaker

from txregistry.auth.certificate_maker import CertificateMaker
from txregistry.auth.cred_maker import CredMaker
from txregistry.auth.external_maker import TokenMaker
from txregistry.auth.htpasswd_maker import HtpasswdMaker
from txregistry.auth.ldap_maker import LdapMaker
from txregistry.auth.oidc_maker import OidcMaker
from txregistry.auth.rules_maker import RulesMaker
from txregistry.auth.silly_maker import SillyMaker
from txregistry.reporters.bugsnag_maker import BugsnagMaker
from txregistry.reporters.newrelic_maker import NewRelicMaker
from txregistry.storage.azure_maker import AzureMaker
from txregistry.storage.makers import FilesystemMaker, MemoryMaker
from txregistry.storage.s3_settings import S3Maker

twistd_command = ServiceMaker(
    "txregistry", "txregistry.tap", "A Docker/OCI image registry.", "txregistry"
)
htpasswd_authenticator = HtpasswdMaker()
silly_authenticator = SillyMaker()
cred_authenticator = CredMaker()
filesystem_storage = FilesystemMaker()
inmemory_storage = MemoryMaker()
azure_storage = AzureMaker()
s3_storage = S3Maker()
token_authenticator = TokenMaker()
ldap_authenticator = LdapMaker()
rules_policy = RulesMaker()
oidc_authenticator = OidcMaker()
certificate_authenticator = CertificateMaker()
bugsnag_reporter = BugsnagMaker()
newrelic_reporter = NewRelicMaker()
