"""When a run is begun once more without a refresh, and when it isn't."""

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from pulumi.automation._cmd import CommandResult
from pulumi.automation.errors import create_command_error
from pulumi.automation.events import EngineEvent, StdoutEngineEvent
from rich.console import Console

from components.connection import AccessError
from components.settings import Settings
from operations import deployment, engine, state
from operations.api import Unanswered
from operations.deployment import Deployment
from operations.lock import LockedError
from operations.preflight import Preflight
from operations.progress import Progress
from operations.stack import Stack, UsageError
from operations.verbs import deployment as verbs
from tests.awaiting import awaited
from tests.unit.stored import document, entry, provider, secret

RELEASE = f"urn:pulumi:prod::gloo-mesh::{state.RELEASE}::"


FLEET = document(
    *(provider(name) for name in ("management", "cluster-1", "cluster-2")),
    secret("record", "management"),
    secret("root-1", "cluster-1"),
    secret("root-2", "cluster-2"),
)


class Runs(Deployment):
    """A deployment whose runs end as they are told, one after the other."""

    def __init__(self, *endings: Progress, interrupted: bool = False) -> None:
        clusters = [SimpleNamespace(name="cluster-1"), SimpleNamespace(name="cluster-2")]
        self.settings: Any = SimpleNamespace(clusters=clusters, pki=SimpleNamespace(source="generated"))
        self._clusters: Any = clusters
        self.unreachable = {}
        self.half_done = []
        self.name = "prod"
        self.exported = document()
        self._unusable = set()
        self._heard = 0
        self.refreshed: list[bool] = []
        self.replaced: list[list[str]] = []
        self.options: list[dict[str, Any]] = []
        workspace = SimpleNamespace(env_vars={})
        self._engine: Any = SimpleNamespace(
            preview=None, up=None, preview_destroy=None, destroy=None, workspace=workspace
        )
        self._console = Console(quiet=True)
        self._endings = list(endings)
        self._asked = int(interrupted)

    def _run(self, operation: Any, *, dry: bool, watch: Any = None, **options: Any) -> Progress:
        self.refreshed.append(options["refresh"])
        self.replaced.append(options.get("replace", []))
        self.options.append(options)
        return self._endings.pop(0)


