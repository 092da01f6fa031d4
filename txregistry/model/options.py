"""Declaring settings: the helper that makers and the configuration room describe options with.

A settings class is a frozen attrs class whose fields are made by :func:`option`, so that every
option carries its documentation. The configuration room reads these classes to structure the file,
to print the sample and to write the reference page.
"""

from __future__ import annotations

from typing import Any, NewType

from attrs import NOTHING, field

Duration = NewType("Duration", float)
"""Seconds; written in the file as ``10s``, ``1h30m``, ``168h`` or a plain number of seconds."""

Size = NewType("Size", int)
"""Bytes; written in the file as ``4MiB``, ``50GiB``, ``512KB`` or a plain number of bytes."""

Secret = NewType("Secret", str)
"""Text that is masked wherever the configuration is shown."""

HookAddress = NewType("HookAddress", str)
"""An address whose path may be a secret; its host alone is shown."""

Workers = NewType("Workers", int)
"""Processes; written in the file as a number or as ``auto``, which is kept as 0."""

METADATA_KEY = "txregistry"


def option(
    doc: str,
    default: Any = NOTHING,
    *,
    factory: Any = None,
    example: str | None = None,
    validator: Any = None,
) -> Any:
    """Declare one documented option of a settings class.

    :param doc: one or two sentences for the operator: effect first, then units and limits.
    :param default: the value used when the file does not name the option; an option without
        default or factory is required.
    :param factory: a callable making the default, for lists, mappings and nested sections.
    :param example: how to write a value in the sample file, where the default does not show it.
    :param validator: an attrs validator; it raises :class:`ValueError` with a sentence.
    """
    metadata = {METADATA_KEY: {"doc": doc, "example": example}}
    if factory is not None:
        return field(factory=factory, metadata=metadata, validator=validator, kw_only=True)
    return field(default=default, metadata=metadata, validator=validator, kw_only=True)
