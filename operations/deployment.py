"""A stack's deployment: previewed, brought up, taken away by Pulumi's engine.

Owns the engine's runs, with the program inline, so that only the CLI and the provider plugins are
needed. Never skips the preview, which refreshes what answers; it doesn't where management doesn't answer, where
commands can't use a kubeconfig that Pulumi's plugin perhaps can, or where a release was left half done. An up refreshes
once more where that found something changed, or wasn't done. A worker that doesn't answer is left alone, see
docs/decisions/0011.
"""

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any

import psutil
from pulumi import automation
from pulumi.automation.events import EngineEvent, StepEventMetadata
from rich.console import Console

from components.connection import AccessError, HangingLoginError
from components.settings import MANAGEMENT, ClusterSettings, Settings
from components.settings import kubeconfig as kubeconfigs
from operations import decryption, engine, leftovers, renewals, state
from operations.api import silence
from operations.cli import last_error, locked
from operations.everywhere import unreachable
from operations.findings import Finding
from operations.lock import LockedError
from operations.preflight import Preflight, preflight, remembered
from operations.progress import Progress
from operations.stack import Stack, UsageError, command
from operations.state import State

ATTEMPTS = 3
"""How often a cluster that failed a refresh is asked whether it answers: one that comes and goes fails one of them."""

CHECKPOINTS = "PULUMI_SKIP_CHECKPOINTS"
"""Has the engine save the state once, at the end of a run."""

LOOK_SECONDS = 300
"""Deadline of a run that only looks, or reads anew what exists; the SDK has none."""
END_SECONDS = 30
"""What it has to end when it is told to."""

_KILLED = re.compile(r"\s*code: -(\d+)")
"""What the SDK says of a CLI that ended by a signal."""

HEARD_WITHIN = 4
"""Seconds after which an engine that hasn't said that it stops wasn't asked to."""


