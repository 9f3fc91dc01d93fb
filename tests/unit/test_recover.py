"""What a crash leaves, judged without an engine or a cluster, and the order of its removal."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from pulumi.automation.events import StepEventMetadata

from operations import backend, leftovers, lock, recover, state
from operations.helm_records import Records, Release, judged
from operations.lock import Lock, LockedError
from operations.recover import Recovery
from operations.stack import Stack, UsageError
from operations.verbs import recover as verb
from tests.unit.stored import KNOWN, NEW, document, entry, locked, on, provider, secret, urn


def test_a_login_that_hangs_is_told_before_the_engine_would_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging:
        name = "prod"
        settings = SimpleNamespace(clusters=[])

        @property
        def unreachable(self) -> dict[str, str]:
            raise UsageError("cluster-1 can't be entered")

        def planned(self) -> Any:
            pytest.fail("the engine was started")

    monkeypatch.setattr(state, "exported", lambda _stack: document())
    deployment: Any = Hanging()

    with pytest.raises(UsageError, match="can't be entered"):
        recover.found(deployment)


@pytest.fixture
def removed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stacks whose lock, of which there is one, has been removed."""
    gone: list[str] = []
    monkeypatch.setattr(leftovers, "remove", lambda: None)
    monkeypatch.setattr(backend, "cut_off", lambda _stack: [])
    monkeypatch.setattr(lock, "locks", lambda _stack: [locked()])
    monkeypatch.setattr(lock, "remove", gone.append)
    return gone


def test_an_update_that_has_begun_meanwhile_keeps_its_lock_and_ends_the_recovery(
    removed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lock, "running", True)

    with pytest.raises(UsageError, match="which still runs"):
        recover.send_away("prod", force=True)

    assert removed == []


def test_a_lock_that_is_left_goes(removed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lock, "running", False)

    recover.send_away("prod", force=False)

    assert removed == ["prod"]


def test_what_a_killed_cli_left_of_the_state_goes_before_the_lock_that_the_cli_is_to_remove(
    removed: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Lock, "running", False)
    monkeypatch.setattr(backend, "cut_off", lambda _stack: [tmp_path])
    monkeypatch.setattr(backend, "delete", lambda files: removed.extend(map(str, files)))

    recover.send_away("prod", force=False)

    assert removed == [str(tmp_path), "prod"]


@pytest.mark.parametrize(("force", "code"), [(False, 1), (True, 0)])
def test_a_service_that_says_of_an_update_only_when_it_refuses_a_preview_is_believed_and_force_goes_past(
    removed: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], force: bool, code: int
) -> None:
    refusing_previews(monkeypatch, lambda: not removed)
    monkeypatch.setattr(lock, "locks", lambda _stack: [])

    with pytest.raises(typer.Exit) as ended:
        verb.recover("prod", yes=True, force=force)

    assert ended.value.exit_code == code
    assert removed == (["prod"] if force else [])
    assert "lock-held on the backend" in capsys.readouterr().out


