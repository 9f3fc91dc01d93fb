"""Running something in a process of its own, which ends with it."""

import multiprocessing
import pickle
import traceback
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
        told: tuple[Any, BaseException | None]
        try:
            told = run(), None
        except BaseException as error:  # `pytest.fail` is none of the usual kind
            error.add_note("".join(traceback.format_exception(error)))
            told = None, error
        try:
            pickle.loads(pickle.dumps(told))
        except Exception:
            told = None, RuntimeError(f"can't be handed over: {told}")
        there.send(told)

    with closing(own.Process(target=carry_out)) as process:
        process.start()
        there.close()
        try:
            returned, raised = here.recv()
        except EOFError:
            process.join()
            raise AssertionError(f"the fork ended with {process.exitcode} and said nothing") from None
        finally:
            process.join()
    if raised:
        raise raised
    return returned
