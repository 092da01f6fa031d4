"""Running hypothesis' state machines beside the reactor: rules block, what they call does not.

The environment variables ``MODEL_EXAMPLES`` and ``MODEL_STEPS`` make it longer. May import Twisted
and hypothesis.
"""

from __future__ import annotations

import os
from collections.abc import Coroutine
from typing import Any, cast

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread, deferToThread

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "50"))
STEPS = int(os.environ.get("MODEL_STEPS", "30"))


def wait(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in the reactor's thread, from a rule of a machine."""
    from twisted.internet import reactor

    return blockingCallFromThread(cast(Any, reactor), Deferred.fromCoroutine, work)


def run_machine(machine: type[Any]) -> Deferred[None]:
    """Run a state machine in a thread of its own beside the reactor's.

    :param machine: a class of hypothesis' state machines, whose rules use :func:`wait`.
    """
    return deferToThread(
        run_state_machine_as_test,
        cast(Any, machine),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
