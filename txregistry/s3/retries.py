"""When to try again. May import the standard library."""

from __future__ import annotations

import random


def delay(attempt: int, base: float = 0.1, most: float = 5.0) -> float:
    """Seconds before another attempt: at random below a bound that doubles.

    :param attempt: how many have failed, from 1.
    """
    return random.uniform(0, min(most, base * 2**attempt))
