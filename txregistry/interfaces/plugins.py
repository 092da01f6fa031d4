"""Plugins: the makers that are found, and the world that they make things in.

May import the model, attrs, zope.interface and ``twisted.plugin``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.plugin import IPlugin
from zope.interface import Attribute, Interface

T = TypeVar("T")


class IWorld(Interface):
    """What a plugin may use of the process it runs in."""

    reactor: Any = Attribute("The reactor: time, threads and connections.")
    state_directory: Path = Attribute("A directory for the plugin's own files.")

    def in_thread(function: Callable[..., T], *arguments: Any) -> Awaitable[T]:
        """Run a blocking call in the pool for storage."""

    def compute(function: Callable[..., T], *arguments: Any) -> Awaitable[T]:
        """Run a call that burns processor time (hashing, large JSON) in the pool for that."""


class IMaker(IPlugin):
    """A plugin: a light object that makes the thing itself when it is configured.

    A maker's module must not import the reactor or Klein; it imports its heavy half in ``make``.
    """

    name: str = Attribute("Name in the configuration: lower-case letters, digits, '-'.")
    summary: str = Attribute("One line for lists of plugins.")
    settings: type = Attribute("Frozen attrs class made of ``model.options.option`` fields.")

    def make(settings: Any, world: IWorld) -> Any:
        """Make the product; called once at start.

        :param settings: an instance of ``self.settings``.
        :raises ValueError: with a sentence, when the settings cannot work.
        """


class IStorageMaker(IMaker):
    """Makes an :class:`IStorageDriver`.

    A maker whose drivers keep what they store inside their own process has an attribute
    ``private`` that is true; such a storage cannot be served by several processes.
    """
