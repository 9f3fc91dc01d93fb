"""Commands that outlive neither their deadline nor this process, with all that they started.

Owns their start and their end; what they say is their caller's.
"""

import atexit
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_RUNNING: set[subprocess.Popen[bytes]] = set()
"""Whoever waits for one may be a thread that is gone before it is."""


def run(
    command: Sequence[str],
    *,
    seconds: float,
    environment: Mapping[str, str],
    given: bytes = b"",
    folder: Path | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """A command to its end; `given` goes to its standard input.

    Raises OSError where it can't be started, and TimeoutExpired where it was killed for its deadline.
    """
    # A group of its own, because what a wrapper script started must end with it.
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE if given else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    _RUNNING.add(process)
    try:
        said, complained = process.communicate(given or None, timeout=seconds)
    except subprocess.TimeoutExpired:
        _kill(process)
        # Not by reading to the end: what left the group, such as a browser, may hold the pipes open.
        process.wait()
        for pipe in filter(None, (process.stdin, process.stdout, process.stderr)):
            with suppress(OSError):
                pipe.close()
        raise
    finally:
        _RUNNING.discard(process)
    return subprocess.CompletedProcess(command, process.returncode, said, complained)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@atexit.register
def _end() -> None:
    for process in list(_RUNNING):
        _kill(process)
