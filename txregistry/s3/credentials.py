"""Who we are to S3: keys that were given, or what botocore's chain finds.

The chain: environment, profile, web identity, container, instance metadata. It asks files and
servers, so it runs in threads. May import the interfaces and botocore.
"""

from __future__ import annotations

from typing import Any

from attrs import define, field, frozen

from ..interfaces import IWorld, StorageUnavailable

LOOK_AGAIN = 60.0
"""Seconds after which credentials that expire are asked for again; they are renewed by botocore
more than ten minutes before their end."""


@frozen
class AWSCredentials:
    """Keys, and the token of temporary ones."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


@define(eq=False)
class GivenCredentials:
    """Keys from the configuration."""

    given: AWSCredentials

    async def current(self) -> AWSCredentials:
        """The credentials to sign with."""
        return self.given


@define(eq=False)
class ChainCredentials:
    """What botocore's chain finds, renewed in time."""

    world: IWorld
    region: str
    _source: Any = None
    _current: AWSCredentials | None = None
    _looked: float = 0.0
    _expires: bool = False

    async def current(self) -> AWSCredentials:
        """The credentials to sign with.

        :raises StorageUnavailable: there are none, or they cannot be renewed.
        """
        now = self.world.reactor.seconds()
        found = self._current
        if found is not None and (not self._expires or now - self._looked < LOOK_AGAIN):
            return found
        try:
            found = await self.world.in_thread(self._ask)
        except Exception as error:
            raise StorageUnavailable(f"s3: no credentials: {error}") from error
        self._looked, self._current = now, found
        return found

    def _ask(self) -> AWSCredentials:
        """Blocks."""
        if self._source is None:
            import botocore.session
            from botocore.credentials import RefreshableCredentials

            session = botocore.session.Session()
            session.set_config_variable("region", self.region)
            self._source = session.get_credentials()
            self._expires = isinstance(self._source, RefreshableCredentials)
        if self._source is None:
            raise ValueError(
                "neither keys in the configuration nor in the environment, and no profile, web "
                "identity, container or instance role; set storage.s3.accesskey and secretkey, "
                "or give the process a role"
            )
        frozen_ones = self._source.get_frozen_credentials()
        return AWSCredentials(frozen_ones.access_key, frozen_ones.secret_key, frozen_ones.token)
