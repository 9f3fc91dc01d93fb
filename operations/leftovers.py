"""What a killed run leaves on this machine: provider processes, and the folder of their temporary files.

Owns finding and removing both. A killed engine leaves its providers behind, and one that installs a Helm release goes
on with it; a killed command leaves the copies of kubeconfigs that its providers made, and its own clients' keys.
"""

import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from components.connection import SCRATCH
from operations.findings import Finding, Kind
from operations.stack import LAB, PROJECT_FOLDER, command

PROVIDER_LEFT = Kind(
    "provider-left",
    why="It may still change a cluster, and nobody writes down what.",
    page="recover",
    stops=True,
)
CREDENTIALS_LEFT = Kind(
    "credentials-left",
    why="Whoever can read it can enter the clusters.",
    page="recover",
)
SECONDS = 5
_PLUGIN = "pulumi-resource-"


@contextmanager
def scratch() -> Iterator[str]:
    """A folder for the temporary files of one run, whose name tells whose it is; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix=f"{SCRATCH}{os.getpid()}-") as folder:
        yield folder


def folders() -> list[Path]:
    """The folders of this user's runs that are gone."""
    found: list[Path] = []
    for folder in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*"):
        with suppress(FileNotFoundError):
            named = re.match(rf"{SCRATCH}(\d+)-", folder.name)
            if named and folder.stat().st_uid == os.getuid() and _gone(int(named[1]), folder):
                found.append(folder)
    return found


def providers() -> list[psutil.Process]:
    """Providers of this project whose engine is gone: nothing listens where they would report to.

    Those of another of the project's labs are that lab's business.
    """
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            argv = process.cmdline()
            ours = _plugin(argv) and Path(process.cwd()) == PROJECT_FOLDER
            if ours and process.environ().get(LAB) == os.environ.get(LAB) and not _listens(argv[-1]):
                found.append(process)
    return found


def findings(stack: str) -> list[Finding]:
    """What to know of all of it, and what to do."""
    remedy = command("recover", stack, "--yes")
    found: list[Finding] = []
    for process in providers():
        with suppress(psutil.Error):
            what = f"Process {process.pid}, {_plugin(process.cmdline())}, still runs though its engine is gone."
            found.append(PROVIDER_LEFT.found("this machine", what, remedy))
    for folder in folders():
        what = f"{folder} was left by a run that is gone; keys and copies of kubeconfigs may be in it."
        found.append(CREDENTIALS_LEFT.found("this machine", what, remedy))
    return found


def remove() -> None:
    """End those processes and wait until they are gone, then delete those folders.

    Asked politely, a provider would first finish what nobody will write down.
    """
    ended = providers()
    for process in ended:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(ended, timeout=SECONDS)
    for folder in folders():
        shutil.rmtree(folder, ignore_errors=True)


def _plugin(argv: list[str]) -> str:
    """The name of the plugin that a command runs; empty where it runs none."""
    names = [Path(word).name for word in argv[:2]]
    return next((name for name in names if name.startswith(_PLUGIN)), "")


def _gone(pid: int, folder: Path) -> bool:
    try:
        # A number is given out again, to something younger than the folder.
        return psutil.Process(pid).create_time() > folder.stat().st_ctime
    except (psutil.NoSuchProcess, FileNotFoundError):
        return True


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=1):
            return True
    except (OSError, ValueError, OverflowError):
        return False
