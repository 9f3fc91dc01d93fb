"""What is said on the way, when nobody listens any more."""

import errno
import io
import subprocess
import sys

import pytest

from operations.console import _Unheard
from operations.stack import PROJECT_FOLDER


class Gone(io.StringIO):
    """A stream whose other end is gone."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def write(self, _text: str) -> int:
        raise self.error


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(errno.EIO, "the terminal is closed")])
def test_a_reader_that_is_gone_ends_nothing(error: OSError) -> None:
    console = _Unheard(file=Gone(error))

    console.print("created one")
    console.print("created another")

    assert console.quiet


def test_results_that_cant_be_written_are_told_in_a_sentence() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "operations", "charts", "list"],
            cwd=PROJECT_FOLDER,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert done.returncode == 2
    assert done.stderr == "What was found can't be written: No space left on device.\n"
