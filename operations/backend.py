"""A backend that is a folder on this machine: where it is, and what of it a killed CLI wrote half.

Owns the descriptions (`.attrs`) beside its files. The CLI replaces a file of its state in one step, and writes the
file's description before that in two: killed in between it leaves an empty one, and refuses the state with "EOF" from
then on. Without a description it reads the file like any other.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from components.settings import PROJECT
from operations.cli import CommandError, cli, last_error
from operations.findings import Finding, Kind
from operations.stack import PROJECT_FOLDER, UsageError, command

STATE_UNREADABLE = Kind(
    "state-unreadable",
    why="The state itself is whole, and no command can read it past this.",
    page="recover",
    stops=True,
)


def url() -> str:
    """Where the backend is; raises CommandError and UsageError."""
    return json.loads(cli("whoami", "--json"))["url"]


def folder(url: str) -> Path | None:
    """The folder that a backend is; None for every other."""
    if not url.startswith("file://"):
        return None
    return PROJECT_FOLDER / Path(url.removeprefix("file://").partition("?")[0]).expanduser()


def cut_off(stack: str) -> list[Path]:
    """The descriptions of a stack's state that were not written to their end; raises UsageError."""
    try:
        root = folder(url())
    except CommandError as error:
        raise UsageError(f"Pulumi can't say where the state is: {last_error(error)}") from None
    if root is None:
        return []
    stacks = root / ".pulumi/stacks"
    found = [*stacks.glob(f"{PROJECT}/{stack}.json*.attrs"), *stacks.glob(f"{stack}.json*.attrs")]
    return [file for file in sorted(found) if not _whole(file)]


def delete(files: Iterable[Path]) -> None:
    """Delete these; raises UsageError."""
    try:
        for file in files:
            file.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"{error.filename} can't be deleted: {error.strerror}.") from None


def finding(file: Path, stack: str) -> Finding:
    """What to know of one, and what to do."""
    remedy = command("recover", stack, "--yes")
    what = f"{file} was not written to its end; it is deleted, and what it describes stays."
    return STATE_UNREADABLE.found("the backend", what, remedy)


def _whole(file: Path) -> bool:
    try:
        json.loads(file.read_text())
    except OSError:
        return True
    except ValueError:
        return False
    return True
