"""The backend's lock on a stack: who took it, whether that process still runs, and its removal.

Owns reading it: as a file of a backend on this machine, in the CLI's words elsewhere. Pulumi Cloud says no more than
that an update is under way. Only `remove` writes, but that in a bucket whoever asks is given a lock for a moment.
"""

import json
import re
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from components.settings import PROJECT
from operations import backend
from operations.cli import CommandError, cli, last_error, locked
from operations.findings import Finding, Kind
from operations.stack import PROJECT_FOLDER, UsageError, command

LOCK_LEFT = Kind(
    "lock-left",
    why="No update of this stack can start until it is gone.",
    page="recover",
    stops=True,
)
LOCK_HELD = Kind(
    "lock-held",
    why="Whoever holds it may be changing clusters and the state at this moment.",
    page="recover",
    stops=True,
)
_TOLD = re.compile(r"created by (?P<user>\S+)@(?P<host>\S+) \(pid (?P<pid>\d+)\) at (?P<since>\S+)")


class LockedError(UsageError):
    """The engine was refused because an update of the stack runs, or left its lock."""


@dataclass(frozen=True)
class Lock:
    """A lock, as the process that took it wrote it down."""

    user: str
    host: str
    """Empty where the backend doesn't say."""
    pid: int
    since: datetime

    @classmethod
    def anonymous(cls) -> "Lock":
        """One of which the backend says no more than that it is there."""
        return cls("", "", 0, datetime.now(UTC))

    @property
    def running(self) -> bool | None:
        """Whether that process still runs; None where that can't be seen from this machine."""
        if self.host != socket.gethostname():
            return None
        try:
            process = psutil.Process(self.pid)
            # A number is given out again; whoever has it now and started later, or is something else, is a stranger.
            older = process.create_time() <= self.since.timestamp() + 1
            return older and "pulumi" in process.name() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def finding(self, stack: str) -> Finding:
        """What to know of it, and what to do."""
        if not self.host:
            return LOCK_HELD.found(
                "the backend",
                "An update of this stack is under way, or one was cut off; the backend doesn't say whose it is.",
                f"When you are sure that none runs: {command('recover', stack, '--yes', '--force')}",
            )
        age = str(datetime.now(UTC) - self.since).partition(".")[0]
        taken = f"A lock was taken {age} ago by {self.user} on {self.host}, process {self.pid}"
        if self.running:
            return LOCK_HELD.found(
                "the backend",
                f"{taken}, which still runs.",
                f"Wait until it is done; look again with: {command('recover', stack)}",
            )
        if self.running is None:
            return LOCK_HELD.found(
                "the backend",
                f"{taken}; whether that still runs can't be seen from {socket.gethostname()}.",
                f"Look there. When it is gone: {command('recover', stack, '--yes', '--force')}",
            )
        return LOCK_LEFT.found("the backend", f"{taken}, which is gone.", command("recover", stack, "--yes"))


def locks(stack: str) -> list[Lock]:
    """Every lock on a stack; raises UsageError where the backend can't be asked."""
    try:
        return list(_asked(stack))
    except CommandError as error:
        raise UsageError(f"Pulumi can't see who holds {stack}: {last_error(error)}") from None


def listed(stack: str) -> list[Lock]:
    """Every lock on a stack, where the backend lists them; to learn of those in a bucket takes one for a moment."""
    try:
        return list(_read(stack) or ())
    except (CommandError, UsageError):
        return []


def remove(stack: str) -> None:
    """Remove every lock on a stack; raises UsageError."""
    try:
        cli("cancel", "--yes", "--stack", stack)
    except CommandError as error:
        raise UsageError(f"Pulumi can't remove the lock: {last_error(error)}") from None


def _read(stack: str) -> Iterable[Lock] | None:
    """The locks, of a backend that lists them: a folder or a service; None of every other."""
    url = backend.url()
    if root := backend.folder(url):
        return _files(root, stack)
    # Pulumi Cloud, by its console's address; a service elsewhere may have none.
    if not url or url.startswith(("https://", "http://")):
        stacks = json.loads(cli("stack", "ls", "--json"))
        busy = any(known.get("updateInProgress") for known in stacks if known["name"].rpartition("/")[2] == stack)
        return [Lock.anonymous()] if busy else []
    return None


def _asked(stack: str) -> Iterable[Lock]:
    if (known := _read(stack)) is not None:
        return known
    try:
        with tempfile.TemporaryDirectory() as empty:
            # Asks for the lock before it sees that there is such a stack; nothing else asks and then changes nothing.
            # Before that it wants a passphrase for the new one, which is any where no stack's file has its salt.
            shutil.copy(PROJECT_FOLDER / "Pulumi.yaml", empty)
            cli("stack", "init", stack, "--no-select", folder=Path(empty), PULUMI_CONFIG_PASSPHRASE="any")
    except CommandError as error:
        if not locked(error) and "already exists" not in str(error):
            raise
        told = _TOLD.finditer(str(error))
        return [Lock(lock["user"], lock["host"], int(lock["pid"]), _time(lock["since"])) for lock in told]
    return []


def _files(root: Path, stack: str) -> Iterator[Lock]:
    for folder in (root / f".pulumi/locks/organization/{PROJECT}/{stack}", root / f".pulumi/locks/{stack}"):
        for file in sorted(folder.glob("*.json")):
            try:
                written = json.loads(file.read_text())
                yield Lock(written["username"], written["hostname"], int(written["pid"]), _time(written["timestamp"]))
            except FileNotFoundError:
                continue
            except (ValueError, KeyError, TypeError):
                # Killed while it was written; a later one of the same kind would be complete at once.
                taken = datetime.fromtimestamp(file.stat().st_mtime, UTC)
                yield Lock("somebody", socket.gethostname(), 0, taken)


def _time(text: str) -> datetime:
    # Go writes nanoseconds, which are more than Python reads.
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
