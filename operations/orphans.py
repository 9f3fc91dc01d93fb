"""Provider processes that outlived the engine that started them.

Owns finding and ending them, on this machine and for this project. A killed engine leaves its providers behind, and one
that installs a Helm release goes on with it.
"""

import contextlib
import socket
from pathlib import Path

import psutil

from operations.findings import Finding, Kind
from operations.program import PROJECT_FOLDER

PROVIDER_LEFT = Kind(
    "provider-left",
    why="It may still change a cluster, and nobody writes down what.",
    page="recover",
    stops=True,
)
SECONDS = 5
_PLUGIN = "pulumi-resource-"


def orphans() -> list[psutil.Process]:
    """Providers of this project whose engine is gone: nothing listens where they would report to."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            if (
                any(Path(word).name.startswith(_PLUGIN) for word in command[:2])
                and Path(process.cwd()) == PROJECT_FOLDER
                and not _listens(command[-1])
            ):
                found.append(process)
    return found


def finding(process: psutil.Process, stack: str) -> Finding:
    """What to know of it, and what to do."""
    plugin = next(Path(word).name for word in process.cmdline()[:2] if Path(word).name.startswith(_PLUGIN))
    return PROVIDER_LEFT.found(
        "this machine",
        f"Process {process.pid}, {plugin}, still runs though the engine it worked for is gone.",
        f"python -m operations recover --stack {stack} --yes",
    )


def end(processes: list[psutil.Process]) -> None:
    """End them, and wait until they are gone; politely they would first finish what nobody will write down."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=SECONDS)


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=1):
            return True
    except (OSError, ValueError, OverflowError):
        return False
