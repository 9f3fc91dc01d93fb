"""Waiting for what the lab's controllers, agents and plugins do in their own time."""

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def awaited(condition: Callable[[], Value], seconds: float = 300) -> Value:
    """What a condition comes to, asked until that is true; fails where it doesn't come to that in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"it stays at {value!r}"
        time.sleep(0.1)
    return value
