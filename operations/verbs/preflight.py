"""The verb `preflight`: what an up would fail over, on every cluster at once.

Owns its words and exit codes: 0 nothing, 1 something was found, 2 it could not look everywhere.
"""

import typer

from operations import decryption, findings, state
from operations.console import JsonOption, StackOption
from operations.preflight import preflight as look
from operations.stack import Stack

app = typer.Typer()


@app.command(epilog="Example: python -m operations preflight --stack prod")
def preflight(stack: StackOption, as_json: JsonOption = False) -> None:
    """Show what an up would fail over, or harm. Exit 1 when something is found. Writes nothing."""
    configured = Stack.find(stack)
    settings = decryption.opened(configured)
    looked = look(configured, settings, state.exported(stack))
    well = f"Nothing is in the way of an up on {len(settings.clusters)} clusters."
    told = looked.told(stack)
    raise typer.Exit(findings.tell(told, as_json, well, stopping=sum(finding.kind.stops for finding in told)))
