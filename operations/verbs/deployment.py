"""The verbs that deploy: `preview`, `up`, `remove`.

Owns their questions, tables and exit codes: 0 well, 1 something failed, was declined or, in an up, didn't answer.
"""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from operations import approval, plugins, state
from operations.console import JsonOption, StackOption, YesOption, err, out, print_json
from operations.deployment import Deployment
from operations.findings import Finding, show
from operations.progress import Progress
from operations.stack import Stack

app = typer.Typer()

RenewOption = Annotated[
    list[str] | None,
    typer.Option(
        "--renew",
        metavar="NAME",
        help="Make a key and its certificate, or a token, anew: relay-server, relay-client-WORKER, relay-root (with "
        "all that is under it), relay-identity-token or relay-forwarding-token. May be repeated.",
    ),
]


@app.command(epilog="Example: python -m operations preview --stack prod")
def preview(stack: StackOption, as_json: JsonOption = False, renew: RenewOption = None) -> None:
    """Show what an up would change. Writes nothing."""
    deployment = _open(stack)
    deployment.renew(renew or [])
    _tell_silence(deployment)
    for urn in deployment.half_done:
        err.print(f"[yellow]{state.name(urn)} was left half done, so nothing is refreshed; an up upgrades it.[/yellow]")
    _finish(deployment, deployment.preview(), as_json, silent=deployment.unreachable)


@app.command(
    epilog="Examples: python -m operations up --stack prod; up --stack prod --approved approved.json, after "
    "python -m operations preview --stack prod --json > approved.json; up --stack prod --renew relay-identity-token"
)
def up(
    stack: StackOption,
    yes: YesOption = False,
    as_json: JsonOption = False,
    approved: Annotated[
        Path | None,
        typer.Option(help="The --json of a preview: deploy what it names, unasked, and nothing where that isn't all."),
    ] = None,
    renew: RenewOption = None,
) -> None:
    """Look for what would be in the way, preview, then bring the clusters to what the configuration says."""
    agreed = approval.read(approved, stack) if approved else None
    deployment = _open(stack)
    deployment.renew(renew or [])
    looked = deployment.preflight()
    found = looked.told(stack)
    show(found, err)
    if looked.stopping:
        if as_json:
            print_json(_report(deployment, found))
        err.print("Nothing was written. Mend what stops an up, and run the same command again.")
        raise typer.Exit(1)
    _tell_silence(deployment)
    for name in deployment.redo():
        err.print(f"{name} was left half done; it is to be upgraded again.")
    planned = deployment.preview()
    if (
        agreed is not None
        and not planned.errors
        and (others := list(approval.differences(agreed, planned.changed, deployment.unreachable)))
    ):
        planned.errors += others
        ending = "Nothing was written to a cluster. Preview again with --json, and have that approved."
        _finish(deployment, planned, as_json, looked.findings, ending=ending)
    if planned.errors:
        _finish(deployment, planned, as_json, looked.findings)
    if planned.changes and not _agreed(planned, yes or approved is not None, "Deploy these changes?"):
        raise typer.Exit(1)
    done = deployment.up(planned)
    if agreed is not None:
        done.errors += approval.exceeding(agreed, done.changed)
    _finish(deployment, done, as_json, looked.findings, deployment.unreachable)


@app.command(epilog="Example: python -m operations remove --stack lab --yes")
def remove(stack: StackOption, yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Preview, then remove everything but the CRDs. Refused while the root certificate is protected."""
    deployment = _open(stack)
    if strangers := deployment.strangers():
        show(strangers, err)
        if as_json:
            print_json(_report(deployment, strangers))
        err.print("Nothing was removed.")
        raise typer.Exit(1)
    _tell_silence(deployment)
    planned = deployment.preview_removal()
    if any("protect" in error for error in planned.errors):
        planned.errors.append(
            "The relay's root is protected. To give it up: set gloo-mesh:protect to false, run up, then remove."
        )
    if planned.errors:
        _finish(deployment, planned, as_json)
    if planned.changes and not _agreed(planned, yes, "Remove all of this?"):
        raise typer.Exit(1)
    _finish(deployment, deployment.remove(), as_json)


def _open(name: str) -> Deployment:
    stack = Stack.find(name)
    deployment = Deployment(stack, err)
    err.print(plugins.announcement())
    return deployment


def _tell_silence(deployment: Deployment) -> None:
    for cluster, reason in deployment.unreachable.items():
        err.print(f"[yellow]{cluster} doesn't answer: {escape(reason)}[/yellow]")


def _report(deployment: Deployment, findings: Iterable[Finding]) -> dict[str, Any]:
    return {
        "stack": deployment.name,
        "unreachable": deployment.unreachable,
        "findings": [finding.report() for finding in findings],
    }


def _agreed(planned: Progress, yes: bool, question: str) -> bool:
    err.print(planned.changes_table())
    _warn(planned, err)
    return yes or typer.confirm(question, err=True)


def _warn(progress: Progress, console: Console) -> None:
    for warning in progress.warnings:
        console.print(f"[yellow]warning:[/yellow] {escape(warning)}")


def _finish(
    deployment: Deployment,
    progress: Progress,
    as_json: bool,
    findings: Iterable[Finding] = (),
    silent: Collection[str] = (),
    ending: str = "",
) -> None:
    """Say how it went, and leave with the exit code that says the same; of `silent` clusters nobody knows."""
    failed = bool(progress.errors)
    # Some keys alone made anew: without --renew the others would be certified anew, and whoever has them let in.
    renewed = not progress.dry and deployment.renewed(progress)
    again = "it again, without --renew (that is done)," if renewed else "the same command again"
    if as_json:
        print_json(progress.report() | _report(deployment, findings))
    else:
        if progress.dry and progress.changes:
            out.print(progress.changes_table())
        out.print(progress.table())
        _warn(progress, out)
        counted = ", ".join(
            f"{count} to {operation}" if progress.dry else f"{operation}: {count}"
            for operation, count in progress.changes.items()
        )
        # Of what failed before it came to anything, this would say the wrong thing.
        if counted or not failed:
            if address := progress.outputs.get("relayAddress"):
                node = progress.outputs.get("relayNode")
                out.print(f"Relay: {address}{f', of node {node}' if node else ''}", markup=False)
            out.print(f"{counted or ('Nothing changes' if progress.dry else 'Nothing changed')}.")
    for error in progress.errors:
        err.print(f"[red]error:[/red] {escape(error)}")
    if failed:
        broken = [name for name, cluster in progress.clusters.items() if cluster.failed]
        err.print(
            ending
            or f"Not done{' on ' + ', '.join(broken) if broken else ''}; what went well elsewhere stays. "
            f"Mend the cause and run {again}."
        )
    elif silent:
        alone = "What would change there isn't shown" if progress.dry else "What is there was left alone"
        left = alone if progress.refreshed else "Nothing was refreshed"
        err.print(f"{', '.join(silent)}: no answer. {left}. Run {again} when every cluster answers.")
    raise typer.Exit(1 if failed or (silent and not progress.dry) else 0)
