"""The verb `gather`: a support bundle.

Owns its words and exit codes: 0 written whole, 2 written without what could not be had, or not written.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from operations import gather as gathering
from operations.console import JsonOption, StackOption, err, out, print_json
from operations.stack import Stack

app = typer.Typer()

OutputOption = Annotated[
    Path | None, typer.Option("--output", help="The file, a .tar.gz; named after stack and time when not given.")
]


@app.command(epilog="Example: python -m operations gather --stack prod --output bundle.tar.gz")
def gather(stack: StackOption, output: OutputOption = None, as_json: JsonOption = False) -> None:
    """Pack what support needs to see into one file; values of secrets never. Exit 2 when something could not be had."""
    bundle = gathering.gather(Stack.find(stack), output)
    for what, why in bundle.missing:
        err.print(f"[yellow]could not be had:[/yellow] {escape(what)}: {escape(why)}")
    if as_json:
        missing = [{"what": what, "why": why} for what, why in bundle.missing]
        print_json({"path": str(bundle.path), "files": bundle.files, "bytes": bundle.size, "missing": missing})
    else:
        size = f"{bundle.size // 1024} KiB"
        out.print(f"{escape(str(bundle.path))}: {bundle.files} files, {size}, readable by you alone.")
        out.print(
            "What is in it, and what could not be had, says its manifest.json. Look through it before you send it."
        )
    raise typer.Exit(2 if bundle.missing else 0)
