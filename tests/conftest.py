"""Fixtures for every test."""

from __future__ import annotations

import sys
from pathlib import Path

from txregistry.testing.observer import logged_failures

sys.path.insert(0, str(Path(__file__).parent))

__all__ = ["logged_failures"]
