"""Pulumi's CLI, for what is asked of it beside a run: the backend, the state, a stack's file.

Owns these commands and what they end in, without the SDK, which takes as long to load as a look at a whole fleet. What
deploys is `engine.py`'s.
"""

import os
import re
import subprocess
from pathlib import Path

from operations.stack import PROJECT_FOLDER, UsageError

SECONDS = 60
"""Deadline of one command."""
MISSING = "Pulumi's CLI, `pulumi`, is not on PATH. Install it: https://www.pulumi.com/docs/install/"
# The first is Pulumi Cloud's, and, without its "Conflict: ", that of services that speak its protocol.
_LOCKED = ("Another update is currently in progress.", "the stack is currently locked by")


class CommandError(Exception):
    """A command that failed: its exit code and all that it said."""

    def unknown(self, stack: str) -> str:
        """What to say where the backend has no such stack; empty where that isn't why."""
        if "no stack named" not in str(self):
            return ""
        return f"The backend knows no stack {stack}; make it with: pulumi stack init {stack}"


def cli(*arguments: str, given: str = "", folder: Path = PROJECT_FOLDER, **variables: str) -> str:
    """What a command prints; raises CommandError where it fails, UsageError where it hangs or there is none.

    `given` goes to its standard input, which no list of processes shows; `variables` are over this process's.
    """
    try:
        done = subprocess.run(
            ["pulumi", *arguments, "--non-interactive", "--color", "never"],
            cwd=folder,
            env=os.environ | variables,
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
    except FileNotFoundError:
        raise UsageError(MISSING) from None
    except subprocess.TimeoutExpired:
        raise UsageError(
            f"`pulumi {' '.join(arguments[:2])}` hasn't answered within {SECONDS} s; see whether the backend does."
        ) from None
    if done.returncode:
        raise CommandError(f"code: {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def locked(error: Exception) -> bool:
    """Whether a command was refused because an update of the stack runs, or left its lock; as `last_error`."""
    return any(words in str(error) for words in _LOCKED)


def last_error(error: Exception) -> str:
    """What went wrong, as the CLI's last line about it says; its exit code where it said nothing.

    Of a CommandError here, or of the SDK's.
    """
    labelled = (re.sub(r"^(stdout|stderr):", "", line.strip()).strip() for line in str(error).splitlines())
    lines = [line for line in labelled if line]
    told = [line for line in lines if line.startswith("error:")]
    return (told or lines)[-1].removeprefix("error:").strip()
