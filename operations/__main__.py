"""The command line: `python -m operations VERB --stack S`.

Owns words, tables and exit codes: 0 well, 1 something failed or was refused, 2 could not look.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from components import product
from components.settings import ConfigurationError
from operations import charts as vendored
from operations import diff as differences
from operations import plugins
from operations.deployment import Deployment
from operations.diff import ClusterDiff
from operations.progress import Progress
from operations.stack import Stack, UsageError

app = typer.Typer(
    help="Run and look after a fleet of Gloo Mesh Enterprise.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
charts_app = typer.Typer(help="The vendored charts and their lock.", no_args_is_help=True)
app.add_typer(charts_app, name="charts")

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

StackOption = Annotated[str, typer.Option("--stack", "-s", help="The stack, as in Pulumi.STACK.yaml.")]
JsonOption = Annotated[bool, typer.Option("--json", help="For machines: one JSON document on stdout.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
FolderOption = Annotated[Path, typer.Option("--charts", help="The folder of vendored charts.")]


@app.command(epilog="Example: python -m operations preview --stack prod")
def preview(stack: StackOption, as_json: JsonOption = False) -> None:
    """Show what an up would change. Writes nothing."""
    deployment = _open(stack)
    _finish(deployment, deployment.preview(), as_json, "would change")


@app.command(epilog="Example: python -m operations up --stack prod --yes")
def up(stack: StackOption, yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Preview, then bring the clusters to what the configuration says."""
    deployment = _open(stack)
    planned = deployment.preview()
    if locked_out := deployment.locked_out():
        planned.errors.append(locked_out)
    planned.errors += deployment.trust_faults()
    if planned.errors:
        _finish(deployment, planned, as_json, "would change")
    if planned.changes and not _agreed(planned, yes, "Deploy these changes?"):
        raise typer.Exit(1)
    done = deployment.up()
    _finish(deployment, done, as_json, "changed")


