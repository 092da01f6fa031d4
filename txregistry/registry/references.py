"""What a manifest refers to, as events tell it.

May import the model, the interfaces and other modules of this room.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..interfaces import IStorageDriver, ObjectMissing
from ..model.descriptors import OCTET_STREAM
from ..model.events import EventAction, LoggedEvent
from . import layout


async def references(driver: IStorageDriver, logged: LoggedEvent) -> Sequence[Mapping[str, Any]]:
    """The descriptors in the manifest that an event is about: config and layers, or manifests.

    There are none for other events, and for a manifest that is gone by now.
    """
    event = logged.event
    if (
        event.action is EventAction.DELETE
        or event.digest is None
        or event.media_type == OCTET_STREAM
    ):
        return ()
    try:
        document = json.loads(await driver.get(layout.content(event.digest)))
    except (ObjectMissing, ValueError):
        return ()
    if not isinstance(document, dict):
        return ()
    found = [document.get("config")]
    for name in ("layers", "manifests"):
        listed = document.get(name)
        found += listed if isinstance(listed, list) else []
    return [each for each in found if isinstance(each, dict)]
