"""The settings of the reporter that tells Bugsnag, and its maker: light objects.

May import the interfaces, the model's options and the validators of this room; the reporter is
imported when it is made.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import frozen, validators
from zope.interface import implementer

from ..interfaces import IReporterMaker, IWorld
from ..model.options import Duration, Secret, option
from .settings import web_address

NOTIFY = "https://notify.bugsnag.com/"
SESSIONS = "https://sessions.bugsnag.com/"

VARIABLE = "BUGSNAG_API_KEY"


@frozen
class BugsnagSettings:
    """Failures that nobody expected, told to Bugsnag."""

    apikey: Secret | None = option(
        f"The key of the project; {VARIABLE} in the environment without it.", default=None
    )
    apikeyfile: Path | None = option(
        "A file with the key, in place of apikey.",
        default=None,
        example="/etc/txregistry/bugsnag.key",
    )
    releasestage: str = option("The stage that this registry is in.", default="production")
    notifystages: Sequence[str] = option(
        "Stages in which something is told; every stage, without one.",
        factory=tuple,
        example="[production, staging]",
    )
    appversion: str | None = option(
        "The version that is told; that of this program without it.", default=None
    )
    endpoint: str = option("Where failures are posted to.", default=NOTIFY, validator=web_address)
    sessionendpoint: str | None = option(
        f"Where sessions are posted to; {SESSIONS}, or nowhere with another endpoint.",
        default=None,
        validator=validators.optional(web_address),
    )
    sessions: bool = option(
        "Tell how many requests there are each minute, as sessions.", default=True
    )
    breadcrumbs: int = option(
        "Records of the log that are told with a failure: the last ones of its request or of none.",
        default=25,
        validator=[validators.ge(0), validators.le(100)],
    )
    payloadversion: str = option(
        "Of the payload: 5, or 4.0 for old servers of one's own.",
        default="5",
        validator=validators.in_(("5", "4.0")),
    )
    timeout: Duration = option(
        "Time that an answer may take.", default=Duration(15.0), validator=validators.gt(0)
    )


@implementer(IReporterMaker)
@frozen
class BugsnagMaker:
    """Makes the reporter."""

    name: str = "bugsnag"
    summary: str = "failures told to Bugsnag"
    settings: type = BugsnagSettings

    def make(self, settings: BugsnagSettings, world: IWorld) -> Any:
        """See ``IMaker``.

        :raises ValueError: there is no key.
        """
        from .bugsnag import Bugsnag

        return Bugsnag(settings, key_of(settings), world)


def key_of(settings: BugsnagSettings) -> str:
    """The key of the project.

    :raises ValueError: there is none, or it cannot be sent.
    """
    key = settings.apikey or ""
    if not key and settings.apikeyfile is not None:
        try:
            key = Secret(settings.apikeyfile.read_text("utf-8").strip())
        except (OSError, ValueError) as error:
            raise ValueError(f"reporting.bugsnag.apikeyfile cannot be read: {error}") from error
    key = key or os.environ.get(VARIABLE, "")
    if not key:
        raise ValueError(
            "reporting.bugsnag needs apikey, apikeyfile, or the key in the environment as "
            f"{VARIABLE}; without the section nothing is told to Bugsnag"
        )
    if not re.fullmatch(r"[\x21-\x7e]{1,100}", key):
        raise ValueError("the key of reporting.bugsnag has characters that no key has")
    return key
