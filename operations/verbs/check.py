"""The verb `check`: whether the fleet is well.

Owns its table and exit codes: 0 well, 1 findings, 2 could not look everywhere.
"""

import time
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError
from rich.markup import escape
from rich.table import Table

from components.settings.fields import Seconds
from operations import decryption
from operations.check import Checked, check
from operations.console import JsonOption, StackOption, err, out, table
from operations.findings import tell
from operations.stack import Stack, UsageError

app = typer.Typer()

PAUSE_SECONDS = 1


@app.command("check", epilog="Examples: python -m operations check --stack prod; check --stack prod --wait 2m")
def check_fleet(
    stack: StackOption,
    as_json: JsonOption = False,
    wait: Annotated[str | None, typer.Option(help="Look again until all is well, for so long: 90s or 2m.")] = None,
) -> None:
    """Look at every cluster, and tell what isn't as it was deployed, or doesn't work. Writes nothing."""
    until = time.monotonic() + (_seconds(wait) if wait else 0)
    settings = decryption.opened(Stack.find(stack))
    checked = check(stack, settings)
    awaited: list[str] = []
    while checked.findings and time.monotonic() < until:
        codes = sorted({f"{finding.kind.code} on {finding.where}" for finding in checked.findings})
        if codes != awaited:
            err.print(f"Waiting for: {', '.join(codes)}.", markup=False)
            awaited = codes
        time.sleep(min(PAUSE_SECONDS, max(0, until - time.monotonic())))
        checked = check(stack, settings)
    if not as_json:
        out.print(_table(checked))
    clusters = {name: cluster.report() for name, cluster in checked.clusters.items()}
    raise typer.Exit(tell(checked.findings, as_json, "All is well.", clusters=clusters))


def _seconds(duration: str) -> int:
    try:
        return TypeAdapter(Seconds).validate_python(duration)
    except ValidationError:
        raise UsageError(f"--wait {duration} is no duration; write one such as 90s or 2m.") from None


def _table(checked: Checked) -> Table:
    shown = table("cluster", "version", "image", "ready", "pull", "push")
    for name, cluster in checked.clusters.items():
        connected = ("-" if count is None else f"{count:g}" for count in (cluster.pull, cluster.push))
        image = f"{cluster.image or '-'}{' (behind)' if cluster.behind else ''}"
        shown.add_row(name, cluster.version or "-", escape(image), cluster.ready, *connected)
    return shown
