"""What people see while the engine works: progress per cluster, then a summary.

Owns the reading of the engine's events. The language host's tracebacks, which say nothing that the
errors beside them don't, are left out.
"""

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from pulumi.automation.events import EngineEvent
from rich.console import Console
from rich.live import Live
from rich.table import Column, Table

from operations.console import table

SHARED = "certificates"
"""Where resources without a cluster are shown."""

_DONE = {
    "create": "created",
    "update": "updated",
    "delete": "deleted",
    "create-replacement": "replaced",
    "delete-replaced": "replaced",
    "import": "imported",
}
# What is only read, or read no more, changes no cluster.
_QUIET = {"same", "refresh", "read", "read-replacement", "discard", "discard-replaced"}
_STACK = "pulumi:pulumi:Stack"
_TRACEBACK = "Traceback (most recent call last)"
# Of a resource that "failed to register" it is told what failed.
_NOISE = ("KeyboardInterrupt", "asyncio.exceptions.CancelledError", "failed to register")
# The engine ends the plugins one after the other and gives all of them five seconds together: behind one that is slow
# to go, as for a cluster that doesn't answer, every other is said to have crashed. What a crash does break fails by
# itself, so this alone fails nothing; it is worth a word where the plugin left some.
_CUT_OFF = "exited prematurely"
_LAST_WORDS = "streams of the plugin:"


@dataclass
class ClusterProgress:
    """One row: what is under way, what was done, what failed."""

    running: dict[str, float] = field(default_factory=dict)
    """By resource name, when it started (seconds, monotonic)."""
    changed: dict[str, str] = field(default_factory=dict)
    """By resource name, the operation."""
    unchanged: int = 0
    failed: list[str] = field(default_factory=list)


