"""The verb `preflight`: what an up would fail over, on every cluster at once.

Owns its words and exit codes: 0 nothing, 1 something was found, 2 it could not look everywhere.
"""

import typer
from rich.markup import escape

from operations import decryption, findings, state
from operations.console import JsonOption, StackOption, out, table
from operations.preflight import preflight as look
from operations.stack import Stack

app = typer.Typer()


@app.command(epilog="Example: python -m operations preflight --stack prod")
def preflight(stack: StackOption, as_json: JsonOption = False) -> None:
    """Show what an up would fail over, or harm. Exit 1: something is found; 2: nobody could look. Writes nothing."""
    configured = Stack.find(stack)
    settings = decryption.opened(configured)
    looked = look(configured, settings, state.exported(stack))
    well = f"Nothing is in the way of an up on {len(settings.clusters)} clusters."
    told = looked.told(stack)
    clusters = {cluster.name: {"kubernetes": looked.kubernetes.get(cluster.name)} for cluster in settings.clusters}
    if not as_json:
        shown = table("cluster", "context", "Kubernetes", "findings")
        for cluster in settings.clusters:
            found = sum(finding.where == cluster.name for finding in looked.findings)
            version = looked.kubernetes.get(cluster.name, "not looked at")
            shown.add_row(cluster.name, escape(cluster.context), escape(version), str(found))
        out.print(shown)
    stopping = sum(finding.kind.stops for finding in told)
    raise typer.Exit(findings.tell(told, as_json, well, stopping=stopping, clusters=clusters))