@pytest.fixture(autouse=True)
def stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the backend has after a run."""
    monkeypatch.setattr(state, "exported", lambda _stack: FLEET)


def ending(*unrefreshed: str, changed: dict[str, str] | None = None) -> Progress:
    progress = Progress(Console(quiet=True), ["cluster-1", "cluster-2"], dry=False)
    progress.unrefreshed |= set(unrefreshed)
    progress.errors += [f"{name}: no" for name in unrefreshed]
    progress.clusters["cluster-2"].changed |= changed or {}
    return progress


def answers(monkeypatch: pytest.MonkeyPatch, *attempts: bool) -> None:
    """Whether each attempt at cluster-1 is answered."""
    left = list(attempts)

    def unreachable(clusters: list[Any]) -> dict[str, Exception]:
        if [cluster.name for cluster in clusters] != ["cluster-1"]:
            return {}
        return {} if left.pop(0) else {"cluster-1": OSError("refused")}

    monkeypatch.setattr(deployment, "unreachable", unreachable)


def test_a_refresh_that_fails_where_the_cluster_answers_is_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, True, True, True)
    runs = Runs(ending("cluster-1"))

    assert runs.up(ending()).errors == ["cluster-1: no"]
    assert runs.refreshed == [True]


def test_a_cluster_that_leaves_and_cant_be_asked_ends_no_refresh_of_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(monkeypatch)
    runs = Runs(ending("dc-1"), ending())
    runs.exported = document(provider("dc-1"))
    runs._console = Console(soft_wrap=True)

    assert not runs.up(ending()).errors
    assert set(runs.unreachable) == {"dc-1"}
    assert "put its entry back and run: python -m operations forget dc-1" in capsys.readouterr().out


def test_a_refresh_that_fails_for_a_key_is_the_end() -> None:
    runs = Runs(ending("certificates"))
    runs.exported = document(provider("cluster-1"))

    assert runs.up(ending()).errors == ["certificates: no"]
    assert runs.refreshed == [True]


def test_nothing_is_begun_again_after_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, False, False, False)
    runs = Runs(ending("cluster-1"), interrupted=True)

    assert runs.up(ending()).errors == ["cluster-1: no"]
    assert runs.refreshed == [True]


def test_nothing_follows_a_preview_that_was_interrupted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Previewed(Runs):
        _run = Deployment._run

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    runs = Previewed(interrupted=True)
    runs.settings.workers = {}
    runs._options = {}
    runs._engine = SimpleNamespace(preview=lambda **_: None, workspace=SimpleNamespace(env_vars={}))

    with pytest.raises(UsageError, match="Stopped"):
        runs.preview()


def test_a_removal_with_a_dead_cluster_refreshes_nothing_and_goes_on_past_what_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers(monkeypatch)
    runs = Runs(ending(), ending())
    runs.unreachable = {"cluster-1": "refused"}

    runs.preview_removal()
    runs.remove()

    assert runs.refreshed == [False, False]
    assert runs.options[-1]["continue_on_error"] is True


def test_an_up_that_did_more_than_was_approved_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    approved = tmp_path / "approved.json"
    approved.write_text(json.dumps({"stack": "prod", "preview": True, "errors": [], "clusters": {}}))
    runs = Runs(ending(), ending(changed={"b": "create"}))
    monkeypatch.setattr(verbs, "_open", lambda _: runs)
    monkeypatch.setattr(runs, "preflight", lambda: Preflight([], {}), raising=False)
    monkeypatch.setattr(runs, "renew", lambda _: None)

    with pytest.raises(typer.Exit) as ended:
        verbs.up("prod", approved=approved)

    assert ended.value.exit_code == 1
    assert runs.refreshed == [True, False]


def test_more_workers_are_worked_on_at_once() -> None:
    assert engine.parallel(100) > engine.parallel(8) > 8


@pytest.fixture
def made() -> Runs:
    """A deployment that has a root under protection, a server's key and a token, and is run twice."""
    urn = "urn:pulumi:prod::gloo-mesh::gloo-mesh:index:RelayPki$"
    keys = dict.fromkeys(("relay-root-key", "relay-server-key", "relay-signing-key"), state.KEY)
    kinds = keys | {"relay-identity-token": state.TOKEN}
    entries = [{"urn": f"{urn}{kind}::{name}", "type": kind, "protect": "root" in name} for name, kind in kinds.items()]
    runs = Runs(ending(), ending())
    runs.exported = {"deployment": {"resources": entries}}
    runs.stack = Stack("prod", Path("Pulumi.prod.yaml"), {})
    return runs


def test_what_isnt_there_or_is_protected_is_not_made_anew(made: Runs) -> None:
    with pytest.raises(
        UsageError, match=r"has no relay-token .* relay-identity-token, relay-root, relay-server, relay-signing\."
    ):
        made.renew(["relay-token"])
    with pytest.raises(UsageError, match=r"relay-root is protected.*Pulumi\.prod\.yaml"):
        made.renew(["relay-server", "relay-root"])

    made.preview()

    assert made.replaced == [[]]


def test_a_signing_key_is_not_made_anew_without_its_root(made: Runs) -> None:
    with pytest.raises(UsageError, match="--renew relay-root takes it along"):
        made.renew(["relay-signing"])


def test_a_root_takes_every_key_along_and_no_token(made: Runs) -> None:
    for resource in state.entries(made.exported):
        resource["protect"] = False
    made.renew(["relay-root"])

    made.preview()

    assert [[state.name(urn) for urn in run] for run in made.replaced] == [
        ["relay-root-key", "relay-server-key", "relay-signing-key"]
    ]


def test_what_was_made_anew_is_not_made_again_by_the_same_command(made: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, False, False, False)
    first = ending("cluster-1", changed={"relay-server-key": "replace"})
    made._endings = [first, ending()]
    made.renew(["relay-server", "relay-identity-token"])

    made.up(ending())

    assert [[state.name(urn) for urn in run] for run in made.replaced] == [
        ["relay-identity-token", "relay-server-key"],
        ["relay-identity-token"],
    ]