@app.command(epilog="Example: python -m operations remove --stack lab --yes")
def remove(stack: StackOption, yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Preview, then remove everything but the CRDs. Refused while the root certificate is protected."""
    deployment = _open(stack)
    planned = deployment.preview_removal()
    if any("protect" in error for error in planned.errors):
        planned.errors.append(
            "The relay's root is protected. To give it up: set gloo-mesh:protect to false, run up, then remove."
        )
    if planned.errors:
        _finish(deployment, planned, as_json, "would change")
    if planned.changes and not _agreed(planned, yes, "Remove all of this?"):
        raise typer.Exit(1)
    _finish(deployment, deployment.remove(), as_json, "changed")


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
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    else:
        _print_diff(found)
    for cluster, looked in found.items():
        if looked.error:
            err.print(f"[red]{cluster} could not be looked at to the end:[/red] {escape(looked.error)}.")
    if any(looked.error for looked in found.values()):
        raise typer.Exit(2)
    if any(change.flagged for looked in found.values() for change in looked.changes):
        raise typer.Exit(1)


@charts_app.command("pull", epilog="Example: python -m operations charts pull 1.2.9")
def charts_pull(version: str, charts: FolderOption = Path("charts")) -> None:
    """Bring the vendor's charts at an exact version, and lock them."""
    _print_charts(vendored.pull(charts, version))


@charts_app.command("add", epilog="Example: python -m operations charts add enterprise-agent-1.2.9.tgz")
def charts_add(files: list[Path], charts: FolderOption = Path("charts")) -> None:
    """Lock charts that were brought by other means."""
    for file in files:
        try:
            content = file.read_bytes()
        except OSError as error:
            raise UsageError(f"{file} can't be read: {error.strerror}.") from None
        _print_charts(vendored.add(charts, content, str(file.name)))


@charts_app.command("list", epilog="Example: python -m operations charts list --json")
def charts_list(charts: FolderOption = Path("charts"), as_json: JsonOption = False) -> None:
    """Show what is locked."""
    _print_charts(vendored.locked(charts), as_json)


@charts_app.command("values", epilog="Example: python -m operations charts values enterprise-agent 1.2.9")
def charts_values(
    name: Annotated[str, typer.Argument(help=" or ".join(product.CHARTS))],
    version: str,
    charts: FolderOption = Path("charts"),
) -> None:
    """Print a chart's default values."""
    if name not in product.CHARTS:
        raise UsageError(f"{name} is not a chart of this product; say {' or '.join(product.CHARTS)}.")
    sys.stdout.write(vendored.values(charts, name, version))


@charts_app.command("verify", epilog="Example: python -m operations charts verify")
def charts_verify(charts: FolderOption = Path("charts")) -> None:
    """Prove that every locked archive is there and unaltered. Exit 1 when one isn't."""
    faults = vendored.verify(charts)
    for fault in faults:
        err.print(fault)
    if faults:
        raise typer.Exit(1)
    out.print(f"{len(vendored.locked(charts))} charts are as they were locked.")


def _open(name: str) -> Deployment:
    stack = Stack.find(name)
    deployment = Deployment(stack, err)
    err.print(plugins.announcement())
    for cluster, reason in deployment.unreachable.items():
        err.print(f"[yellow]{cluster} doesn't answer, so nothing is refreshed: {escape(reason)}[/yellow]")
    return deployment


def _agreed(planned: Progress, yes: bool, question: str) -> bool:
    err.print(planned.changes_table())
    return yes or typer.confirm(question, err=True)


def _finish(deployment: Deployment, progress: Progress, as_json: bool, verb: str) -> None:
    """Say how it went, and leave with the exit code that says the same."""
    failed = bool(progress.errors)
    if as_json:
        report = progress.report() | {"unreachable": deployment.unreachable}
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    else:
        if verb == "would change" and progress.changes:
            out.print(progress.changes_table())
        out.print(progress.table())
        for warning in progress.warnings:
            out.print(f"[yellow]warning:[/yellow] {escape(warning)}")
        counted = ", ".join(
            f"{count} to {operation}" if verb == "would change" else f"{operation}: {count}"
            for operation, count in progress.changes.items()
        )
        out.print(f"{counted or 'Nothing changes' if verb == 'would change' else counted or 'Nothing changed'}.")
    for error in progress.errors:
        err.print(f"[red]error:[/red] {escape(error)}")
    if failed:
        broken = [name for name, cluster in progress.clusters.items() if cluster.failed]
        err.print(
            f"Not done{' on ' + ', '.join(broken) if broken else ''}; what went well elsewhere stays. "
            "Mend the cause and run the same command again."
        )
    raise typer.Exit(1 if failed else 0)


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
        table = Table("what", "object", Column("where", overflow="fold"), box=None, pad_edge=False, show_header=False)
        for change in (change for change in changes if not change.cosmetic):
            told = [*(f"! {flag}" for flag in change.flagged), *change.details]
            more = [f"and {len(told) - 8} more, see --json"] if len(told) > 8 else []
            style = "yellow" if change.flagged else ""
            table.add_row(change.what, change.object, "\n".join(map(escape, [*told[:8], *more])), style=style)
        if cosmetic := sum(change.cosmetic for change in changes):
            table.add_row("changed", f"{cosmetic} CRDs", "annotations alone")
        out.print(table)
    for cluster, looked in found.items():
        flagged = sum(bool(change.flagged) for change in looked.changes)
        out.print(f"{cluster}: {len(looked.changes)} to change, {flagged} flagged, {looked.unchanged} as they are")


def _print_charts(charts: list[Any], as_json: bool = False) -> None:
    if as_json:
        sys.stdout.write(json.dumps([vars(chart) for chart in charts], indent=2) + "\n")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("chart", "version", "sha256", "origin"):
        table.add_column(heading)
    for chart in charts:
        table.add_row(chart.name, chart.version, chart.sha256[:12], chart.origin)
    out.print(table)


def main() -> None:
    """Run the command line; what is the user's to mend is told as sentences, without a traceback."""
    try:
        app()
    except (UsageError, ConfigurationError) as error:
        err.print(str(error), markup=False)
        sys.exit(2)


if __name__ == "__main__":
    main()
