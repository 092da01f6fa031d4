"""Finding plugins, and saying why one was not found.

Plugins are objects in modules of ``twisted.plugins``; entry points of the group
``txregistry.plugins`` are the second door, for installations whose directories cannot be scanned.
May import the interfaces and ``twisted.plugin``.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from attrs import field, frozen
from twisted.plugin import IPlugin, getPlugins
from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyObject

from twisted import plugins as plugin_package

GROUP = "txregistry.plugins"


@frozen
class Plugin:
    """A plugin: its maker, and the module or entry point it was found in."""

    name: str
    maker: Any
    origin: str

    @property
    def summary(self) -> str:
        """One line about it."""
        return str(self.maker.summary)


@frozen
class Failure:
    """A place where a plugin should be, and why there is none."""

    origin: str
    text: str


@frozen
class Found:
    """What was found for an interface."""

    plugins: Mapping[str, Plugin] = field(factory=dict)
    failures: tuple[Failure, ...] = ()

    @property
    def makers(self) -> dict[str, Any]:
        """The makers by name."""
        return {name: plugin.maker for name, plugin in self.plugins.items()}


def discover(interface: Any) -> Found:
    """Every plugin that provides an interface.

    Two different plugins of one name are both left out, and told as failures.

    :param interface: a maker interface.
    """
    found: dict[str, Plugin] = {}
    failures = list(_broken_modules())
    clashing: set[str] = set()
    for maker, origin in _candidates(interface, failures):
        try:
            verifyObject(interface, maker)
        except Invalid as error:
            failures.append(Failure(origin, f"does not do what its interface says: {error}"))
            continue
        name = maker.name
        known = found.get(name)
        if known is None:
            found[name] = Plugin(name, maker, origin)
        elif known.maker is not maker and type(known.maker) is not type(maker):
            failures.append(
                Failure(origin, f"a plugin named {name!r} is also in {known.origin}; remove one")
            )
            clashing.add(name)
    for name in clashing:
        del found[name]
    return Found(found, tuple(failures))


def _candidates(interface: Any, failures: list[Failure]) -> Iterator[tuple[Any, str]]:
    for maker in getPlugins(interface):
        yield maker, _module_of(maker)
    for point in entry_points(group=GROUP):
        origin = f"entry point {point.name} = {point.value}"
        try:
            loaded = point.load()
        except Exception as error:
            failures.append(Failure(origin, f"cannot be imported: {error!r}"))
            continue
        for maker in loaded if isinstance(loaded, (list, tuple)) else [loaded]:
            if IPlugin.providedBy(maker) and interface.providedBy(maker):
                yield maker, origin


def _module_of(maker: Any) -> str:
    """The module of ``twisted.plugins`` that holds a maker."""
    for name, module in list(sys.modules.items()):
        if name.startswith("twisted.plugins.") and any(
            value is maker for value in vars(module).values()
        ):
            return name
    return type(maker).__module__


def _broken_modules() -> Iterator[Failure]:
    """Plugin modules that cannot be imported, which twisted.plugin only logs."""
    seen: dict[str, Path] = {}
    for directory in plugin_package.__path__:
        for path in sorted(Path(directory).glob("*.py")):
            name = path.stem
            if name == "__init__":
                continue
            if name in seen:
                yield Failure(str(path), f"is hidden by {seen[name]}, a module of the same name")
                continue
            seen[name] = path
            if "txregistry" not in path.read_text(encoding="utf-8", errors="replace"):
                continue
            try:
                importlib.import_module(f"twisted.plugins.{name}")
            except Exception as error:
                yield Failure(str(path), f"cannot be imported: {error!r}")
