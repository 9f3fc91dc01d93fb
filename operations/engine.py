"""Pulumi's engine for one stack, with the program inline, so that no language plugin is needed.

Owns the environment the engine and its plugins start in.
"""

import os

from pulumi import automation

from components.settings import PROJECT
from operations import program


def select(stack: str) -> automation.Stack:
    """The stack, if the backend knows it; raises what the Automation API raises."""
    for name in ("KUBECONFIG", *(name for name in os.environ if name.startswith("PULUMI_K8S_"))):
        # The SDK copies these into the state, where they show as a diff on the next machine.
        os.environ.pop(name, None)
    # Every cluster has a provider process; Go's default would let each grow to twice what it needs.
    os.environ.setdefault("GOGC", "60")
    return automation.select_stack(
        stack,
        project_name=PROJECT,
        program=program.run,
        opts=automation.LocalWorkspaceOptions(work_dir=str(program.PROJECT_FOLDER)),
    )
