"""`python -m benchmarks`: the program against the shell flow, as ratios of medians in one run.

Owns the comparison: fresh clusters for each tool and round, the tools by turns, the same charts, waits and API
servers; and what the operations commands take on the fleet that the program made. Writes `.lab/bench.json`, a list of
records (see `measure.Record`).
"""

import json
import shutil
import signal
import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from kubernetes import config
from rich.console import Console
from rich.table import Table

from benchmarks.measure import CommandFailedError, Record, timed
from lab import LabError, plugins, stack
from lab.cluster import components
from lab.fleet import Lab

SEED_FLOW = Path(__file__).parent / "seed-flow.sh"
VERSION = "1.2.9"
console = Console(stderr=True, highlight=False, soft_wrap=True)
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(epilog="Example: python -m benchmarks --workers 2 --workers 8 --rounds 3")
def bench(
    workers: Annotated[list[int] | None, typer.Option(help="How many workers; repeatable.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds to take the median of.")] = 3,
    output: Annotated[Path, typer.Option(help="Where the records go.")] = plugins.REPOSITORY / ".lab/bench.json",
) -> None:
    """Deploy the seeds' flow by shell, by shell with workers side by side, and by the program; then operate that."""
    console.print(plugins.describe())
    records: list[Record] = []
    try:
        for count in workers or [2, 8]:
            for turn in range(rounds):
                for tool in ("seeds", "seeds-parallel", "program"):
                    made = _round(tool, count)
                    records += made
                    figures = "; ".join(f"{r.phase} {r.seconds:.1f} s, {r.peak_mb} MB, {r.writes} writes" for r in made)
                    console.print(f"{count} workers, round {turn + 1}, {tool}: {figures}")
    except (CommandFailedError, LabError) as error:
        console.print(str(error), markup=False)
        raise typer.Exit(1) from None
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps([asdict(record) for record in records], indent=2) + "\n")
    Console().print(_table(records))


def _round(tool: str, workers: int) -> list[Record]:
    """One tool on fresh clusters; the program a second time, where nothing changes, and then its other commands."""
    # Short, because sockets below it have a limit to their names.
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        lab = Lab(Path(folder) / "lab", Console(quiet=True))
        try:
            lab.up(workers)
            if tool != "program":
                return [_run(lab, tool, "first", [str(SEED_FLOW), str(workers)])]
            file = stack.prepare(lab, "bench")
            command = [sys.executable, "-m", "benchmarks.up", "bench", str(file), str(workers)]
            deployed = [_run(lab, tool, phase, command) for phase in ("first", "unchanged")]
            return deployed + _operated(lab)
        finally:
            lab.down()


def _operated(lab: Lab) -> list[Record]:
    """The commands on a fleet where nothing changes; the last two with every third cluster hanging, and dead."""

    def run(phase: str, module: str, *arguments: str, code: int = 0) -> Record:
        command = [sys.executable, "-m", module, *arguments, "--stack", "bench"]
        return _run(lab, "operations", phase, command, code)

    # Agents connect in their own time.
    run("settling", "operations", "check", "--wait", "2m")
    records = [
        run("up without preflight", "benchmarks.unguarded", "up", "--yes"),
        run("up", "operations", "up", "--yes"),
        run("check", "operations", "check"),
    ]
    third = lab.clusters()[1::3]
    servers = [
        process
        for worker in third
        for _, name, process in components(lab.root / "kwok/clusters" / worker)
        if name == "kube-apiserver"
    ]
    for server in servers:
        server.send_signal(signal.SIGSTOP)
    records.append(run("preflight, a third hanging", "operations", "preflight", code=2))
    for server in servers:
        server.send_signal(signal.SIGCONT)
    for worker in third:
        lab.stop(worker)
    return [*records, run("preflight, a third dead", "operations", "preflight", code=2)]


def _run(lab: Lab, tool: str, phase: str, command: list[str], code: int = 0) -> Record:
    environment = lab.environment() | {
        "GLOO_MESH_LAB": str(lab.root),
        "KUBECONFIG": str(lab.kubeconfig),
        "CHARTS": str(lab.packages),
        "VERSION": VERSION,
        "LICENSE": "benchmark",
        "PARALLEL": "1" if tool == "seeds-parallel" else "",
        "TMPDIR": str(lab.root / "tmp"),
    }
    if tool in ("program", "operations"):
        # The SDK would copy it into the state.
        del environment["KUBECONFIG"]
    if not code:
        _warm(lab)
    before = _writes(lab)
    seconds, peak = timed(command, environment, plugins.REPOSITORY, code)
    return Record(
        tool=tool,
        workers=len(lab.clusters()) - 1,
        phase=phase,
        seconds=round(seconds, 2),
        peak_mb=peak,
        writes=_writes(lab) - before,
    )


def _warm(lab: Lab) -> None:
    """Let every API server finish what its new CRDs left it to do; a cluster in use has done that long ago."""
    # The encoding that Helm and Pulumi ask for is computed apart from JSON.
    accept = {"Accept": "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"}
    for cluster in lab.clusters():
        api = config.new_client_from_config(str(lab.kubeconfig), cluster)
        api.call_api("GET", f"{api.configuration.host}/openapi/v2", header_params=accept).read()


def _writes(lab: Lab) -> int:
    return sum(len(lab.audit(cluster)) for cluster in lab.clusters())


def _table(records: list[Record]) -> Table:
    table = Table("workers", "tool", "phase", "median s", "of seeds", "peak MB", "writes", box=None, pad_edge=False)
    keys = dict.fromkeys((record.workers, record.tool, record.phase) for record in records)
    median = {key: statistics.median(r.seconds for r in records if (r.workers, r.tool, r.phase) == key) for key in keys}
    for key in keys:
        workers, tool, phase = key
        same = [record for record in records if (record.workers, record.tool, record.phase) == key]
        ratio = median[key] / median[workers, "seeds", "first"]
        peak = max(record.peak_mb for record in same)
        table.add_row(str(workers), tool, phase, f"{median[key]:.1f}", f"{ratio:.2f}", str(peak), str(same[-1].writes))
    return table


if __name__ == "__main__":
    if missing := [name for name in ("openssl", "bash") if not shutil.which(name)]:
        sys.exit(f"The shell flow needs {' and '.join(missing)} on PATH.")
    # Being ended politely takes the lab away as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app()