class Deployment:
    """One stack under the engine."""

    _renewed: Sequence[str] = ()
    """The URNs of what is to be made anew."""

    def __init__(self, stack: Stack, console: Console) -> None:
        self.settings: Settings = stack.settings()
        self.name = stack.name
        self.stack = stack
        self._console = console
        os.environ.update(stack.environment)
        self._engine = engine.select(stack.name)
        self.exported: State = state.exported(stack.name)
        """The state before anything is done; whoever asks the backend for what it doesn't know is told so here."""
        self.settings = decryption.with_kubeconfigs(stack, self.settings)
        self._link(stack.name)
        self._unusable: set[str] = set()
        """Clusters whose kubeconfigs the commands can't use, and Pulumi's plugin perhaps can."""
        self._asked = 0
        """How often this process was asked to stop."""
        self._heard = 0
        """How often the engine said that it was."""
        self._options: dict[str, Any] = {
            "config_file": str(stack.file),
            "parallel": engine.parallel(len(self.settings.workers)),
            "color": "never",
        }

    @cached_property
    def unreachable(self) -> dict[str, str]:
        """By cluster, why it doesn't answer, asked once; raises UsageError for a login that hangs."""
        silent = unreachable(self._clusters)
        hanging = [name for name, error in silent.items() if isinstance(error.__cause__, HangingLoginError)]
        if hanging:
            raise UsageError("\n".join(f"{name} can't be entered: {silent[name]}." for name in hanging))
        return self._told(silent)

    @cached_property
    def _clusters(self) -> list[ClusterSettings]:
        """Those of the configuration, and those that an up takes away."""
        return [*self.settings.clusters, *remembered.leaving(self.exported, self.settings)]

    @cached_property
    def half_done(self) -> list[str]:
        """The releases, by URN, that an earlier run left half done."""
        return state.half_done(self.exported)

    def preflight(self) -> Preflight:
        """What an `up` would fail over; it asks the clusters once, for `unreachable` too."""
        looked = preflight(self.stack, self.settings, self.exported)
        self.unreachable = self._told(looked.unreachable)
        return looked

    def strangers(self) -> list[Finding]:
        """What a removal would go to by the state's contexts, and isn't what this stack deployed to."""
        document = self.exported
        configured = {cluster.name: cluster for cluster in self.settings.clusters}
        clusters = [
            remembered.cluster(document, name, self.settings.management_cluster) or configured.get(name)
            for name in remembered.names(document)
        ]
        return remembered.strangers(document, filter(None, clusters), self.settings.namespace)[0]

    def redo(self) -> list[str]:
        """Have the next `up` upgrade what is half done, whatever its refresh finds; the names.

        Writes the state; raises UsageError where operations are pending in it, which would be forgotten by that.
        """
        urns, self.half_done = self.half_done, []
        if urns:
            document = state.exported(self.name)
            if state.pending(document):
                raise UsageError(
                    f"An earlier run of {self.name} was cut off. First: " + command("recover", self.name, "--yes")
                )
            state.put_back(self.name, state.worn(document, urns))
        return list(map(state.name, urns))

    def renew(self, names: Collection[str]) -> None:
        """Have preview and up make keys, with the certificates for them, or tokens anew; raises UsageError.

        A root takes every key along: what is issued anew for an old one would let in whoever has that.
        """
        keys = state.renewable(self.exported, state.KEY)
        known = keys | state.renewable(self.exported, state.TOKEN)
        if unknown := sorted(set(names) - known.keys()):
            raise UsageError(
                f"{self.name} has no {unknown[0]} to make anew; it has {', '.join(sorted(known)) or 'none'}."
            )
        if kept := [name for name in names if known[name].get("protect")]:
            raise UsageError(
                f"{kept[0]} is protected, because every cluster trusts it. To change it: set gloo-mesh:protect to "
                f"false in {self.stack.file.name}, run up, run this again, and set it back."
            )
        if renewals.SIGNING in names and renewals.ROOT not in names:
            raise UsageError(
                f"{renewals.SIGNING} can't be made anew alone, as agents' certificates are verified by it; "
                f"--renew {renewals.ROOT} takes it along."
            )
        taken = {*names, *keys} if renewals.ROOT in names else names
        self._renewed = sorted(known[name]["urn"] for name in taken)

    def renewed(self, progress: Progress) -> bool:
        """Whether there was anything to make anew, and a run has done all of it."""
        return bool(self._renewed) and not self._to_renew(progress)

    def preview(self) -> Progress:
        """What an `up` would change. Writes nothing to a cluster."""
        # What is half done would pass for done; and writing that down is not for a preview.
        # Running the program, a refresh uses the configuration's contexts; else those that the state remembers.
        refresh = not self.half_done
        return self._refreshed(self._engine.preview, lambda before: self._reach(before, refresh=refresh), dry=True)

    def planned(self) -> tuple[list[StepEventMetadata], Progress]:
        """The steps of an `up`, by the state alone: nothing is refreshed, and no cluster is written to."""
        steps: list[StepEventMetadata] = []

        def note(event: EngineEvent) -> None:
            if event.resource_pre_event:
                steps.append(event.resource_pre_event.metadata)

        with self._limited():
            progress = self._run(self._engine.preview, dry=True, run_program=True, watch=note)
        return steps, progress

    def refresh(self, urns: Collection[str]) -> Progress:
        """Bring the state's entries of these resources to what the clusters have."""
        with self._limited():
            return self._run(self._engine.refresh, dry=False, target=list(urns), run_program=False, show_secrets=False)

    def up(self, planned: Progress) -> Progress:
        """Bring the clusters to what the configuration says; healthy clusters complete though others fail."""
        # A refresh has the whole state written after each resource: see docs/decisions/0009.
        known = planned.refreshed and not planned.drifted
        nothing_to_lose = planned.refreshed and not planned.changes
        self._engine.workspace.env_vars = {**self._engine.workspace.env_vars, CHECKPOINTS: str(nothing_to_lose).lower()}
        options = {"continue_on_error": True, "show_secrets": False}
        done = self._refreshed(
            self._engine.up, lambda before: options | self._reach(before, refresh=not known), dry=False
        )
        done.refreshed |= known
        return done

    def preview_removal(self) -> Progress:
        """What a removal would take away."""
        return self._refreshed(self._engine.preview_destroy, lambda _: {"refresh": not self.unreachable}, dry=True)

    def remove(self) -> Progress:
        """Take everything away that this stack made."""
        options = {"continue_on_error": True, "show_secrets": False}
        return self._refreshed(self._engine.destroy, lambda _: options | {"refresh": not self.unreachable}, dry=False)

    def _reach(self, before: Progress | None, *, refresh: bool) -> dict[str, Any]:
        """Options of a run of the program: whether it refreshes, what it leaves alone, what it makes anew."""
        # No agent may get ahead of a management plane that can't be reached. And the engine asks whether the root is
        # protected only where it would delete it, which it doesn't while anything that is left out leans on it.
        protected = any(entry.get("protect") for entry in state.entries(self.exported))
        disowned = protected and self.settings.pki.source != "generated"
        left_out = state.on(self.exported, self.unreachable)
        if self.unreachable and (MANAGEMENT in self.unreachable or disowned or self._unusable):
            refresh, left_out = False, []
        return {
            "run_program": True,
            "refresh": refresh,
            "exclude": left_out,
            "replace": self._to_renew(before),
        }

    def _told(self, silent: Mapping[str, Exception]) -> dict[str, str]:
        """Why each of these doesn't answer."""
        self._unusable |= {name for name, error in silent.items() if type(error.__cause__) is AccessError}
        return {name: silence(error) for name, error in silent.items()}

    def _refreshed(
        self, operation: Callable[..., Any], options: Callable[[Progress | None], dict[str, Any]], *, dry: bool
    ) -> Progress:
        """Run, and again where a cluster has stopped answering meanwhile: its failing refresh ends the run on all.

        `options` are those of a run, by what the one before came to.
        """
        before: Progress | None = None
        while True:
            asked = options(before)
            progress = self._run(operation, dry=dry, **asked)
            progress.refreshed = asked["refresh"]
            if before and not dry:
                progress.continue_from(before)
            silent = {} if self._asked else self._fallen_silent(progress.unrefreshed - self.unreachable.keys())
            if not silent:
                return progress
            self.unreachable = self.unreachable | silent
            for name, why in silent.items():
                self._console.print(f"{name} has stopped answering: {why}", markup=False)
            before = progress
            if not dry:
                # What that run made has to be left out by the next, too.
                self.exported = state.exported(self.name)

    def _to_renew(self, done: Progress | None) -> list[str]:
        """What is to be made anew and wasn't yet, by URN."""
        made = {name for cluster in done.changed.values() for name in cluster} if done and not done.dry else ()
        return [urn for urn in self._renewed if state.name(urn) not in made]

    def _fallen_silent(self, names: Collection[str]) -> dict[str, str]:
        """Which of these clusters don't answer, or not each time, or can't be asked, and why."""
        clusters = [cluster for cluster in self._clusters if cluster.name in names] if names else []
        silent = {name: silence(error) for _ in range(ATTEMPTS) for name, error in unreachable(clusters).items()}
        # It leaves, and the state has it encrypted.
        secret = set(names) & set(remembered.names(self.exported)) - {cluster.name for cluster in self._clusters}
        return silent | {
            name: "its kubeconfig was a secret, and the configuration has it no more; if the cluster is gone for good, "
            f"put its entry back and run: {command(f'forget {name}', self.name)}"
            for name in sorted(secret)
        }

    def _link(self, stack: str) -> None:
        """Make the links that variables' kubeconfigs are given by, as a removal runs no program that would.

        Those of clusters that leave are among them, as the program doesn't know these any more.
        """
        for cluster in remembered.leaving(self.exported, self.settings):
            # One that is gone for good may have taken its kubeconfig with it.
            with suppress(kubeconfigs.KubeconfigError):
                kubeconfigs.given(cluster.kubeconfig, stack)
        for cluster in self.settings.clusters:
            if cluster.kubeconfig.kind == "env":
                try:
                    kubeconfigs.given(cluster.kubeconfig, stack)
                except kubeconfigs.KubeconfigError as error:
                    raise UsageError(f"The kubeconfig {cluster.kubeconfig} can't be used: {error}.") from None

    def _run(
        self,
        operation: Callable[..., Any],
        *,
        dry: bool,
        watch: Callable[[EngineEvent], None] = lambda _: None,
        **options: Any,
    ) -> Progress:
        clusters = [MANAGEMENT, *sorted(self.settings.workers)]
        with (
            leftovers.scratch() as scratch,
            Progress(self._console, clusters, dry=dry, silent=self.unreachable) as progress,
            self._interruptible(),
        ):
            # The kubernetes plugin leaves a copy of each kubeconfig, credentials and all, in TMPDIR.
            self._engine.workspace.env_vars = {**self._engine.workspace.env_vars, "TMPDIR": scratch}

            def follow(event: EngineEvent) -> None:
                # "SIGTERM received; cancelling", and the second time "terminating".
                self._heard += bool(event.stdout_event and " received; " in event.stdout_event.message)
                progress.event(event)
                watch(event)

            try:
                operation(on_event=follow, **self._options, **options)
            except automation.CommandError as error:
                if locked(error):
                    raise LockedError(
                        "Another update of this stack is running, or one was killed and left its lock. Which of the "
                        f"two, and the way on: {command('recover', self.name)}"
                    ) from None
                if killed := _KILLED.match(str(error)):
                    progress.errors.append(
                        f"Pulumi's CLI was killed by signal {killed[1]}. What it left behind, and the way on: "
                        f"{command('recover', self.name)}"
                    )
                elif not progress.errors:
                    if dry:
                        raise UsageError(f"Pulumi can't look at {self._engine.name}: {last_error(error)}") from None
                    progress.errors.append(last_error(error))
        if dry and self._asked:
            raise UsageError("Stopped; nothing was written to a cluster.")
        return progress

    def _pass_on(self, asked: int) -> None:
        """Ask what runs below to stop, unless the engine has heard of it as often as this process."""
        if self._heard < asked:
            for process in psutil.Process().children():
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGINT)

    @contextmanager
    def _limited(self) -> Iterator[None]:
        """Tell a run that takes too long to stop, and, where that takes too long as well, to end at once."""

        def stop(asked: int) -> None:
            self._console.print(f"Pulumi hasn't ended within {LOOK_SECONDS} s; it is told to stop.")
            self._pass_on(asked)

        timers = [
            threading.Timer(LOOK_SECONDS + later, stop, [self._heard + asked])
            for asked, later in ((1, 0), (2, END_SECONDS))
        ]
        for timer in timers:
            timer.daemon = True
            timer.start()
        try:
            yield
        finally:
            for timer in timers:
                timer.cancel()

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Let the engine finish what it began and save the state; a second Ctrl-C, or SIGTERM, kills it."""

        def stop(number: int, _frame: object) -> None:
            self._asked += 1
            self._console.print("Stopping: what is under way is finished and the state saved. Once more kills it.")
            # Started without any, there is none.
            if number == signal.SIGINT and sys.stdin and sys.stdin.isatty():
                # The terminal has sent it to the engine, too; a pipeline that gives up may know of this process alone.
                return
            late = threading.Timer(HEARD_WITHIN, self._pass_on, [self._asked])
            late.daemon = True
            late.start()

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        # A terminal that is gone would end the engine, too, which inherits that it is not to mind.
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
