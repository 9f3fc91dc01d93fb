"""`make sweep`: kill -9 around every write of an `up`; then `recover --yes` and one more `up` must end it well.

Owns the kills, the way back to the start between two of them, and the comparison with an `up` that nobody disturbed:
the same objects, Helm releases and state, no other PKI once it was written, and nothing left to change. The clusters
are put back to the objects that they held, so every point starts from the same fleet.

A killed engine leaves its providers running. At every other point they first come to rest, having finished what they
were at; at the others `recover` finds them in the middle of it.
"""

import contextlib
import json
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import psutil
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lab import LabError, packages, plugins
from lab.cluster import components, end, end_family, runs
from lab.fleet import MANAGEMENT, Lab
from lab.proxy import Moment, Proxy, Write
from tests.engine.fleet import Fleet, Report, changed
from tests.snapshot import Snapshot

Run = Literal["first", "upgrade"]
VERSIONS: dict[Run, str] = {"first": "1.2.0", "upgrade": "1.2.1"}
VICTIMS = ("cli", "program", "provider", "api-server")
"""Pulumi's CLI; the Python process that started it; the provider that writes; the API server it writes to."""
MOMENTS: tuple[Moment, ...] = ("before", "after")
RELAY_SECRETS = (
    "relay-root-tls-secret",
    "relay-server-tls-secret",
    "relay-tls-signing-secret",
    "relay-identity-token-secret",
    "relay-forwarding-identity-token-secret",
)
# What comes and goes by itself, or bears the time in its name.
RESTLESS = {"events", "ipaddresses", "leases"}
DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
METADATA = "application/json;g=meta.k8s.io;v=v1;as=PartialObjectMetadataList"
AT_REST_SECONDS = 3
"""Helm looks every two seconds whether what it waits for is ready."""
DEADLINE_SECONDS = 420

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Point:
    """Whom to kill, and when."""

    run: Run
    number: int
    """Of the write, from 1."""
    moment: Moment
    victim: str


@dataclass
class Outcome:
    """What came of a point."""

    point: Point
    write: str = "(never reached)"
    faults: list[str] = field(default_factory=list)
    seconds: float = 0


@dataclass(frozen=True)
class Ending:
    """What there is when all is done."""

    objects: Counter[str]
    """Every object on every cluster that is not another's, by cluster, kind, namespace and name."""
    releases: Counter[str]
    """Helm's records in force or unfinished."""
    resources: Counter[str]
    """The state's entries."""

    def faults(self, wanted: "Ending") -> Iterator[str]:
        """A sentence for everything that is here or there alone."""
        for what, here, there in (
            ("object", self.objects, wanted.objects),
            ("Helm record", self.releases, wanted.releases),
            ("entry of the state", self.resources, wanted.resources),
        ):
            yield from (f"{what} too many: {name}" for name in sorted((here - there).elements()))
            yield from (f"{what} missing: {name}" for name in sorted((there - here).elements()))


