"""The words that every command has in common: where they go, and which options mean the same everywhere.

Owns the two consoles: results for a reader or a program on stdout, everything said on the way there on stderr.
"""

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

StackOption = Annotated[str, typer.Option("--stack", "-s", help="The stack, as in Pulumi.STACK.yaml.")]
JsonOption = Annotated[bool, typer.Option("--json", help="For machines: one JSON document on stdout.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]


def print_json(document: Any) -> None:
    """One JSON document on stdout, as `--json` promises."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
