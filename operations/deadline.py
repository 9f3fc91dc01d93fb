"""Calls side by side, and a deadline for what has none of its own.

Owns the threads and the waiting. What hangs is left to itself, and keeps this process from nothing, not even from
ending.
"""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def started(call: Callable[[Item], Answer], items: Iterable[Item], at_once: int) -> list[Future[Answer]]:
    """What `call` returns or raises for each item, so many `at_once`; none whose future is cancelled by then."""
    waiting = deque((item, Future[Answer]()) for item in items)
    futures = [future for _, future in waiting]

    def work() -> None:
        while waiting:
            try:
                item, future = waiting.popleft()
            except IndexError:
                # Another thread took the last.
                return
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call(item))
            except BaseException as error:
                # Whoever waits would wait for ever.
                future.set_exception(error)

    for _ in range(min(at_once, len(futures))):
        Thread(target=work, daemon=True).start()
    return futures


def within(seconds: float, call: Callable[[], Answer]) -> Answer:
    """What `call` returns or raises, if it does in time; raises TimeoutError where it hangs."""
    (future,) = started(lambda _: call(), (None,), 1)
    return future.result(seconds)
