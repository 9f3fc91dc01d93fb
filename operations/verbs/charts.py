"""The verbs around the vendored charts and their lock: `charts pull | add | list | values | verify`.

Owns their words and exit codes.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from components import product
from components.charts import Chart
from operations import charts as vendored
from operations.console import JsonOption, err, out, print_json, table
from operations.stack import UsageError

app = typer.Typer(name="charts", help="The vendored charts and their lock.", no_args_is_help=True)

FolderOption = Annotated[Path, typer.Option("--charts", help="The folder of vendored charts.")]


@app.command("pull", epilog="Example: python -m operations charts pull 1.2.9")
def pull(version: str, charts: FolderOption = Path("charts")) -> None:
    """Bring the vendor's charts at an exact version, and lock them."""
    _print_charts(vendored.pull(charts, version))


@app.command("add", epilog="Example: python -m operations charts add enterprise-agent-1.2.9.tgz")
def add(files: list[Path], charts: FolderOption = Path("charts")) -> None:
    """Lock charts that were brought by other means."""
    for file in files:
        try:
            content = file.read_bytes()
        except OSError as error:
            raise UsageError(f"{file} can't be read: {error.strerror}.") from None
        _print_charts(vendored.add(charts, content, str(file.name)))


@app.command("list", epilog="Example: python -m operations charts list --json")
def list_charts(charts: FolderOption = Path("charts"), as_json: JsonOption = False) -> None:
    """Show what is locked."""
    _print_charts(vendored.locked(charts), as_json)


@app.command("values", epilog="Example: python -m operations charts values enterprise-agent 1.2.9")
def values(
    name: Annotated[str, typer.Argument(help=" or ".join(product.CHARTS))],
    version: str,
    charts: FolderOption = Path("charts"),
) -> None:
    """Print a chart's default values."""
    if name not in product.CHARTS:
        raise UsageError(f"{name} is not a chart of this product; say {' or '.join(product.CHARTS)}.")
    sys.stdout.write(vendored.values(charts, name, version))


@app.command("verify", epilog="Example: python -m operations charts verify")
def verify(charts: FolderOption = Path("charts")) -> None:
    """Prove that every locked archive is there and unaltered. Exit 1 when one isn't."""
    faults = vendored.verify(charts)
    for fault in faults:
        err.print(fault)
    if faults:
        raise typer.Exit(1)
    out.print(f"{len(vendored.locked(charts))} charts are as they were locked.")


def _print_charts(charts: list[Chart], as_json: bool = False) -> None:
    if as_json:
        print_json([vars(chart) for chart in charts])
        return
    shown = table("chart", "version", "sha256", "origin")
    for chart in charts:
        shown.add_row(chart.name, chart.version, chart.sha256[:12], escape(chart.origin))
    out.print(shown)
