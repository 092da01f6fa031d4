"""From nodes to settings: types, units, defaults, and every mistake at once.

May import attrs, the model's options and other modules of this room.
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from attrs import NOTHING, Factory, field, fields, frozen, has

from ..model.options import METADATA_KEY, Duration, HookAddress, Secret, Size, Workers
from .foreign import IGNORED, UNSUPPORTED
from .nodes import Mistake, Node, plain

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(B|KB|MB|GB|TB|KiB|MiB|GiB|TiB)?")
_BYTES = {"B": 0, "K": 1, "M": 2, "G": 3, "T": 4}


class Unfit(Exception):
    """A value that is not of the option's type."""


def options_of(settings: type) -> dict[str, Any]:
    """The options of a settings class: attrs attributes by name."""
    return {
        attribute.name: attribute
        for attribute in fields(settings)
        if METADATA_KEY in attribute.metadata
    }


def default_of(attribute: Any) -> Any:
    """The default of an option, or ``NOTHING``."""
    default = attribute.default
    return default.factory() if isinstance(default, Factory) else default  # type: ignore[arg-type]


@frozen
class Structuring:
    """Builds settings.

    :param base: what relative paths are relative to.
    """

    base: Path
    mistakes: list[Mistake] = field(factory=list)
    notices: list[str] = field(factory=list)
    origins: dict[str, str] = field(factory=dict)

    def section(self, settings: type, node: Node | None, key: str, **given: Any) -> Any:
        """An instance of a settings class, or None if there is a mistake.

        :param given: attributes that are no options.
        """
        values: dict[str, Any] = dict(given)
        options = options_of(settings)
        hints = get_type_hints(settings)
        content = self.mapping(node, key)
        before = len(self.mistakes)
        for name in content:
            if name not in options:
                self.unknown(name, content[name], key, {**options, **given})
        for name, attribute in options.items():
            dotted = f"{key}.{name}" if key else name
            if name in content or has(_optional(hints[name])):
                self._option(attribute, hints[name], content.get(name), dotted, values)
            elif attribute.default is NOTHING:
                origin = node.origin if node is not None else "the configuration"
                self.mistakes.append(Mistake(origin, dotted, "is required"))
            else:
                self.origins[dotted] = "default"
        if len(self.mistakes) > before:
            return None
        return settings(**values)

    def mapping(self, node: Node | None, key: str) -> dict[str, Node]:
        """The entries of a section."""
        if node is None or node.value is None:
            return {}
        if not isinstance(node.value, dict):
            self.mistakes.append(Mistake(node.origin, key, "has to be a section with options"))
            return {}
        return node.value

    def unknown(self, name: str, node: Node, key: str, known: Mapping[str, Any]) -> None:
        """An option that this program does not have."""
        dotted = f"{key}.{name}" if key else name
        if dotted in IGNORED:
            self.notices.append(f"{node.origin}: {dotted}: {IGNORED[dotted]}")
            return
        if dotted in UNSUPPORTED:
            self.mistakes.append(Mistake(node.origin, dotted, UNSUPPORTED[dotted]))
            return
        close = difflib.get_close_matches(name, known, 1)
        hint = f'; did you mean "{close[0]}"?' if close else ""
        self.mistakes.append(Mistake(node.origin, dotted, f"unknown option{hint}"))

    def _option(
        self, attribute: Any, hint: Any, node: Node | None, dotted: str, values: dict[str, Any]
    ) -> None:
        wanted = _optional(hint)
        if has(wanted):
            values[attribute.name] = self.section(wanted, node, dotted)
            return
        assert node is not None
        self.origins[dotted] = node.origin
        if node.value is None and (wanted is not hint or attribute.default is not NOTHING):
            return
        try:
            value = self.value(wanted, node, dotted)
            if attribute.validator is not None and value is not None:
                attribute.validator(None, attribute, value)
        except Unfit as error:
            self.mistakes.append(Mistake(node.origin, dotted, str(error)))
        except ValueError as error:
            text = _validator_text(error, attribute, plain(node))
            self.mistakes.append(Mistake(node.origin, dotted, text))
        else:
            values[attribute.name] = value

    def value(self, wanted: Any, node: Node, dotted: str) -> Any:
        """A value of a type.

        :raises Unfit: it is of another type.
        """
        origin = get_origin(wanted)
        if origin in (Sequence, list, tuple):
            if not isinstance(node.value, list):
                raise Unfit("has to be a list")
            inner = get_args(wanted)[0]
            return tuple(
                self._item(inner, item, f"{dotted}[{index}]")
                for index, item in enumerate(node.value)
            )
        if origin in (Mapping, dict):
            if not isinstance(node.value, dict):
                raise Unfit("has to be a mapping")
            inner = get_args(wanted)[1]
            return {
                name: plain(item) if inner is Any else self.value(inner, item, f"{dotted}.{name}")
                for name, item in node.value.items()
            }
        return _scalar(wanted, node.value, self.base)

    def _item(self, wanted: Any, node: Node, dotted: str) -> Any:
        return (
            self.section(wanted, node, dotted) if has(wanted) else self.value(wanted, node, dotted)
        )


