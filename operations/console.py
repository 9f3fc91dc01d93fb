"""The words that every command has in common: where they go, and which options mean the same everywhere.

Owns the two consoles: results for a reader or a program on stdout, everything said on the way there on stderr; and that
no value of a table is cut, for half a value is a wrong one.
"""

import json
import sys
from typing import Annotated, Any, TextIO

import typer
from rich.console import Console
from rich.table import Column, Table

WIDE = 4096
"""The width of what isn't read on a terminal."""


class _Unheard(Console):
    """What is said on the way may go unheard: a pager that is quit, a terminal that is gone end no deployment."""

    def on_broken_pipe(self) -> None:
        self.quiet = True

    def print(self, *objects: Any, **options: Any) -> None:
        try:
            super().print(*objects, **options)
        except OSError:
            self.quiet = True


def _width(stream: TextIO | None) -> int | None:
    # Started with it closed, there is none.
    return None if stream and stream.isatty() else WIDE


out = Console(highlight=False, soft_wrap=True, width=_width(sys.stdout))
err = _Unheard(stderr=True, highlight=False, soft_wrap=True, width=_width(sys.stderr))

StackOption = Annotated[str, typer.Option("--stack", "-s", help="The stack, as in Pulumi.STACK.yaml.")]
JsonOption = Annotated[bool, typer.Option("--json", help="For machines: one JSON document on stdout.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]


def table(*columns: str | Column, show_header: bool = True) -> Table:
    """A table that folds on a narrow terminal what doesn't fit."""
    made = Table(*columns, box=None, pad_edge=False, show_header=show_header)
    for column in made.columns:
        column.overflow = "fold"
    return made


def print_json(document: Any) -> None:
    """One JSON document on stdout, as `--json` promises."""
    print(json.dumps(document, indent=2), flush=True)
