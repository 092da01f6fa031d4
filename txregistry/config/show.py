"""Showing the configuration in force: as YAML, with origins, without secrets.

May import attrs and other modules of this room.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_type_hints

from attrs import has

from ..auth.access_settings import Access
from .load import OF_RULES, Loaded
from .reference import written_value
from .structuring import _optional, options_of


def shown(loaded: Loaded, origins: bool) -> str:
    """The configuration as YAML.

    :param origins: whether each value is followed by a comment that says where it comes from.
    """
    lines = ["version: 0.1"]
    marks = loaded.origins if origins else None
    settings = loaded.settings
    storage = settings.storage
    lines.append("storage:")
    lines.append(f"  {storage.driver}:")
    lines += _lines(storage.options, f"storage.{storage.driver}", 2, marks)
    lines += _lines(storage, "storage", 1, marks)
    if settings.auth.asks:
        lines.append("auth:")
        for name, options in settings.auth.authenticators:
            lines.append(f"  {name}:")
            lines += _lines(options, f"auth.{name}", 2, marks)
        lines += _lines(settings.auth, "auth", 1, marks)
    if settings.reporting.reporters:
        lines.append("reporting:")
        for name, options in settings.reporting.reporters:
            lines.append(f"  {name}:")
            lines += _lines(options, f"reporting.{name}", 2, marks)
    lines += _lines(settings, "", 0, marks)
    return "\n".join(lines) + "\n"


def _lines(section: Any, key: str, depth: int, origins: Any) -> Iterator[str]:
    indent = "  " * depth
    hints = get_type_hints(type(section))
    policy = section.policy if isinstance(section, Access) else None
    if policy is not None:
        yield f"{indent}{policy[0]}:"
        yield from _lines(policy[1], f"{key}.{policy[0]}", depth + 1, origins)
    for name in options_of(type(section)):
        if policy is not None and name in OF_RULES:
            continue
        value, kind = getattr(section, name), _optional(hints[name])
        dotted = f"{key}.{name}" if key else name
        if has(kind):
            yield f"{indent}{name}:"
            yield from _lines(value, dotted, depth + 1, origins)
            continue
        text = "null" if value is None else written_value(value, kind)
        mark = f"  # {origins.get(dotted, 'default')}" if origins is not None else ""
        yield f"{indent}{name}: {text}{mark}"