def test_an_update_that_begins_after_the_one_that_was_sent_away_is_not(
    removed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing_previews(monkeypatch, lambda: True)
    monkeypatch.setattr(lock, "locks", lambda _stack: [Lock.anonymous()])

    with pytest.raises(LockedError):
        verb.recover("prod", yes=True, force=True)

    assert removed == ["prod"]


def test_what_was_found_is_told_though_the_recovery_breaks_off(
    removed: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refusing_previews(monkeypatch, lambda: False)
    pending = recover.RELEASE_PENDING.found("cluster-1", "Of release enterprise-agent one is pending.", "recover")

    def mend(*_: Any) -> None:
        raise UsageError("What exists is in the state, but can't be refreshed")

    monkeypatch.setattr(Lock, "running", False)
    monkeypatch.setattr(recover, "found", lambda _: Recovery(findings=[pending]))
    monkeypatch.setattr(recover, "mend", mend)

    with pytest.raises(UsageError, match="can't be refreshed"):
        verb.recover("prod", yes=True)

    assert "release-pending on cluster-1" in capsys.readouterr().out


def refusing_previews(monkeypatch: pytest.MonkeyPatch, refuses: Callable[[], bool]) -> None:
    """Have the backend let nobody preview while it refuses; nothing else is to be recovered."""

    def found(_deployment: Any) -> Recovery:
        if refuses():
            raise LockedError("another update is running")
        return Recovery()

    monkeypatch.setattr(verb, "Deployment", lambda *_: None)
    monkeypatch.setattr(Stack, "find", lambda _: SimpleNamespace(environment={}))
    monkeypatch.setattr(leftovers, "findings", lambda _stack: [])
    monkeypatch.setattr(recover, "found", found)
    monkeypatch.setattr(recover, "mend", lambda *_: None)


def told(of: dict[str, Any], existing: dict[str, str], *steps: dict[str, Any], **recovery: Any) -> Recovery:
    """What a recovery says of a state, the steps of a preview, and what exists."""
    events = [StepEventMetadata.from_json(step) for step in steps]
    creations = [*recover._begun(of), *recover._planned(of, events)]
    found = Recovery(**recovery)
    recover._tell(found, of, creations, existing, "prod")
    return found


def creation(resource: dict[str, Any]) -> dict[str, Any]:
    about = {key: resource[key] for key in ("urn", "type")}
    return about | {"op": "create", "provider": resource["provider"], "new": resource | {"parent": "", "id": ""}}


def test_a_pending_creation_is_taken_in_where_it_exists_and_dropped_where_not() -> None:
    there, not_there = secret("root", "cluster-1"), secret("token", "cluster-1")
    key = entry("tls:index/privateKey:PrivateKey", "relay-root-key", provider=f"{urn('pulumi:providers:tls', 'x')}::y")
    pending = [{"type": "creating", "resource": resource} for resource in (there, not_there, key)]

    found = told(document(provider("cluster-1"), pending=pending), {there["urn"]: "gloo-mesh/root"})

    assert [finding.kind.code for finding in found.findings] == ["operation-pending"] * 3
    assert [finding.where for finding in found.findings] == ["cluster-1", "cluster-1", "the state"]
    assert "Secret gloo-mesh/root exists and is taken in" in found.findings[0].what
    assert all("it is dropped" in finding.what for finding in found.findings[1:])
    assert [(taken["urn"], taken["id"]) for taken in found.adopted] == [(there["urn"], "gloo-mesh/root")]
    assert found.adopted[0]["inputs"] == there["inputs"], "of what was begun the engine wrote down everything"


def test_an_object_that_only_the_cluster_knows_is_taken_in() -> None:
    unknown = secret("root", "cluster-1")

    found = told(document(provider("cluster-1")), {unknown["urn"]: "gloo-mesh/root"}, creation(unknown))

    (finding,) = found.findings
    assert finding.kind.code == "object-unknown-to-state"
    assert "Secret gloo-mesh/root exists" in finding.what
    assert found.adopted[0]["provider"] == on("cluster-1")


def test_a_creation_that_hasnt_come_to_pass_is_no_finding() -> None:
    found = told(document(provider("cluster-1")), {}, creation(secret("root", "cluster-1")))

    assert (found.findings, found.adopted) == ([], [])


def test_a_pending_creation_on_a_cluster_that_doesnt_answer_is_told_as_unseen() -> None:
    pending = [{"type": "creating", "resource": secret("root", "cluster-1")}]

    found = told(document(provider("cluster-1"), pending=pending), {}, unseen={"cluster-1": "refused"})

    assert "recover again when that cluster answers" in found.findings[0].what


def test_a_pending_release_is_told_with_what_happens_to_its_record() -> None:
    hung = judged(
        Release("urn", "cluster-1", "gloo-mesh", "enterprise-agent", **NEW), Records({1: "pending-install"}, ours=True)
    )

    found = told(document(provider("cluster-1")), {}, judgements=[hung])

    (finding,) = found.findings
    assert finding.kind.code == "release-pending"
    assert "Of release gloo-mesh/enterprise-agent revision 1 is pending-install; the record goes" in finding.what


@pytest.mark.parametrize("refused", [False, True])
def test_helms_records_come_after_the_state_and_not_at_all_where_that_cant_be_written(
    monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    done: list[str] = []

    def put_back(_stack: str, _state: Any) -> None:
        done.append("state")
        if refused:
            raise UsageError("locked")

    def look(*_: Any) -> Any:
        done.append("records")
        return SimpleNamespace(unseen={})

    monkeypatch.setattr(lock, "locks", lambda _: [])
    monkeypatch.setattr(recover.state, "exported", lambda _: {"deployment": {"resources": []}})
    monkeypatch.setattr(recover.state, "put_back", put_back)
    monkeypatch.setattr(recover, "look", look)
    release = Release("urn", "cluster-1", "gloo-mesh", "enterprise-agent", **KNOWN)
    cut_off = judged(release, Records({1: "deployed", 2: "pending-upgrade"}))
    nothing: Any = SimpleNamespace(name="prod")

    with pytest.raises(UsageError) if refused else nullcontext():
        recover.mend(nothing, Recovery(judgements=[cut_off]))

    assert done == (["state"] if refused else ["state", "records"])


def test_nothing_is_mended_where_an_update_has_begun_while_the_clusters_were_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release = Release("urn", "cluster-1", "gloo-mesh", "enterprise-agent", **NEW)
    under_way = judged(release, Records({1: "pending-install"}, ours=True))
    monkeypatch.setattr(lock, "locks", lambda _: [locked()])
    monkeypatch.setattr(recover, "look", lambda *_: pytest.fail("a record was deleted"))
    nothing: Any = SimpleNamespace(name="prod")

    with pytest.raises(UsageError, match="has begun meanwhile; nothing is recovered"):
        recover.mend(nothing, Recovery(judgements=[under_way]))
