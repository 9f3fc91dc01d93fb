"""Pulumi's engine for one stack, with the program inline, so that no language plugin is needed.

Owns the environment the engine and its plugins start in.
"""

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

from pulumi import automation
from pulumi.automation._stack import StackInitMode
from pulumi.automation.errors import create_command_error

from components.settings import PROJECT, Settings
from operations import program
from operations.stack import PROJECT_FOLDER, Stack, UsageError

SECONDS = 60
"""Deadline of one command of the CLI that deploys nothing."""
NO_CLI = "Pulumi's CLI, `pulumi`, is not on PATH; install it, or `make demo` builds one."


class QuietStack(automation.Stack):
    """A stack whose runs are told by their events: the CLI isn't asked thrice more for what nobody reads."""

    def outputs(self) -> automation.OutputMap:
        return {}

    def info(self, show_secrets: bool = True) -> automation.UpdateSummary:
        # The SDK insists on one after each update.
        return automation.UpdateSummary("update", datetime.now(UTC), "", {}, {}, "")


def select(stack: str) -> QuietStack:
    """The stack; raises UsageError where there is none, or the CLI can't open it."""
    for name in [name for name in os.environ if name.startswith("PULUMI_K8S_")]:
        # The SDK copies these into the state, where they show as a diff on the next machine.
        os.environ.pop(name)
    # Every cluster has a provider process; Go's default would let each grow to twice what it needs.
    os.environ.setdefault("GOGC", "60")
    # The plugin looks into whatever this names, which may be several files or none; the program names one itself.
    ambient = {"KUBECONFIG": "", program.PYTHON_VARIABLE: sys.executable}
    try:
        workspace = _Workspace(work_dir=str(PROJECT_FOLDER), program=program.run, env_vars=ambient)
        return QuietStack(stack, workspace, StackInitMode.SELECT)
    except FileNotFoundError:
        raise UsageError(NO_CLI) from None
    except (automation.InvalidVersionError, subprocess.CalledProcessError) as error:
        raise UsageError(f"Pulumi's CLI can't be used: {error}") from None
    except automation.StackNotFoundError:
        raise UsageError(f"The backend knows no stack {stack}; make it with: pulumi stack init {stack}") from None
    except automation.CommandError as error:
        raise UsageError(f"Pulumi can't open the stack {stack}: {last_error(error)}") from None


def opened(stack: Stack) -> Settings:
    """What a stack's file says, in the environment of its commands, with each kubeconfig that is a secret decrypted.

    Raises UsageError and ConfigurationError; needs Pulumi's CLI only where there is such a kubeconfig.
    """
    os.environ.update(stack.environment)
    return stack.settings(secret_kubeconfigs(stack, stack.settings()))


def secret_kubeconfigs(stack: Stack, settings: Settings) -> dict[str, str]:
    """The content of each kubeconfig that is a secret of this stack's file, by key; raises UsageError."""
    keys = {cluster.kubeconfig.value for cluster in settings.clusters if cluster.kubeconfig.kind == "secret"}
    return {key: decrypted(stack, key) for key in sorted(keys)}


def secret_certificates(stack: Stack, settings: Settings) -> dict[str, str]:
    """Each certificate that is a secret of this stack's file, by key, as the program reads them; raises UsageError."""
    sources = settings.pki.sources.items()
    keys = {source.value for name, source in sources if source.kind == "secret" and not name.endswith(".key")}
    return {key: decrypted(stack, key) for key in sorted(keys)}


def secrets(stack: Stack) -> dict[str, str]:
    """Every secret of a stack's file, by its full key; raises UsageError."""
    found = _configuration(stack, "--show-secrets")
    return {key: str(entry["value"]) for key, entry in found.items() if entry["secret"]}


def decrypted(stack: Stack, key: str) -> str:
    """A secret of the stack's file; raises UsageError."""
    return _configuration(stack, "get", f"{PROJECT}:{key}")["value"]


def cli(*arguments: str, given: str = "") -> str:
    """What a command of Pulumi's CLI prints; raises automation.CommandError where it fails.

    Raises UsageError where it hangs, and where there is none. `given` goes to its standard input, which no list of
    processes shows.
    """
    try:
        done = subprocess.run(
            ["pulumi", *arguments, "--non-interactive", "--color", "never"],
            cwd=PROJECT_FOLDER,
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
    except FileNotFoundError:
        raise UsageError(NO_CLI) from None
    except subprocess.TimeoutExpired:
        raise UsageError(
            f"`pulumi {' '.join(arguments[:2])}` hasn't answered within {SECONDS} s; see whether the backend does."
        ) from None
    if done.returncode:
        raise create_command_error(automation.CommandResult(done.stdout, done.stderr, done.returncode))
    return done.stdout


def last_error(error: automation.CommandError) -> str:
    """What went wrong, as the CLI's last line about it says; its exit code where it said nothing."""
    labelled = (re.sub(r"^(stdout|stderr):", "", line.strip()).strip() for line in str(error).splitlines())
    lines = [line for line in labelled if line]
    told = [line for line in lines if line.startswith("error:")]
    return (told or lines)[-1].removeprefix("error:").strip()


def parallel(workers: int) -> int:
    """How many operations at once: a release that waits holds a place of its own."""
    return 16 + 4 * workers


def _configuration(stack: Stack, *arguments: str) -> dict[str, Any]:
    """What the CLI says of a stack's file, decrypted; raises UsageError."""
    options = ("--json", "--stack", stack.name, "--config-file", str(stack.file))
    named = " ".join(arguments[1:]) or "the secrets"
    try:
        return json.loads(cli("config", *arguments, *options))
    except UsageError as error:
        raise UsageError(f"To decrypt {named}: {error}") from None
    except automation.CommandError as error:
        raise UsageError(f"Pulumi can't decrypt {named}: {last_error(error)}") from None


class _Workspace(automation.LocalWorkspace):
    def select_stack(self, stack_name: str) -> None:
        # `stack select`, the original, would make this stack the current one of the user's own shell.
        self._run_pulumi_cmd_sync(["stack", "--stack", stack_name])