class Sweep:
    """A fleet on a lab of one worker, behind a proxy, that can be put back to where each run starts."""

    def __init__(self, lab: Lab, proxy: Proxy) -> None:
        self.lab = lab
        self.proxy = proxy
        for version in VERSIONS.values():
            packages.pack(lab.tool("helm"), lab.packages, lab.environment(), version)
        self.fleet = Fleet(
            lab,
            "sweep",
            {
                "gloo-mesh:version": VERSIONS["first"],
                "gloo-mesh:kubeconfig": str(proxy.kubeconfig),
                "gloo-mesh:virtualMesh": {},
            },
        )
        self.writes: dict[Run, list[Write]] = {}
        self.endings: dict[Run, Ending] = {}
        self._held: dict[Run, list[Snapshot]] = {}

    def learn(self) -> None:
        """Run undisturbed what the points will disturb: what is written, and what there is in the end."""
        for run, version in VERSIONS.items():
            self._keep(run)
            self.fleet.configure("version", version)
            self.proxy.count()
            self.fleet.settle()
            self.writes[run] = list(self.proxy.writes)
            self.endings[run] = self._ending()

    def points(self, victims: Iterable[str], every: int = 1) -> list[Point]:
        """Each write, moment and victim."""
        return [
            Point(run, write.number, moment, victim)
            for run, writes in self.writes.items()
            for write in writes[::every]
            for moment in MOMENTS
            for victim in victims
        ]

    def outcome(self, point: Point) -> Outcome:
        """Kill there, recover, and look."""
        outcome = Outcome(point)
        began = time.monotonic()
        try:
            self._put_back(point.run)
            self.fleet.configure("version", VERSIONS[point.run])
            write, left, complaint = self._killed(point)
            if write:
                outcome.write = f"{write.cluster}: {write.method} {write.path.partition('?')[0]}"
                outcome.faults.extend(self._converged(point, left))
            else:
                outcome.faults += ["nobody was killed: the up never came to this write", *complaint]
        except (AssertionError, OSError) as error:
            # The CLI can't read the state any more, say; the points after this one start from a whole one.
            outcome.faults.append(str(error))
        outcome.seconds = round(time.monotonic() - began, 1)
        return outcome

    def _killed(self, point: Point) -> tuple[Write | None, list[psutil.Process], list[str]]:
        """Run an `up` and kill around a write of it: that, if there was one, what was running then, and its words."""
        reached: list[Write] = []
        family: list[psutil.Process] = []
        returned: list[threading.Thread] = []
        with self.fleet.start("up", "--yes", "--json") as running:
            program = psutil.Process(running.pid)

            def kill(write: Write) -> None:
                (cli,) = [process for process in program.children() if process.name() == "pulumi"]
                match point.victim:
                    case "cli":
                        doomed = [cli]
                    case "program":
                        doomed = [program]
                    case "provider":
                        doomed = [_sender(program, cli, write.port)]
                    case _:
                        below = self.lab.root / "kwok/clusters" / write.cluster
                        doomed = [process for _, name, process in components(below) if name == "kube-apiserver"]
                family.extend(program.children(recursive=True))
                # Only now, because a point where nobody could be found to kill must not count.
                reached.append(write)
                end(doomed)
                if point.victim == "api-server":
                    # As whatever looks after it would, while the run goes on.
                    returned.append(threading.Thread(target=self.lab.start, args=(write.cluster,)))
                    returned[0].start()
                if point.victim in ("provider", "api-server"):
                    raise ConnectionAbortedError

            self.proxy.count(point.moment, lambda write: write.number == point.number, kill)
            _, complaint = _ended(running)
            self.proxy.count()
        for thread in returned:
            thread.join()
        return (reached[0] if reached else None), family, complaint

    def _converged(self, point: Point, left: list[psutil.Process]) -> Iterator[str]:
        """A sentence for everything that isn't as it would be had nobody been killed."""
        if point.number % 2:
            until = time.monotonic() + DEADLINE_SECONDS
            while any(map(runs, left)) and self.proxy.idle() < AT_REST_SECONDS and time.monotonic() < until:
                time.sleep(0.1)
            end(left)
        pki = self._pki()
        _, complaint = self._command("recover", "--yes")
        yield from complaint
        end(left)
        _, complaint = self._command("up", "--yes")
        yield from complaint
        told, complaint = self._command("preview", "--json")
        yield from complaint
        if told and (changed := changed_in(json.loads(told))):
            yield f"preview would change {changed}"
        yield from self._ending().faults(self.endings[point.run])
        yield from (f"{path.name} is left among temporary files" for path in self.fleet.scratch.iterdir())
        yield from (f"{name} is another now" for name, data in self._pki().items() if pki.get(name, data) != data)

    def _command(self, verb: str, *options: str) -> tuple[str, list[str]]:
        """What a command that has to succeed says, and a sentence when it didn't."""
        with self.fleet.start(verb, *options) as running:
            return _ended(running)

    def _pki(self) -> dict[str, dict[str, str]]:
        listed: Any = self.fleet.core(MANAGEMENT).list_namespaced_secret("gloo-mesh")
        return {item.metadata.name: item.data for item in listed.items if item.metadata.name in RELAY_SECRETS}

    def _ending(self) -> Ending:
        state = json.loads(self.fleet.pulumi("stack", "export"))["deployment"]
        entries = [
            entry["urn"].rpartition("::")[2] + (" (to be deleted)" if entry.get("delete") else "")
            for entry in state["resources"]
        ]
        entries += [f"pending: {operation['resource']['urn']}" for operation in state.get("pending_operations") or ()]
        objects: Counter[str] = Counter()
        releases: Counter[str] = Counter()
        for cluster in self.lab.clusters():
            for kind, metadata in self._objects(cluster):
                labels = metadata.get("labels", {})
                within = metadata.get("namespace", "-")
                if kind == "secrets" and labels.get("owner") == "helm":
                    if labels["status"] not in ("superseded", "failed"):
                        releases[f"{cluster} {within}/{labels['name']} {labels['status']}"] += 1
                elif not metadata.get("ownerReferences"):
                    objects[f"{cluster} {kind} {within}/{metadata['name']}"] += 1
        return Ending(objects, releases, Counter(entries))

    def _objects(self, cluster: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every object's kind, in the plural, and metadata."""
        api = self.fleet.api(cluster)

        def read(path: str, accept: str) -> list[dict[str, Any]]:
            address = api.configuration.host + path
            answer = api.call_api("GET", address, header_params={"Accept": accept})
            return json.loads(answer.read())["items"] or []

        for root in ("/api", "/apis"):
            for group in read(root, DISCOVERY):
                seen = set(RESTLESS)
                for version in group["versions"]:
                    path = "/".join(filter(None, (root, group["metadata"].get("name"), version["version"])))
                    for resource in version["resources"]:
                        name = resource["resource"]
                        if name not in seen and "list" in resource["verbs"]:
                            seen.add(name)
                            yield from ((name, item["metadata"]) for item in read(f"{path}/{name}", METADATA))

    def _keep(self, run: Run) -> None:
        """Note what the clusters and the backend hold, as the start of a run."""
        self._held[run] = [Snapshot(self.lab, cluster) for cluster in self.lab.clusters()]
        shutil.copytree(self.lab.root / "state", self.lab.root / "kept" / run)

    def _put_back(self, run: Run) -> None:
        shutil.rmtree(self.fleet.scratch)
        self.fleet.scratch.mkdir()
        for cluster in self.lab.clusters():
            self.lab.start(cluster)
        for snapshot in self._held[run]:
            snapshot.put_back()
        shutil.rmtree(self.lab.root / "state")
        shutil.copytree(self.lab.root / "kept" / run, self.lab.root / "state")


def changed_in(report: Report) -> str:
    """What a report's clusters would change, in a clause."""
    return ", ".join(
        f"{cluster}: {operation} {resource}"
        for cluster, resources in changed(report).items()
        for resource, operation in resources.items()
    )


def _ended(running: subprocess.Popen[str]) -> tuple[str, list[str]]:
    """A command's output, and a sentence when it didn't end well."""
    verb = running.args[3]  # type: ignore[index]
    try:
        told, complained = running.communicate(timeout=DEADLINE_SECONDS)
    except subprocess.TimeoutExpired:
        end_family(running.pid)
        return "", [f"{verb} had not ended after {DEADLINE_SECONDS} s"]
    except BaseException:
        # Whoever ends the sweep means all of it, and may have ended this already.
        if running.poll() is None:
            end_family(running.pid)
        raise
    if running.returncode == 0:
        return told, []
    lines = [line for line in complained.splitlines() if "error" in line] or complained.splitlines()
    return told, [f"{verb} ended with {running.returncode}: {' | '.join(lines[:3])[:600]}"]


def _sender(program: psutil.Process, cli: psutil.Process, port: int) -> psutil.Process:
    """The provider that a connection came from, or from a process of its own.

    The program itself where it deletes what others left.
    """
    if any(connection.laddr.port == port for connection in program.net_connections("tcp")):
        return program
    for provider in cli.children():
        for process in (provider, *provider.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                if any(connection.laddr.port == port for connection in process.net_connections("tcp")):
                    return provider
    raise LookupError(f"No process of the engine has port {port}.")


@app.command(epilog="Example: python -m tests.engine.sweep --victims cli --every 5 --resume")
def sweep(
    victims: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(VICTIMS)}; repeatable.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Only every so many writes.")] = 1,
    output: Annotated[Path, typer.Option(help="Where the outcomes go.")] = plugins.REPOSITORY / ".lab/sweep.json",
    resume: Annotated[bool, typer.Option("--resume", help="Leave out what converged in an earlier run.")] = False,
) -> None:
    """Kill everything once around every write of an up; exit 1 unless the fleet converges each time."""
    console.print(plugins.describe())
    outcomes = _converged(output) if resume else []
    # Short, because sockets below it have a limit to their names.
    with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
        lab = Lab(Path(folder) / "lab", console)
        try:
            lab.up(1)
            with Proxy(lab) as proxy:
                swept = Sweep(lab, proxy)
                swept.learn()
                points = swept.points(victims or VICTIMS, every)
                left = [point for point in points if point not in [outcome.point for outcome in outcomes]]
                console.print(f"{len(left)} of {len(points)} points.")
                for point in left:
                    outcomes.append(swept.outcome(point))
                    _tell(outcomes[-1])
                    output.parent.mkdir(exist_ok=True)
                    output.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=2) + "\n")
        except LabError as error:
            console.print(str(error), markup=False)
            raise typer.Exit(1) from None
        finally:
            lab.down()
    good = sum(not outcome.faults for outcome in outcomes)
    Console(soft_wrap=True).print(_table(outcomes))
    print(f"{good} of {len(outcomes)} converge.")
    raise typer.Exit(0 if good == len(outcomes) else 1)


def _converged(file: Path) -> list[Outcome]:
    """What an earlier run found well."""
    found = json.loads(file.read_text()) if file.exists() else []
    return [Outcome(**kept | {"point": Point(**kept["point"])}) for kept in found if not kept["faults"]]


def _tell(outcome: Outcome) -> None:
    point = outcome.point
    result = "; ".join(outcome.faults) or "converges"
    console.print(
        f"{point.run} {point.number} {point.moment} {point.victim}, {outcome.write}: {result} ({outcome.seconds} s)",
        markup=False,
    )


def _table(outcomes: list[Outcome]) -> Table:
    table = Table("up", "write", "moment", "killed", "what was written", "result", box=None, pad_edge=False)
    for outcome in outcomes:
        point = outcome.point
        result = "\n".join(outcome.faults) or "converges"
        table.add_row(
            point.run,
            str(point.number),
            point.moment,
            point.victim,
            escape(outcome.write),
            escape(result),
            style="red" if outcome.faults else "",
        )
    return table


if __name__ == "__main__":
    # Being ended politely takes the lab away as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app()
