"""The policy."""

from zope.interface import implementer

from txregistry.interfaces import Decision, IAccessPolicy
from txregistry.model.access import Right

READING = (Right.PULL, Right.LIST)


@implementer(IAccessPolicy)
class Homes:
    def __init__(self, root):
        self._root = root

    def decide(self, identity, right, repository):
        if identity.anonymous:
            return Decision(False, "homes: nothing is for anonymous")
        if right in READING:
            return Decision(True, "homes: everybody with a name reads everything")
        home = f"{self._root}/{identity.name}/"
        if repository.startswith(home):
            return Decision(True, f"homes: {home} is theirs")
        return Decision(False, f"homes: this is not below {home}")

    def lists_everything(self, identity):
        return not identity.anonymous

    def grants_anonymous(self):
        return False

    def immutable(self, repository, tag):
        return False
