"""One timed run of a command: seconds, the memory of its process tree, its writes.

Owns the clock and the samples. Memory is PSS (shared pages counted once), sampled, so short peaks are missed; more
often would cost what is being measured, as the kernel walks every page for it.
"""

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from lab.cluster import end_family

SAMPLE_SECONDS = 1


@dataclass(frozen=True, kw_only=True)
class Record:
    """What one run cost, as `.lab/bench.json` holds it."""

    tool: str
    workers: int
    phase: str
    seconds: float
    peak_mb: int
    writes: int


class CommandFailedError(Exception):
    """A measured command failed; its figures would mean nothing."""


def timed(command: Sequence[str], environment: Mapping[str, str], folder: Path, code: int = 0) -> tuple[float, int]:
    """Run a command to its end, which has to be this exit code: its seconds and its process tree's peak in MB."""
    began = time.monotonic()
    with (
        tempfile.TemporaryFile("w+") as told,
        subprocess.Popen(
            command, env=environment, cwd=folder, stdout=subprocess.DEVNULL, stderr=told, text=True
        ) as process,
    ):
        peak = 0
        try:
            while True:
                # Waiting is the condition; the time-out is the sampling interval.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(SAMPLE_SECONDS)
                    break
                peak = max(peak, _memory(process.pid))
        except KeyboardInterrupt:
            # Whatever it has begun would go on in a lab that is taken away.
            end_family(process.pid)
            raise
        seconds = time.monotonic() - began
        if process.returncode != code:
            told.seek(0)
            raise CommandFailedError(f"{' '.join(command[:3])} failed: {told.read().strip()[-2000:]}")
    return seconds, peak // 2**20


def _memory(pid: int) -> int:
    total = 0
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(OSError):
                total += _pss(process.pid)
    return total


def _pss(pid: int) -> int:
    # The kernel's own sum: adding up every mapping, as psutil does, costs what is being measured.
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0
