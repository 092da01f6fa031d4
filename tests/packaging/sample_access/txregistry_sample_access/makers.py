"""The makers: what txregistry finds. They are light; the rest is imported when it is made."""

from attrs import frozen
from zope.interface import implementer

from txregistry.interfaces import Challenge, IAccessPolicyMaker, IAuthenticatorMaker
from txregistry.model.options import Secret, option


@frozen
class CrewSettings:
    """The options of ``auth.crew`` in the configuration."""

    names: list[str] = option("Who belongs to the crew.")
    password: Secret = option("The password that all of them have.")


@implementer(IAuthenticatorMaker)
@frozen
class CrewMaker:
    """Makes the authenticator."""

    name: str = "crew"
    summary: str = "a crew that shares a password"
    settings: type = CrewSettings

    def make(self, settings, world):
        """See ``IMaker``."""
        from .crew import Crew

        if len(settings.password) < 8:
            raise ValueError("auth.crew.password has to have 8 characters at least")
        return Crew(settings.names, settings.password)

    def challenge(self, settings):
        """See ``IAuthenticatorMaker``."""
        return Challenge("Basic", "crew")


@frozen
class HomesSettings:
    """The options of ``access.homes``."""

    root: str = option("The first component of every home's name.", default="home")


@implementer(IAccessPolicyMaker)
@frozen
class HomesMaker:
    """Makes the policy."""

    name: str = "homes"
    summary: str = "everybody reads, and writes below home/<name>"
    settings: type = HomesSettings

    def make(self, settings, world):
        """See ``IMaker``."""
        from .homes import Homes

        return Homes(settings.root)