class Progress:
    """Follows one engine operation. As a context it shows itself live, or as lines where there is no terminal."""

    def __init__(self, console: Console, clusters: Iterable[str], *, dry: bool, silent: Collection[str] = ()) -> None:
        self.clusters = {name: ClusterProgress() for name in (SHARED, *clusters)}
        self.errors: list[str] = []
        self.warnings: list[str] = []
        self.refreshed = False
        """Whether what the clusters have was looked at first."""
        self.unrefreshed: set[str] = set()
        """Where that failed."""
        self.drifted = False
        """Whether anything that was looked at is other than the state says, if only its resourceVersion or revision."""
        self.outputs: dict[str, Any] = {}
        """What a run of the program said of the whole, as the engine tells it: secrets masked."""
        self._steps: dict[str, tuple[str, str]] = {}
        """By URN, the cluster and operation of what was begun last."""
        self._console = console
        self._silent = silent
        self.dry = dry
        self._began = time.monotonic()
        self._live = Live(console=console, get_renderable=self.table, refresh_per_second=4, transient=True)

    def __enter__(self) -> "Progress":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def continue_from(self, earlier: "Progress") -> None:
        """Count what an earlier run of the same operation did, too."""
        self._began = earlier._began
        self.warnings = list(dict.fromkeys(earlier.warnings + self.warnings))
        for name, cluster in earlier.clusters.items():
            own = self.clusters.setdefault(name, ClusterProgress())
            own.changed = cluster.changed | own.changed

    @property
    def changed(self) -> dict[str, dict[str, str]]:
        """By cluster, each resource that is touched and the operation, unchanged ones aside."""
        return {name: cluster.changed for name, cluster in self.clusters.items()}

    @property
    def changes(self) -> dict[str, int]:
        """How many resources each operation touched, unchanged ones aside."""
        operations = [operation for cluster in self.clusters.values() for operation in cluster.changed.values()]
        return {operation: operations.count(operation) for operation in sorted(set(operations))}

    def event(self, event: EngineEvent) -> None:
        """Take in one event of the engine."""
        if event.resource_pre_event:
            self._started(event.resource_pre_event.metadata)
        elif event.res_outputs_event:
            step = event.res_outputs_event.metadata
            # A refresh tells the old ones, and a preview what nobody knows yet.
            if step.type == _STACK and not self.dry and str(step.op.value) != "refresh":
                self.outputs = dict(step.new.outputs or {}) if step.new else {}
            self._ended(step)
        elif event.res_op_failed_event:
            self._failed(event.res_op_failed_event.metadata)
        elif event.diagnostic_event:
            self._said(event.diagnostic_event)

    def table(self) -> Table:
        """The state of every cluster."""
        counts = (Column(heading, justify="right") for heading in ("changes", "unchanged", "failed"))
        shown = table("cluster", *counts, "now")
        for name, cluster in list(self.clusters.items()):
            now = ", ".join(f"{what} {time.monotonic() - since:.0f} s" for what, since in list(cluster.running.items()))
            now = now or ("doesn't answer" if name in self._silent else "")
            failed = f"[red]{len(cluster.failed)}[/red]" if cluster.failed else "0"
            shown.add_row(name, str(len(cluster.changed)), str(cluster.unchanged), failed, now)
        return shown

    def changes_table(self) -> Table:
        """Every change, by cluster."""
        shown = table("cluster", "operation", "resource")
        for name, cluster in self.clusters.items():
            for resource, operation in cluster.changed.items():
                shown.add_row(name, operation, resource)
        return shown

    def report(self) -> dict[str, Any]:
        """The same for machines."""
        return {
            "preview": self.dry,
            "seconds": round(time.monotonic() - self._began, 1),
            "refreshed": self.refreshed and not self.unrefreshed,
            "changes": self.changes,
            "clusters": {
                name: {"changed": cluster.changed, "unchanged": cluster.unchanged, "failed": cluster.failed}
                for name, cluster in self.clusters.items()
            },
            "outputs": self.outputs,
            "errors": self.errors,
            "warnings": self.warnings,
        }

    def _started(self, step: Any) -> None:
        if place := self._place(step):
            self._steps[step.urn] = self._cluster(step), str(step.op.value)
            if str(step.op.value) not in _QUIET:
                place.running[_name(step.urn)] = time.monotonic()

    def _ended(self, step: Any) -> None:
        if not (place := self._place(step)):
            return
        name, operation = _name(step.urn), str(step.op.value)
        began = place.running.pop(name, None)
        # What the engine says of it from now on is no longer about this operation.
        self._steps.pop(step.urn, None)
        if operation == "refresh":
            self.drifted |= bool(step.diffs) or _looks(step.old) != _looks(step.new)
        if operation in _QUIET:
            place.unchanged += operation == "same"
            return
        place.changed[name] = _REPLACING.get(operation, operation)
        if not self.dry and not self._console.is_terminal and operation != "replace":
            took = f" in {time.monotonic() - began:.1f} s" if began else ""
            self._console.print(f"{self._cluster(step)}: {_DONE.get(operation, operation)} {name}{took}", markup=False)

    def _failed(self, step: Any) -> None:
        if place := self._place(step):
            place.running.pop(_name(step.urn), None)
            self._note_failure(step.urn, self._cluster(step), str(step.op.value))

    def _note_failure(self, urn: str, cluster: str, operation: str) -> None:
        if _name(urn) not in self.clusters[cluster].failed:
            self.clusters[cluster].failed.append(_name(urn))
        if operation == "refresh":
            self.unrefreshed.add(cluster)

    def _said(self, said: Any) -> None:
        # What went wrong stands before the traceback, in the same message.
        message = said.message.replace("<{%reset%}>", "").partition(_TRACEBACK)[0].strip()
        if not message or any(noise in message for noise in _NOISE):
            return
        where = f"{_name(said.urn)}: " if said.urn and _STACK not in said.urn else ""
        if _CUT_OFF in message:
            if message.partition(_LAST_WORDS)[2]:
                self.warnings.append(message)
        elif said.severity == "error" and where + message not in self.errors:
            self.errors.append(where + message)
            # Of what fails in a preview there is no other event.
            if said.urn in self._steps:
                self._note_failure(said.urn, *self._steps[said.urn])
        elif said.severity == "warning":
            self.warnings.append(where + message)
        elif said.severity == "info" and not said.ephemeral:
            # The program's own words, while it waits for something that no row of the table shows.
            self._console.print(where + message, markup=False)

    def _place(self, step: Any) -> ClusterProgress | None:
        """The row of a step; None for components and providers, which change no cluster."""
        state = step.new or step.old
        if state is None or not state.custom or step.type.startswith("pulumi:"):
            return None
        return self.clusters.setdefault(self._cluster(step), ClusterProgress())

    @staticmethod
    def _cluster(step: Any) -> str:
        provider = (step.provider or "").split("::")
        is_cluster = len(provider) > 3 and provider[2].endswith("pulumi:providers:kubernetes")
        return provider[3] if is_cluster else SHARED


_REPLACING = {"create-replacement": "replace", "delete-replaced": "replace"}


def _looks(state: Any) -> tuple[Any, ...] | None:
    """What a refresh may find changed; a secret's value, which isn't told, changes with its object's version."""
    return (state.inputs, state.outputs, state.init_errors) if state else None


def _name(urn: str) -> str:
    return urn.rpartition("::")[2]
