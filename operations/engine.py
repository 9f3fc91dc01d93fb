"""Pulumi's engine for one stack, with the program inline, so that no language plugin is needed.

Owns the environment the engine and its plugins start in.
"""

import os
import subprocess
import sys
import warnings
from datetime import UTC, datetime

from pulumi import automation
from pulumi.automation._stack import StackInitMode

from operations import cli, program
from operations.stack import PROJECT_FOLDER, UsageError

# A CLI that is killed says no more; that it was killed is told.
warnings.filterwarnings("ignore", "Error in event stream")


class QuietStack(automation.Stack):
    """A stack whose runs are told by their events: the CLI isn't asked thrice more for what nobody reads."""

    def outputs(self) -> automation.OutputMap:
        return {}

    def info(self, show_secrets: bool = True) -> automation.UpdateSummary:
        # The SDK insists on one after each update.
        return automation.UpdateSummary("update", datetime.now(UTC), "", {}, {}, "")


def select(stack: str) -> QuietStack:
    """The stack, of which nobody has made sure that the backend knows it; raises UsageError where there is no CLI."""
    for name in [name for name in os.environ if name.startswith("PULUMI_K8S_")]:
        # The SDK copies these into the state, where they show as a diff on the next machine.
        os.environ.pop(name)
    # Every cluster has a provider process; Go's default would let each grow to twice what it needs.
    os.environ.setdefault("GOGC", "50")
    # The plugin looks into whatever this names, which may be several files or none; the program names one itself.
    ambient = {"KUBECONFIG": "", program.PYTHON_VARIABLE: sys.executable}
    try:
        workspace = _Workspace(work_dir=str(PROJECT_FOLDER), program=program.run, env_vars=ambient)
        return QuietStack(stack, workspace, StackInitMode.SELECT)
    except FileNotFoundError:
        raise UsageError(cli.MISSING) from None
    except (automation.InvalidVersionError, subprocess.CalledProcessError) as error:
        raise UsageError(f"Pulumi's CLI can't be used: {error}") from None


def parallel(workers: int) -> int:
    """How many operations at once: a release that waits holds a place of its own."""
    return 16 + 4 * workers


class _Workspace(automation.LocalWorkspace):
    def select_stack(self, stack_name: str) -> None:
        """Nothing: the SDK would make this stack the current one of the user's own shell, and take its time for it."""
