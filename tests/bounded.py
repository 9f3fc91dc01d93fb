"""What hangs ends: setting a test up, running it and taking it down have half an hour each.

Owns the end, which is a failure like any other, so that fixtures take their labs away.
"""

import signal
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress

import psutil
import pytest

from lab.cluster import end_family

SECONDS = 1800


@pytest.hookimpl(wrapper=True)
def _bounded() -> Generator[None, object, object]:
    began = time.time()

    def end(*_: object) -> None:
        # Leaving a `with Popen(…)` awaits the process. Its beginning is known to the second.
        for process in psutil.Process().children():
            with suppress(psutil.NoSuchProcess):
                if process.create_time() > began - 1:
                    end_family(process.pid)
        pytest.fail(f"It hangs: it has not ended after {SECONDS} s.")

    signal.signal(signal.SIGALRM, end)
    # Again and again, because what follows from the failure may hang, too.
    signal.setitimer(signal.ITIMER_REAL, SECONDS, SECONDS)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def unbounded() -> Iterator[None]:
    """For what may take longer; afterwards the half hour begins anew."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, SECONDS, SECONDS)


pytest_runtest_setup = pytest_runtest_call = pytest_runtest_teardown = _bounded
