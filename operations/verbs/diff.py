"""The verb `diff`: what another version would change.

Owns its table and exit codes: 0 nothing to look at, 1 something is flagged, 2 a cluster could not be looked at.
"""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape

from operations import diff as differences
from operations.console import JsonOption, StackOption, err, out, print_json, table
from operations.diff import ClusterDiff
from operations.stack import Stack

app = typer.Typer()


@app.command(epilog="Example: python -m operations diff --to 1.2.9 --stack prod")
def diff(
    to: Annotated[str, typer.Option("--to", help="The version to compare with what is deployed.")],
    stack: StackOption,
    as_json: JsonOption = False,
) -> None:
    """Show what another version would change, object by object. Exit 1 when something is flagged. Writes nothing."""
    found = differences.diff(Stack.find(stack), to)
    if as_json:
        report = {"to": to, "clusters": {cluster: looked.report() for cluster, looked in found.items()}}
        print_json(report)
    else:
        _print_diff(found)
    for cluster, looked in found.items():
        if looked.error:
            err.print(f"[red]{cluster} could not be looked at to the end:[/red] {escape(looked.error)}.")
    if any(looked.error for looked in found.values()):
        raise typer.Exit(2)
    if any(change.flagged for looked in found.values() for change in looked.changes):
        raise typer.Exit(1)


def _print_diff(found: dict[str, ClusterDiff]) -> None:
    """Clusters that would change alike are told together: a fleet's workers mostly do."""
    alike: dict[tuple[str, str], list[str]] = {}
    for cluster, looked in found.items():
        for release, changes in looked.by_release().items():
            alike.setdefault((release, json.dumps([asdict(change) for change in changes])), []).append(cluster)
    for (release, _), clusters in alike.items():
        before, after = found[clusters[0]].releases[release]
        changes = found[clusters[0]].by_release()[release]
        out.print(f"[bold]{release} {before or 'not deployed'} -> {after}[/bold] on {', '.join(clusters)}")
        shown = table("what", "object", "where", show_header=False)
        for change in (change for change in changes if not change.cosmetic):
            told = [*(f"! {flag}" for flag in change.flagged), *change.details]
            more = [f"and {len(told) - 8} more, see --json"] if len(told) > 8 else []
            style = "yellow" if change.flagged else ""
            shown.add_row(change.what, change.object, "\n".join(map(escape, [*told[:8], *more])), style=style)
        if cosmetic := sum(change.cosmetic for change in changes):
            shown.add_row("changed", f"{cosmetic} CRDs", "annotations alone")
        out.print(shown)
    for cluster, looked in found.items():
        flagged = sum(bool(change.flagged) for change in looked.changes)
        out.print(f"{cluster}: {len(looked.changes)} to change, {flagged} flagged, {looked.unchanged} as they are")