def test_a_renewal_that_failed_half_way_is_repeated_with_its_option_and_a_whole_one_without(
    made: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    def advised(*renewed: str) -> str:
        progress = ending(changed=dict.fromkeys(renewed, "replace"))
        progress.errors.append("no")
        with pytest.raises(typer.Exit):
            verbs._finish(made, progress, False)
        return capsys.readouterr().err

    made.renew(["relay-server", "relay-identity-token"])

    assert "run the same command again" in advised()
    assert "run the same command again" in advised("relay-server-key")
    assert "run it again, without --renew (that is done)," in advised("relay-server-key", "relay-identity-token")


def test_an_up_makes_anew_what_its_preview_showed(made: Runs) -> None:
    made.renew(["relay-server", "relay-identity-token"])

    made.up(made.preview())

    assert [[state.name(urn) for urn in run] for run in made.replaced] == 2 * [
        ["relay-identity-token", "relay-server-key"]
    ]


def test_a_worker_that_leaves_is_reached_by_its_variable_though_no_configuration_names_it(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeconfig = Path("kubeconfig").absolute()
    monkeypatch.setenv("DC2_KUBECONFIG", str(kubeconfig))
    runs = Runs()
    runs.settings = Settings.parse(config, ("licenseKey",))
    providers = {"dc-2": ".kubeconfigs/prod/DC2_KUBECONFIG", "dc-3": ".kubeconfigs/prod/GONE", "dc-4": "~/.kube/config"}
    runs.exported = {
        "deployment": {
            "resources": [
                {
                    "urn": f"urn:pulumi:prod::gloo-mesh::{state.PROVIDER}::{name}",
                    "type": state.PROVIDER,
                    "inputs": {"kubeconfig": path, "context": name},
                }
                for name, path in providers.items()
            ]
        }
    }

    runs._link("prod")

    assert [link.name for link in Path(".kubeconfigs/prod").iterdir()] == ["DC2_KUBECONFIG"]
    assert Path(".kubeconfigs/prod/DC2_KUBECONFIG").resolve() == kubeconfig.resolve()


def test_a_cluster_that_comes_and_goes_is_left_alone_and_what_was_done_before_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers(monkeypatch, True, False, True)
    runs = Runs(ending("cluster-1", changed={"a": "update"}), ending(changed={"b": "create"}))

    done = runs.up(ending())

    assert runs.refreshed == [True, True]
    assert [[state.name(urn) for urn in options["exclude"]] for options in runs.options] == [[], ["root-1"]]
    assert done.errors == []
    assert done.clusters["cluster-2"].changed == {"a": "update", "b": "create"}
    assert runs.unreachable == {"cluster-1": "refused"}


def test_a_second_cluster_that_falls_silent_is_left_alone_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment, "unreachable", lambda clusters: {c.name: OSError("refused") for c in clusters})
    runs = Runs(ending("cluster-1"), ending("cluster-2"), ending())

    assert runs.up(ending()).errors == []
    assert [state.name(urn) for urn in runs.options[-1]["exclude"]] == ["root-1", "root-2"]


def test_a_worker_that_is_down_is_left_alone_and_the_others_refreshed() -> None:
    runs = Runs(ending(), ending())
    runs.exported = FLEET
    runs.unreachable = {"cluster-1": "refused"}

    assert runs.up(runs.preview()).errors == []
    assert [[state.name(urn) for urn in options["exclude"]] for options in runs.options] == [["root-1"], ["root-1"]]
    assert runs.refreshed == [True, False]


def headless(runs: Runs) -> None:
    runs.unreachable |= {"management": "refused"}


def disowned(runs: Runs) -> None:
    runs.settings.pki.source = "supplied"
    root = entry(state.KEY, "relay-root-key") | {"protect": True}
    runs.exported = document(*state.entries(FLEET), root)


def unusable(runs: Runs) -> None:
    refusal = Unanswered("it acts as a user with several groups")
    refusal.__cause__ = AccessError()
    runs.unreachable = runs._told({"cluster-1": refusal})


@pytest.mark.parametrize("otherwise", [headless, disowned, unusable])
def test_nothing_is_left_alone_or_refreshed_where_that_would_do_harm(otherwise: Callable[[Runs], None]) -> None:
    runs = Runs(ending())
    runs.exported = FLEET
    runs.unreachable = {"cluster-1": "refused"}
    otherwise(runs)

    runs.preview()

    assert runs.options[0]["exclude"] == []
    assert runs.refreshed == [False]


def test_a_preview_refreshes_nothing_while_a_release_is_half_done() -> None:
    runs = Runs(ending())
    runs.half_done = [f"{RELEASE}cluster-1-agent"]

    assert runs.preview().report()["refreshed"] is False
    assert runs.refreshed == [False]


def test_what_is_half_done_is_worn_before_an_up_refreshes(monkeypatch: pytest.MonkeyPatch) -> None:
    urn = f"{RELEASE}cluster-1-agent"
    failed = {"urn": urn, "type": state.RELEASE, "inputs": {"maxHistory": 10}, "initErrors": ["timed out"]}
    written: list[Any] = []
    monkeypatch.setattr(state, "exported", lambda _stack: {"deployment": {"resources": [failed]}})
    monkeypatch.setattr(state, "put_back", lambda _stack, document: written.append(document))
    runs = Runs(ending(), ending())
    runs.half_done = [urn]

    assert runs.redo() == ["cluster-1-agent"]
    assert state.half_done(written[0]) == []
    assert runs.redo() == []
    assert len(written) == 1

    runs.preview()
    assert runs.up(ending()).report()["refreshed"] is True
    assert runs.refreshed == [True, True]


def test_what_is_half_done_isnt_worn_while_operations_are_pending(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = {"deployment": {"resources": [], "pending_operations": [{"type": "creating", "resource": {}}]}}
    monkeypatch.setattr(state, "exported", lambda _stack: begun)
    runs = Runs()
    runs.half_done = [f"{RELEASE}cluster-1-agent"]

    with pytest.raises(UsageError, match="recover --stack prod --yes"):
        runs.redo()


@pytest.mark.parametrize(("messages", "signals"), [([], [signal.SIGINT]), (["SIGTERM received; cancelling."], [])])
def test_an_engine_is_told_to_stop_unless_it_has_heard(
    messages: list[str], signals: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Followed(Runs):
        _run = Deployment._run

    def run(on_event: Any, **_: Any) -> None:
        for message in messages:
            on_event(EngineEvent(0, 0, stdout_event=StdoutEngineEvent(message, "always")))
        runs._pass_on(1)

    sent: list[int] = []
    engine = SimpleNamespace(children=lambda: [SimpleNamespace(send_signal=sent.append)])
    monkeypatch.setattr(deployment.psutil, "Process", lambda: engine)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    runs = Followed()
    runs.settings.workers = {}
    runs._options = {}
    runs._engine = SimpleNamespace(workspace=SimpleNamespace(env_vars={}))

    runs._run(run, dry=False)

    assert sent == signals


def test_a_run_that_only_looks_and_hangs_is_told_to_stop_and_then_to_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Followed(Runs):
        _run = Deployment._run

    def hang(**_: Any) -> None:
        awaited(lambda: len(sent) == 2, 20)
        raise create_command_error(CommandResult("", "error: preview canceled", 255))

    sent: list[int] = []
    engine = SimpleNamespace(children=lambda: [SimpleNamespace(send_signal=sent.append)])
    monkeypatch.setattr(deployment.psutil, "Process", lambda: engine)
    monkeypatch.setattr(deployment, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(deployment, "END_SECONDS", 0.1)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    runs = Followed()
    runs.settings.workers = {}
    runs._options = {}
    runs._engine = SimpleNamespace(name="prod", preview=hang, workspace=SimpleNamespace(env_vars={}))

    with pytest.raises(UsageError, match="can't look at prod: preview canceled"):
        runs.planned()

    assert sent == [signal.SIGINT, signal.SIGINT]


def test_a_terminal_that_is_gone_ends_no_engine() -> None:
    before = signal.getsignal(signal.SIGHUP)

    with Deployment._interruptible(Runs()):
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, "the engine inherits that it is ignored"

    assert signal.getsignal(signal.SIGHUP) is before


def test_an_engine_is_told_to_stop_where_there_is_no_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs()
    told: list[int] = []
    monkeypatch.setattr(deployment, "HEARD_WITHIN", 0)
    monkeypatch.setattr(runs, "_pass_on", told.append)
    monkeypatch.setattr(sys, "stdin", None)

    with Deployment._interruptible(runs):
        signal.raise_signal(signal.SIGINT)
        awaited(lambda: told, 20)

    assert told == [1]


class Cut(Runs):
    """A deployment whose CLI ends as it is told."""

    _run = Deployment._run

    def __init__(self, code: int, complaint: str) -> None:
        super().__init__()
        self.settings.workers = {}
        self._options = {}
        self._engine = SimpleNamespace(name="prod", workspace=SimpleNamespace(env_vars={}))
        self._result = CommandResult("updating…\n +  Secret creating (0s)", complaint, code)

    def run(self, **_: Any) -> None:
        raise create_command_error(self._result)


def test_a_cli_that_is_killed_is_told_with_what_shows_what_it_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    runs = Cut(-9, "")

    (told,) = runs._run(runs.run, dry=False).errors

    assert "killed by signal 9" in told
    assert "python -m operations recover --stack prod" in told


@pytest.mark.parametrize("dry", [True, False])
@pytest.mark.parametrize(
    "complaint",
    [
        "error: [409] Conflict: Another update is currently in progress.\nTo learn more, visit https://www.pulumi.com",
        "error: [409] Another update is currently in progress.",
        "error: the stack is currently locked by 1 lock(s). Either wait for the other process(es) to end",
    ],
)
def test_a_run_that_another_update_refuses_is_told_with_what_shows_whose_it_is(
    complaint: str, dry: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    runs = Cut(255, complaint)

    with pytest.raises(LockedError, match="python -m operations recover --stack prod"):
        runs._run(runs.run, dry=dry)


def test_a_preview_that_the_cli_refuses_could_not_look(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    runs = Cut(255, "error: incorrect passphrase")

    with pytest.raises(UsageError, match="can't look at prod: incorrect passphrase"):
        runs._run(runs.run, dry=True)
    assert runs._run(runs.run, dry=False).errors == ["incorrect passphrase"]


@pytest.mark.parametrize(
    ("dry", "refreshed", "told"),
    [
        (False, True, "What is there was left alone."),
        (False, False, "Nothing was refreshed."),
        (True, True, "What would change there isn't shown."),
        (True, False, "Nothing was refreshed."),
    ],
)
def test_a_silent_cluster_is_told_last_and_ends_an_up_with_1(
    dry: bool, refreshed: bool, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    deployed: Any = SimpleNamespace(unreachable={"cluster-1": "refused"}, renewed=lambda _: False)
    progress = ending()
    progress.dry, progress.refreshed = dry, refreshed

    with pytest.raises(typer.Exit) as left:
        verbs._finish(deployed, progress, False, silent=deployed.unreachable)

    assert left.value.exit_code == (0 if dry else 1)
    assert f"cluster-1: no answer. {told}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "refreshed", "skipped"),
    [({"a": "update"}, True, "false"), ({}, False, "false"), ({}, True, "true")],
)
def test_an_up_saves_as_it_goes_unless_a_refreshed_preview_found_nothing(
    changed: dict[str, str], refreshed: bool, skipped: str
) -> None:
    planned = ending(changed=changed)
    planned.refreshed = refreshed
    runs = Runs(ending())

    runs.up(planned)

    assert runs._engine.workspace.env_vars["PULUMI_SKIP_CHECKPOINTS"] == skipped


@pytest.mark.parametrize(
    ("looked", "drifted", "again"), [(False, False, True), (True, True, True), (True, False, False)]
)
def test_an_up_refreshes_anew_unless_the_clusters_were_seen_to_have_what_the_state_says(
    looked: bool, drifted: bool, again: bool
) -> None:
    planned = ending(changed={"a": "update"})
    planned.refreshed, planned.drifted = looked, drifted
    runs = Runs(ending())

    assert runs.up(planned).report()["refreshed"] is True
    assert runs.refreshed == [again]
