"""The authenticator."""

import hashlib
import hmac

from zope.interface import implementer

from txregistry.interfaces import IAuthenticator
from txregistry.model.access import Identity, Password


@implementer(IAuthenticator)
class Crew:
    takes = (Password,)

    def __init__(self, names, password):
        self._names = frozenset(names)
        self._password = password.encode()
        self._stamp = hashlib.sha256(self._password).hexdigest()

    async def identify(self, credentials):
        if not isinstance(credentials, Password):
            return None
        secret = credentials.secret.encode("utf-8", "surrogatepass")
        right = hmac.compare_digest(secret, self._password)
        if not right or credentials.name not in self._names:
            return None
        groups = frozenset({"crew"})
        return Identity(credentials.name, groups, "crew", self.stamp(credentials.name))

    def stamp(self, name):
        return self._stamp if name in self._names else None
