"""A stack: which file configures it, and in which environment its commands run.

Owns finding both. A folder of the lab (`.lab`, or GLOO_MESH_LAB) may hold a working copy of a stack's
file with the environment it needs (backend, passphrase file, PATH); that copy then goes before the
tracked file, so that the demo's stack is found unaided.
"""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from components.settings import Settings

PROJECT_FOLDER = Path(__file__).resolve().parent.parent
LAB = "GLOO_MESH_LAB"
"""Names the folder of a lab."""


class UsageError(Exception):
    """A sentence for the person at the keyboard: what can't be done, and what to do instead."""


@dataclass(frozen=True)
class Stack:
    """A stack that exists as a file; whether the backend knows it is the engine's to say."""

    name: str
    file: Path
    environment: Mapping[str, str]
    """What this stack's commands need on top of the caller's environment."""

    @classmethod
    def find(cls, name: str) -> "Stack":
        """The stack called `name`; raises UsageError when no file configures it."""
        lab = Path(os.environ.get(LAB, PROJECT_FOLDER / ".lab"))
        copy = lab / f"Pulumi.{name}.yaml"
        if copy.is_file():
            return cls(name, copy.resolve(), _environment(lab / "environment"))
        tracked = PROJECT_FOLDER / f"Pulumi.{name}.yaml"
        if tracked.is_file():
            return cls(name, tracked, {})
        known = sorted(path.name.split(".")[1] for path in PROJECT_FOLDER.glob("Pulumi.*.yaml"))
        raise UsageError(
            f"There is no stack {name}: {tracked.name} doesn't exist. Known are {', '.join(known)}; "
            f"make one with: pulumi stack init {name}"
        )

    def settings(self, decrypted: Mapping[str, str] | None = None) -> Settings:
        """What the file says, secrets opaque but for those given; raises ConfigurationError with every fault."""
        return Settings.read(self.file, decrypted)


def command(verb: str, stack: str, *more: str) -> str:
    """One of this program's commands, as a sentence names it; `more` are what it is given beside the stack."""
    return " ".join(["python -m operations", verb, "--stack", stack, *more])


def _environment(file: Path) -> dict[str, str]:
    lines = file.read_text().splitlines() if file.is_file() else []
    return dict(os.path.expandvars(word).split("=", 1) for line in lines for word in shlex.split(line, comments=True))
