"""Loading the configuration: defaults, then the file, then the environment.

Nothing is started from a configuration with a mistake, and all mistakes are told at once.
May import the interfaces and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from attrs import define, evolve, field, frozen

from ..auth.rules_maker import RULES
from ..auth.settings import Auth
from ..interfaces import (
    IAccessPolicyMaker,
    IAuthenticatorMaker,
    IReporterMaker,
    IStorageMaker,
)
from ..model.options import Workers
from ..reporters.settings import Reporting
from .environment import PATH_VARIABLE, Overlay, makers_below
from .nodes import Mistake, Node, Reading
from .settings import Settings, Storage
from .structuring import Structuring, options_of

VERSION = "0.1"
DEFAULT_DRIVER = "filesystem"
OF_RULES = ("groups", "rules")
"""The options of ``access`` that mean nothing to other policies."""
SERVICE_ROOT = "/var/lib/txregistry"


class ConfigurationMistakes(Exception):
    """The configuration cannot be used.

    :param mistakes: everything that is wrong with it.
    """

    def __init__(self, mistakes: tuple[Mistake, ...]) -> None:
        super().__init__("\n".join(str(mistake) for mistake in mistakes))
        self.mistakes = mistakes


@frozen
class Loaded:
    """A configuration: the settings, where each comes from, what the operator should know."""

    settings: Settings
    origins: Mapping[str, str]
    notices: tuple[str, ...]
    source: str
    again: Callable[[], Loaded]
    """Loads it once more, with what has changed since; blocking."""

    def with_new_rules(self) -> Loaded:
        """The same, with what may change while serving as it is by now; blocking.

        That is ``access`` and ``storage.maintenance.readonly``.

        :raises ConfigurationMistakes: the configuration is not good any more.
        """
        fresh, storage = self.again().settings, self.settings.storage
        readonly = fresh.storage.maintenance.readonly
        storage = evolve(storage, maintenance=evolve(storage.maintenance, readonly=readonly))
        settings = evolve(self.settings, access=fresh.access, storage=storage)
        return evolve(self, settings=settings)


def load(
    path: Path | None,
    environ: Mapping[str, str],
    makers: Mapping[str, IStorageMaker],
    authenticators: Mapping[str, IAuthenticatorMaker] | None = None,
    policies: Mapping[str, IAccessPolicyMaker] | None = None,
    reporters: Mapping[str, IReporterMaker] | None = None,
) -> Loaded:
    """Load the configuration.

    :param path: the file; None for the one that the environment names, else the packaged sample.
    :param environ: the environment.
    :param makers: the storage makers that are installed, by name.
    :param authenticators: the makers of authenticators that are installed, by name.
    :param policies: the makers of access policies that are installed, by name.
    :param reporters: the makers of reporters that are installed, by name.
    :raises ConfigurationMistakes: with everything that is wrong.
    """
    again = partial(
        load, path and path.absolute(), dict(environ), makers, authenticators, policies, reporters
    )
    if path is None and environ.get(PATH_VARIABLE):
        path = Path(environ[PATH_VARIABLE])
    reading = Reading()
    if path is None:
        text, source, base = sample(), "the packaged sample", Path.cwd()
    else:
        source, base = str(path), path.resolve().parent
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ConfigurationMistakes(
                (Mistake(source, "", f"cannot be read: {error}"),)
            ) from None
    root = reading.text(text, source)
    if reading.mistakes:
        raise ConfigurationMistakes(tuple(reading.mistakes))
    root = root or Node({}, source)
    if path is None and environ.get("STATE_DIRECTORY"):
        root = _service_root(root, environ["STATE_DIRECTORY"])
    others = {name: maker for name, maker in (policies or {}).items() if name != RULES}
    loading = _Loading(
        makers, authenticators or {}, others, reporters or {}, Structuring(base), reading
    )
    below = makers_below(makers, loading.authenticators, others, loading.reporters)
    root = Overlay(below, reading).over(root, environ)
    settings = loading.settings(root)
    mistakes = (*reading.mistakes, *loading.structuring.mistakes)
    if mistakes or settings is None:
        raise ConfigurationMistakes(mistakes)
    return Loaded(
        settings, loading.structuring.origins, tuple(loading.structuring.notices), source, again
    )


def sample() -> str:
    """The configuration that is used without a file."""
    return files(__package__).joinpath("sample.yml").read_text(encoding="utf-8")


def _service_root(root: Node, directory: str) -> Node:
    """Keep data where the service manager says."""
    state = Node(directory.partition(":")[0], "environment STATE_DIRECTORY")
    driver = Node({"rootdirectory": state}, state.origin)
    storage = root.value.get("storage") or Node({}, root.origin)
    storage = evolve(storage, value={**storage.value, DEFAULT_DRIVER: driver})
    return evolve(root, value={**root.value, "storage": storage})


@define
class _Loading:
    makers: Mapping[str, IStorageMaker]
    authenticators: Mapping[str, IAuthenticatorMaker]
    policies: Mapping[str, IAccessPolicyMaker]
    reporters: Mapping[str, IReporterMaker]
    structuring: Structuring
    reading: Reading
    _storage_options: dict[str, Any] = field(factory=lambda: options_of(Storage))
    _auth_options: dict[str, Any] = field(factory=lambda: options_of(Auth))

    # --- the file ----------------------------------------------------------------------------

    def settings(self, root: Node) -> Settings | None:
        """The settings in a tree of nodes."""
        build = self.structuring
        content = dict(build.mapping(root, ""))
        version = content.pop("version", None)
        if version is None or str(version.value) != VERSION:
            origin = version.origin if version is not None else root.origin
            build.mistakes.append(Mistake(origin, "version", f"has to be {VERSION}"))
        storage = self._storage(content.pop("storage", None))
        auth = self._auth(content.pop("auth", None))
        reporting = self._reporting(content.pop("reporting", None))
        level = content.get("log")
        if "access" in content:
            content["access"], chosen = self._policy(content["access"])
        else:
            chosen = None
        settings: Settings | None = build.section(
            Settings,
            evolve(root, value=content),
            "",
            storage=storage,
            auth=auth,
            reporting=reporting,
        )
        if settings is not None and settings.log.formatter == "logstash":
            origin = level.origin if level is not None else root.origin
            build.notices.append(f"{origin}: log.formatter: logstash is written as json")
        debug = settings.http.debug if settings is not None else None
        if debug is not None and debug.prometheus.enabled and not debug.addr:
            origin = build.origins["http.debug.prometheus.enabled"]
            text = "http.debug.prometheus has no effect without http.debug.addr"
            build.notices.append(f"{origin}: {text}")
        if settings is not None:
            settings = evolve(settings, access=evolve(settings.access, policy=chosen))
        self._check_tls(settings)
        self._check_access(settings)
        if settings is None:
            return None
        driver = settings.storage.driver
        if getattr(self.makers[driver], "private", False):
            build.notices.append(f"storage.{driver}: everything is lost when the process ends")
        return self._with_workers(settings)

    def _storage(self, node: Node | None) -> Storage | None:
        build = self.structuring
        content = build.mapping(node, "storage")
        drivers = [name for name in content if name in self.makers]
        origin = node.origin if node is not None else "default"
        if len(drivers) > 1:
            names = ", ".join(drivers)
            build.mistakes.append(
                Mistake(origin, "storage", f"has several drivers ({names}); keep one")
            )
        driver = drivers[0] if drivers else DEFAULT_DRIVER
        known = {*self._storage_options, *self.makers}
        common: dict[str, Node] = {}
        for name, value in content.items():
            if name in self._storage_options:
                common[name] = value
            elif name not in self.makers:
                build.unknown(name, value, "storage", dict.fromkeys(known))
        build.origins["storage.driver"] = content[driver].origin if drivers else "default"
        options = build.section(
            self.makers[driver].settings, content.get(driver), f"storage.{driver}"
        )
        section: Storage | None = build.section(
            Storage, Node(common, origin), "storage", driver=driver, options=options
        )
        return section

    def _auth(self, node: Node | None) -> Auth | None:
        """The section ``auth``: authenticators in their order, and options."""
        build = self.structuring
        content = build.mapping(node, "auth")
        known = {*self._auth_options, *self.authenticators}
        common: dict[str, Node] = {}
        chosen: list[tuple[str, Any]] = []
        for name, value in content.items():
            if name in self._auth_options:
                common[name] = value
            elif name in self.authenticators:
                settings = self.authenticators[name].settings
                chosen.append((name, build.section(settings, value, f"auth.{name}")))
            else:
                build.unknown(name, value, "auth", dict.fromkeys(known))
        origin = node.origin if node is not None else "default"
        section: Auth | None = build.section(
            Auth, Node(common, origin), "auth", authenticators=tuple(chosen)
        )
        if content and section is not None and not section.asks and node is not None:
            known_names = ", ".join(sorted(self.authenticators))
            text = f"names no authenticator; there are {known_names}, and apikeys"
            build.mistakes.append(Mistake(node.origin, "auth", text))
        return section

    def _reporting(self, node: Node | None) -> Reporting:
        """The section ``reporting``: reporters."""
        build = self.structuring
        chosen: list[tuple[str, Any]] = []
        for name, value in build.mapping(node, "reporting").items():
            if name in self.reporters:
                settings = self.reporters[name].settings
                chosen.append((name, build.section(settings, value, f"reporting.{name}")))
            else:
                build.unknown(name, value, "reporting", dict.fromkeys(self.reporters))
        return Reporting(tuple(chosen))

    def _policy(self, node: Node) -> tuple[Node, tuple[str, Any] | None]:
        """The section ``access`` without the section of a policy, and that policy."""
        build = self.structuring
        content = build.mapping(node, "access")
        chosen = [name for name in content if name in self.policies]
        if not chosen:
            return node, None
        name = chosen[0]
        for other, reason in (
            *((each, f"is a second policy beside {name}; keep one") for each in chosen[1:]),
            *((each, f"is not for the policy {name}") for each in OF_RULES),
        ):
            if other in content:
                mistake = Mistake(content[other].origin, f"access.{other}", reason)
                build.mistakes.append(mistake)
        build.origins[f"access.{name}"] = content[name].origin
        options = build.section(self.policies[name].settings, content[name], f"access.{name}")
        common = {key: value for key, value in content.items() if key not in self.policies}
        return evolve(node, value=common), (name, options)

    def _check_access(self, settings: Settings | None) -> None:
        if settings is None or settings.auth.asks:
            return
        if settings.access.policy is not None:
            key = f"access.{settings.access.policy[0]}"
        elif settings.access.rules:
            key = "access.rules"
        else:
            return
        text = "needs an authenticator (the section auth), or nobody can have a name"
        self.structuring.mistakes.append(Mistake(self.structuring.origins[key], key, text))

    def _check_tls(self, settings: Settings | None) -> None:
        if settings is None:
            return
        tls = settings.http.tls
        if (tls.certificate is None) != (tls.key is None):
            self.structuring.mistakes.append(
                Mistake(
                    self.structuring.origins.get("http.tls.certificate", "http.tls"),
                    "http.tls",
                    "certificate and key go together; give both or none",
                )
            )
        elif tls.certificate is None and tls.clientcas:
            self.structuring.mistakes.append(
                Mistake(
                    self.structuring.origins["http.tls.clientcas"],
                    "http.tls.clientcas",
                    "needs certificate and key",
                )
            )

    def _with_workers(self, settings: Settings) -> Settings:
        """Several processes need a storage and a database that all of them see."""
        if settings.workers == 1:
            return settings
        driver = settings.storage.driver
        if getattr(self.makers[driver], "private", False):
            reason = f"storage.{driver} keeps everything inside one process"
        else:
            return settings
        origin = self.structuring.origins["workers"]
        if settings.workers:
            text = f"has to be 1: {reason}"
            self.structuring.mistakes.append(Mistake(origin, "workers", text))
            return settings
        self.structuring.notices.append(f"{origin}: workers: auto is 1 here: {reason}")
        return evolve(settings, workers=Workers(1))