def _optional(hint: Any) -> Any:
    """The type inside ``X | None``."""
    if get_origin(hint) in (Union, types.UnionType):
        inner = [part for part in get_args(hint) if part is not type(None)]
        return inner[0]
    return hint


def _scalar(wanted: Any, value: Any, base: Path) -> Any:
    if isinstance(value, (list, dict)):
        raise Unfit("has to be a single value")
    if wanted is Any:
        return value
    if wanted is bool:
        if not isinstance(value, bool):
            raise Unfit("has to be true or false")
        return value
    if wanted is Duration:
        return read_duration(value)
    if wanted is Size:
        return read_size(value)
    if wanted is Workers:
        return read_workers(value)
    if wanted is int:
        if type(value) is not int or value < 0:
            raise Unfit("has to be a whole number from 0")
        return value
    if value is None:
        raise Unfit("has no value")
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if wanted is Path:
        return base / Path(text).expanduser()
    if wanted in (str, Secret, HookAddress):
        return text
    raise TypeError(f"options cannot be of type {wanted!r}")


def read_duration(value: Any) -> Duration:
    """Seconds from ``1h30m``, ``10s`` or a number of seconds.

    :raises Unfit: it is none of these.
    """
    if type(value) in (int, float) and value >= 0:
        return Duration(float(value))
    if not isinstance(value, str) or _DURATION.fullmatch(value) is None:
        raise Unfit("has to be a duration such as 10s, 1h30m or 168h")
    return Duration(sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(value)))


def read_size(value: Any) -> Size:
    """Bytes from ``4MiB``, ``512KB`` or a number of bytes.

    :raises Unfit: it is none of these.
    """
    if type(value) is int and value >= 0:
        return Size(value)
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Unfit("has to be a size such as 4MiB, 512KB or a number of bytes")
    unit = match[2] or "B"
    factor = 1024 if "i" in unit else 1000
    return Size(int(float(match[1]) * factor ** _BYTES[unit[0]]))


def read_workers(value: Any) -> Workers:
    """A number of processes, 0 for ``auto``.

    :raises Unfit: it is neither a number from 1 nor ``auto``.
    """
    if value == "auto":
        return Workers(0)
    if type(value) is not int or value < 1:
        raise Unfit("has to be a whole number from 1, or auto")
    return Workers(value)


def _validator_text(error: ValueError, attribute: Any, value: Any) -> str:
    """A sentence for an error of an attrs validator, whose texts are for programmers."""
    allowed = getattr(attribute.validator, "options", None)
    if allowed is not None:
        known = sorted(str(item) for item in allowed)
        close = difflib.get_close_matches(str(value), known, 1)
        hint = f'; did you mean "{close[0]}"?' if close else ""
        return f"has to be one of {', '.join(known)}{hint}"
    bound = getattr(attribute.validator, "bound", None)
    if bound is not None:
        return f"has to be {attribute.validator.compare_op} {bound}"
    return str(error)
