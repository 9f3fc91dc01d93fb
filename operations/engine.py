"""Pulumi's engine for one stack, with the program inline, so that no language plugin is needed.

Owns the environment the engine and its plugins start in.
"""

import json
import os

from pulumi import automation

from components.settings import PROJECT
from operations import program
from operations.stack import Stack, UsageError


def select(stack: str) -> automation.Stack:
    """The stack, if the backend knows it; raises what the Automation API raises."""
    for name in ("KUBECONFIG", *(name for name in os.environ if name.startswith("PULUMI_K8S_"))):
        # The SDK copies these into the state, where they show as a diff on the next machine.
        os.environ.pop(name, None)
    # Every cluster has a provider process; Go's default would let each grow to twice what it needs.
    os.environ.setdefault("GOGC", "60")
    return automation.Stack.select(stack, _Workspace(work_dir=str(program.PROJECT_FOLDER), program=program.run))


def decrypted(stack: Stack, key: str) -> str:
    """A secret of the stack's file; raises UsageError."""
    arguments = ["config", "get", f"{PROJECT}:{key}", "--json", "--stack", stack.name, "--config-file", str(stack.file)]
    try:
        answer = _Workspace(work_dir=str(program.PROJECT_FOLDER))._run_pulumi_cmd_sync(arguments)
    except FileNotFoundError:
        raise UsageError(f"{PROJECT}:{key} is decrypted by Pulumi's CLI, `pulumi`, which is not on PATH.") from None
    except automation.CommandError as error:
        raise UsageError(f"Pulumi can't decrypt {PROJECT}:{key}: {' '.join(str(error).split())}") from None
    return json.loads(answer.stdout)["value"]


def parallel(workers: int) -> int:
    """How many operations at once: a release that waits holds a place of its own."""
    return 16 + 4 * workers


class _Workspace(automation.LocalWorkspace):
    def select_stack(self, stack_name: str) -> None:
        # `stack select`, the original, would make this stack the current one of the user's own shell.
        self._run_pulumi_cmd_sync(["stack", "--stack", stack_name])
