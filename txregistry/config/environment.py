"""The environment over the file: variables whose names lead to options, as distribution has them.

``REGISTRY_HTTP_TLS_KEY`` is ``http.tls.key``; its value is YAML. An element of a list of sections
is named by its number, ``REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL``; one may be added behind the
last.
May import the interfaces and other modules of this room.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

from attrs import define, has

from ..auth.access_settings import Access
from ..auth.settings import Auth
from ..interfaces import IMaker
from ..model.options import HookAddress, Secret
from ..reporters.settings import Reporting
from .nodes import Mistake, Node, Reading, replaced
from .settings import Settings, Storage
from .structuring import _optional, options_of

ENVIRONMENT = "REGISTRY_"
PATH_VARIABLE = "REGISTRY_CONFIGURATION_PATH"

Keys = list[str | int]


@define
class Overlay:
    """Puts the environment's values over the file's.

    :param makers: the makers of the plugins that are configured in a section.
    """

    makers: Mapping[type, Mapping[str, IMaker]]
    reading: Reading

    def over(self, root: Node, environ: Mapping[str, str]) -> Node:
        """Put all of them over a tree, parents before their parts."""
        for name in sorted(environ, key=_order):
            if name.startswith(ENVIRONMENT) and name != PATH_VARIABLE:
                root = self._override(root, name, environ[name])
        return root

    def _override(self, root: Node, name: str, text: str) -> Node:
        origin = f"environment {name}"
        words = name.removeprefix(ENVIRONMENT).lower().split("_")
        keys, secret = self._resolve(Settings, words), False
        if keys is None and words[-1] == "file":
            keys = self._resolve(Settings, words[:-1], only_secret=True)
            secret = keys is not None
        if keys is None:
            self._complain(origin, f"names no option{self._similar(name)}")
            return root
        if secret:
            try:
                node = Node(Path(text).read_text().strip(), origin)
            except OSError as error:
                self._complain(origin, f"cannot be read: {error}")
                return root
        else:
            node = self.reading.text(text, origin, lines=False) or Node(None, origin)
        if keys == ["storage"] and node is not None and isinstance(node.value, str):
            return self._switch_driver(root, node)
        try:
            return replaced(root, keys, node)
        except IndexError as error:
            self._complain(origin, str(error))
            return root

    def _complain(self, origin: str, text: str) -> None:
        self.reading.mistakes.append(Mistake(origin, "", text))

    def _switch_driver(self, root: Node, node: Node) -> Node:
        """``REGISTRY_STORAGE=name`` takes another driver and keeps the other options."""
        drivers = self.makers[Storage]
        storage = root.value.get("storage") or Node({}, node.origin)
        kept = {
            name: value
            for name, value in storage.value.items()
            if name not in drivers or name == node.value
        }
        kept.setdefault(node.value, Node({}, node.origin))
        return replaced(root, ["storage"], Node(kept, node.origin))

    def _resolve(
        self, settings: type, words: Sequence[str], only_secret: bool = False
    ) -> Keys | None:
        """The keys that the words of a variable's name lead to."""
        if not words:
            return []
        sections: dict[str, Any] = dict(get_type_hints(settings))
        known = {name: sections[name] for name in options_of(settings)}
        if settings is Settings:
            known["version"] = str
        known.update(self._below(settings))
        for count in range(1, len(words) + 1):
            for joint in ("", "_", "-"):
                name = joint.join(words[:count])
                if name not in known:
                    continue
                inner, rest = _optional(known[name]), words[count:]
                item = _item(inner)
                if has(inner):
                    below = self._resolve(inner, rest, only_secret)
                    if below is not None:
                        return [name, *below]
                elif item is not None and rest and rest[0].isdecimal():
                    below = self._resolve(item, rest[1:], only_secret)
                    if below is not None:
                        return [name, int(rest[0]), *below]
                elif not rest and (not only_secret or inner in (Secret, HookAddress)):
                    return [name]
                elif rest and "Mapping" in str(inner):
                    return [name, "_".join(rest)]
        return None

    def _below(self, settings: type) -> dict[str, type]:
        """Sections that plugins describe, and those they are in."""
        if settings is Settings:
            return {"storage": Storage, "auth": Auth, "reporting": Reporting}
        return {name: maker.settings for name, maker in self.makers.get(settings, {}).items()}

    def _similar(self, name: str) -> str:
        close = difflib.get_close_matches(name, self._variables(Settings, ENVIRONMENT[:-1]), 1)
        return f"; did you mean {close[0]}?" if close else ""

    def _variables(self, settings: type, prefix: str) -> list[str]:
        found: list[str] = []
        hints = get_type_hints(settings)
        known = {name: hints[name] for name in options_of(settings)}
        known.update(self._below(settings))
        for name, hint in known.items():
            variable, inner = f"{prefix}_{name.upper()}", _optional(hint)
            found.append(variable)
            item = _item(inner)
            if has(inner):
                found += self._variables(inner, variable)
            elif item is not None:
                found += self._variables(item, f"{variable}_0")
        return found


def makers_below(
    storage: Mapping[str, IMaker],
    auth: Mapping[str, IMaker],
    access: Mapping[str, IMaker],
    reporting: Mapping[str, IMaker],
) -> Mapping[type, Mapping[str, IMaker]]:
    """The makers of plugins by the section that they are configured in."""
    return {Storage: storage, Auth: auth, Access: access, Reporting: reporting}


def _order(name: str) -> list[tuple[int, str]]:
    """Sorts names word by word, and numbers in them by their size."""
    return [(int(word), "") if word.isdecimal() else (-1, word) for word in name.split("_")]


def _item(kind: Any) -> Any:
    """The class of the sections in a list, None where there is no such list."""
    items = [each for each in get_args(kind) if has(each)]
    return items[0] if items and "Sequence" in str(kind) else None
