"""The lab's command line: `python -m lab up | demo | down | status`."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from lab import LabError, plugins, proof, stack
from lab.fleet import Lab

app = typer.Typer(
    help="Real Kubernetes control planes on this machine, to try the program on.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Everything lies in .lab, or in the folder that GLOO_MESH_LAB names. "
    "Exit code 1: it failed, or a cluster isn't ready; 130: interrupted.",
)
console = Console(stderr=True, highlight=False, soft_wrap=True)


@app.command(epilog="Examples: python -m lab up; python -m lab up --workers 5")
def up(
    workers: Annotated[int, typer.Option(min=1, max=64, help="How many worker clusters; the rest is removed.")] = 2,
) -> None:
    """Bring up mgmt-cluster and cluster-1 to cluster-N; what already runs is kept."""
    start = time.monotonic()
    with _sentences("`python -m lab up` goes on from here, `python -m lab down` removes everything."):
        lab = Lab(console=console)
        lab.up(workers)
        console.print(f"{workers + 1} clusters are up after {time.monotonic() - start:.1f} s: {lab.kubeconfig}")
        console.print(plugins.describe())


@app.command(epilog="Example: python -m lab demo")
def demo(
    workers: Annotated[int, typer.Option(min=1, max=64, help="How many worker clusters.")] = 2,
) -> None:
    """Bring the lab up, preview and deploy the lab stack on it, and prove from its API servers that it stands."""
    up(workers)
    with _sentences("`make demo` goes on from here."):
        lab = Lab(console=console)
        stack.prepare(lab)
        # Ctrl-C is the deployment's: it finishes what it began, which a parent that gives up would cut off.
        # A handler, because the child would inherit that a signal is ignored.
        before = signal.signal(signal.SIGINT, lambda *_: None)
        try:
            command = [sys.executable, "-m", "operations", "up", "--stack", "lab", "--yes"]
            done = subprocess.run(command, cwd=plugins.REPOSITORY, check=False)
        finally:
            signal.signal(signal.SIGINT, before)
        if done.returncode:
            raise typer.Exit(done.returncode)
        shown = Table("cluster", "what", "found", box=None, pad_edge=False)
        facts = proof.facts(lab)
        for fact in facts:
            shown.add_row(fact.cluster, fact.what, fact.found, style="" if fact.holds else "red")
        Console().print("\nRead from the API servers:", shown)
    kubectl = f"KUBECONFIG={lab.kubeconfig} {lab.tool('kubectl')}"
    console.print(f"\nLook around: {kubectl} --context cluster-1 get pods -A")
    console.print("Preview again: .venv/bin/python -m operations preview --stack lab")
    console.print("Take it away: .venv/bin/python -m lab down")
    if not all(fact.holds for fact in facts):
        raise typer.Exit(1)


@app.command(epilog="Example: python -m lab down")
def down() -> None:
    """End every process of the lab and delete its folder."""
    with _sentences("Repeat `python -m lab down`."):
        lab = Lab(console=console)
        lab.down()
        console.print(f"Nothing is left of the lab in {lab.root}.")


@app.command(epilog="Examples: python -m lab status; python -m lab status --json")
def status(as_json: Annotated[bool, typer.Option("--json", help="Print it for programs.")] = False) -> None:
    """Show each cluster's processes, readiness, version and memory."""
    with _sentences(""):
        report = Lab(console=console).status()
    if as_json:
        print(json.dumps(report, indent=2))
    elif report:
        table = Table("cluster", "ready", "version", "memory", "process ids")
        for row in report:
            ids = ", ".join(f"{component} {pid}" for component, pid in row["components"].items())
            ready = "yes" if row["ready"] else "no"
            table.add_row(row["cluster"], ready, row["version"] or "-", f"{row['memory_mb']} MB", ids or "none")
        Console().print(table)
    else:
        console.print("There is no lab. Run `python -m lab up`.")
    if not report or not all(row["ready"] for row in report):
        raise typer.Exit(1)


@contextmanager
def _sentences(advice: str) -> Iterator[None]:
    """Failures and interruptions as sentences and exit codes, never as tracebacks."""
    try:
        yield
    except LabError as problem:
        console.print(str(problem), markup=False)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        console.print(f"Interrupted. {advice}", markup=False)
        raise typer.Exit(130) from None


if __name__ == "__main__":
    # Being ended politely cleans up as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(app())
