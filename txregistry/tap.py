"""The door for twistd: ``twistd txregistry``.

May import everything; heavy imports happen when the service is made.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from .config.environment import PATH_VARIABLE
from .config.load import ConfigurationMistakes, Loaded, load
from .interfaces import IAccessPolicyMaker, IAuthenticatorMaker, IReporterMaker, IStorageMaker
from .log import LineObserver, LogStyle, observer
from .plugins import discover
from .signals import install_signals

if TYPE_CHECKING:
    from .service import RegistryService
    from .supervisor import Supervisor


class Options(UsageOptions):
    """Options of ``twistd txregistry``."""

    synopsis = "[options]"
    longdesc = "Serves a Docker/OCI image registry."
    optParameters = [
        ["config", "c", None, f"configuration file (or ${PATH_VARIABLE}, or the packaged sample)"]
    ]

    loaded: Loaded
    service: RegistryService | Supervisor

    def postOptions(self) -> None:
        """Load the configuration while the working directory is still the caller's.

        :raises UsageError: with every mistake of the configuration.
        """
        path = self["config"]
        self.loaded = load_or_complain(Path(path).absolute() if path else None)
        self.service = self._service()
        parent = getattr(self, "parent", None)
        if parent is not None and not parent.get("logger"):
            _chosen_log.update(style=style_of(self.loaded), path=_log_path(parent))
            parent["logger"] = "txregistry.tap.chosen_observer"

    def _service(self) -> RegistryService | Supervisor:
        """The service; it is made here so that what it cannot use is told without a traceback."""
        from twisted.internet import reactor

        from .supervisor import make_daemon

        try:
            return make_daemon(self.loaded, reactor)
        except ValueError as error:
            raise UsageError(str(error)) from None


_chosen_log: dict[str, Any] = {}
"""What twistd's command line and the configuration say about the log; twistd takes observers by
name only."""


def chosen_observer() -> LineObserver:
    """The observer for twistd."""
    return observer(_chosen_log["style"], _chosen_log["path"])


def _log_path(parent: Any) -> Path | None:
    """The file that twistd was told to log to, or None for the standard output."""
    name = parent.get("logfile")
    if name == "-" or (name is None and parent.get("nodaemon")):
        return None
    return Path(name or "twistd.log").absolute()


def style_of(loaded: Loaded) -> LogStyle:
    """How the configuration wants the log."""
    log = loaded.settings.log
    formatter = "text" if log.formatter == "text" else "json"
    return LogStyle(log.level, formatter, log.fields, log.accesslog.format or "")


def load_or_complain(path: Path | None) -> Loaded:
    """Load the configuration.

    :raises UsageError: with every mistake, one a line.
    """
    found = discover(IStorageMaker)
    try:
        return load(
            path,
            os.environ,
            found.makers,
            discover(IAuthenticatorMaker).makers,
            discover(IAccessPolicyMaker).makers,
            discover(IReporterMaker).makers,
        )
    except ConfigurationMistakes as error:
        lines = [str(mistake) for mistake in error.mistakes]
        lines += [f"(plugin {failure.origin}: {failure.text})" for failure in found.failures]
        raise UsageError("the configuration has mistakes:\n  " + "\n  ".join(lines)) from None


def makeService(options: Options) -> Any:
    """The service that twistd runs."""
    from twisted.internet import reactor

    reactor.callWhenRunning(install_signals, reactor, options.service)
    return options.service
