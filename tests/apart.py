"""Running something in a process of its own, which ends with it."""

import multiprocessing
from collections.abc import Callable
from contextlib import closing
from typing import Any, TypeVar

T = TypeVar("T")


def apart(run: Callable[[], T]) -> T:
    """What `run` returns or raises, in a fork of this process.

    For programs under the engine: the SDK keeps of a run that failed what the next one trips over. gRPC works in a
    process or in its forks, so whatever else uses it in a test has to run apart, too.
    """
    own = multiprocessing.get_context("fork")
    here, there = own.Pipe(duplex=False)

    def carry_out() -> None:
        told: tuple[Any, Exception | None]
        try:
            told = run(), None
        except Exception as error:
            told = None, error
        there.send(told)

    with closing(own.Process(target=carry_out)) as process:
        process.start()
        there.close()
        try:
            returned, raised = here.recv()
        finally:
            process.join()
    if raised:
        raise raised
    return returned
