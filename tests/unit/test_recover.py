"""What a crash leaves: locks, providers, Helm's records and the state, judged without an engine or a cluster."""

import base64
import copy
import gzip
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from pulumi.automation.events import StepEventMetadata
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection
from urllib3.exceptions import NewConnectionError, ProxyError, ReadTimeoutError

from components.settings import Settings
from operations import backend, forget, helm_records, leftovers, lock, recover, state
from operations.api import Refused, Unanswered
from operations.everywhere import Looked
from operations.forget import Farewell
from operations.helm_records import Records, Release, judged
from operations.lock import Lock
from operations.preflight import remembered
from operations.preflight.clusters import ANOTHER_CLUSTER
from operations.recover import Recovery
from operations.stack import PROJECT_FOLDER, UsageError

HOST = socket.gethostname()
SECRET = object()
UNREACHED = Unanswered("refused")
UNREACHED.__cause__ = NewConnectionError(HTTPConnection("127.0.0.1"), "refused")
NOW = datetime.now(UTC)


def urn(type: str, name: str) -> str:
    return f"urn:pulumi:prod::gloo-mesh::{type}::{name}"


def on(cluster: str) -> str:
    return f"{urn(state.PROVIDER, cluster)}::{cluster}-id"


def entry(type: str, name: str, **more: Any) -> dict[str, Any]:
    return {"urn": urn(type, name), "type": type, "custom": True, "id": name, **more}


def provider(cluster: str) -> dict[str, Any]:
    return entry(state.PROVIDER, cluster, inputs={"kubeconfig": "kubeconfig", "context": cluster}) | {
        "id": f"{cluster}-id"
    }


def secret(name: str, cluster: str, **more: Any) -> dict[str, Any]:
    inputs = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "gloo-mesh"}}
    return entry("kubernetes:core/v1:Secret", name, provider=on(cluster), inputs=inputs, **more)


def release(name: str, cluster: str, **more: Any) -> dict[str, Any]:
    inputs = {"name": name, "namespace": "gloo-mesh", "chart": "charts/x.tgz", "values": {"licenseKey": "ciphertext"}}
    return entry(state.RELEASE, name, provider=on(cluster), inputs=inputs, **more)


def document(*resources: dict[str, Any], pending: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"version": 3, "deployment": {"resources": list(resources), "pending_operations": pending or []}}


def names(of: dict[str, Any]) -> list[str]:
    return [state.name(resource["urn"]) for resource in state.entries(of)]


def locked(**changes: Any) -> Lock:
    return Lock(**{"user": "anna", "host": HOST, "pid": 1, "since": NOW} | changes)


@pytest.fixture
def stranger() -> Any:
    """A process that isn't Pulumi."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_a_lock_of_a_process_that_ended_is_left() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()

    assert locked(pid=ended.pid).finding("prod").kind.code == "lock-left"


def test_a_number_that_somebody_else_has_by_now_doesnt_count(stranger: subprocess.Popen[bytes]) -> None:
    assert locked(pid=stranger.pid).running is False


def test_a_pulumi_that_started_after_the_lock_was_taken_doesnt_hold_it(tmp_path: Path) -> None:
    with pulumi(tmp_path) as process:
        assert locked(pid=process.pid, since=NOW - timedelta(days=1)).running is False
        assert locked(pid=process.pid, since=datetime.now(UTC)).running is True
        assert locked(pid=process.pid, since=datetime.now(UTC)).finding("prod").kind.code == "lock-held"


def test_a_lock_of_another_machine_is_never_taken_for_left() -> None:
    finding = locked(host="ci-runner-7").finding("prod")

    assert finding.kind.code == "lock-held"
    assert "anna on ci-runner-7, process 1" in finding.what
    assert "--force" in finding.remedy


def test_a_backend_that_says_no_more_than_that_it_is_busy_is_told_so() -> None:
    assert "doesn't say whose" in Lock("", "", 0, NOW).finding("prod").what


def test_a_file_backends_locks_are_read_with_gos_nanoseconds(tmp_path: Path) -> None:
    folder = tmp_path / ".pulumi/locks/organization/gloo-mesh/prod"
    folder.mkdir(parents=True)
    written = {"pid": 7, "username": "anna", "hostname": "h", "timestamp": "2026-11-26T10:00:00.123456789+01:00"}
    (folder / "a.json").write_text(json.dumps(written))

    (found,) = lock._files(tmp_path, "prod")

    assert (found.user, found.host, found.pid) == ("anna", "h", 7)
    assert found.since == datetime(2026, 11, 26, 9, 0, 0, 123456, UTC)
    assert list(lock._files(tmp_path, "other")) == []


def test_a_lock_that_was_cut_off_while_it_was_written_is_left(tmp_path: Path) -> None:
    folder = tmp_path / ".pulumi/locks/organization/gloo-mesh/prod"
    folder.mkdir(parents=True)
    (folder / "a.json").write_text('{"pid": 7, "user')

    (found,) = lock._files(tmp_path, "prod")

    assert found.finding("prod").kind.code == "lock-left"


LOCKED = """\
error: the stack is currently locked by 1 lock(s). Either wait for the other process(es) to end or delete the \
lock file with `pulumi cancel`.
  s3://bucket/.pulumi/locks/organization/gloo-mesh/prod/8a.json: \
created by anna@ci-runner-7 (pid 4711) at 2026-11-26T10:00:00Z
"""


def bucket(folder: Path, monkeypatch: pytest.MonkeyPatch, complaint: str) -> None:
    """A CLI whose backend is a bucket, and what it says when it is to make the stack."""
    (folder / "complaint").write_text(complaint)
    command_line(
        folder,
        monkeypatch,
        f"""\
test "$1" = whoami && echo '{{"url": "s3://bucket"}}' && exit
cat '{folder}/complaint' >&2; exit 255
""",
    )


def command_line(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A CLI of Pulumi's that is a script."""
    (folder / "pulumi").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "pulumi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_a_bucket_that_cant_be_asked_is_no_bucket_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket(tmp_path, monkeypatch, "error: AccessDenied: not yours")

    with pytest.raises(UsageError, match="can't see who holds prod: AccessDenied: not yours"):
        lock.locks("prod")


def test_a_stack_of_a_bucket_that_nobody_holds_has_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket(tmp_path, monkeypatch, "error: stack 'organization/gloo-mesh/prod' already exists")

    assert lock.locks("prod") == []


def test_locks_of_other_backends_are_read_from_what_the_cli_complains_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket(tmp_path, monkeypatch, LOCKED)

    (found,) = lock.locks("prod")

    assert (found.user, found.host, found.pid) == ("anna", "ci-runner-7", 4711)
    assert found.since == datetime(2026, 11, 26, 10, tzinfo=UTC)


@pytest.mark.parametrize("console", ["https://app.pulumi.com/anna", ""])
def test_an_update_that_a_service_knows_of_is_told_whether_or_not_it_has_a_console(
    console: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stacks = [{"name": "anna/gloo-mesh/prod", "updateInProgress": True}, {"name": "anna/gloo-mesh/lab"}]
    answers = {"whoami": {"url": console}, "stack": stacks}
    for command, answer in answers.items():
        (tmp_path / command).write_text(json.dumps(answer))
    command_line(tmp_path, monkeypatch, f"cat '{tmp_path}'/$1")

    (found,) = lock.locks("prod")

    assert found.finding("prod").kind.code == "lock-held"
    assert lock.locks("lab") == []


def test_a_state_isnt_put_back_while_somebody_holds_the_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket(tmp_path, monkeypatch, LOCKED)

    with pytest.raises(UsageError, match="Another update of prod runs, or left its lock"):
        state.put_back("prod", {})


def test_a_provider_whose_engine_is_gone_is_found_and_ended_and_others_are_let_be(tmp_path: Path) -> None:
    with socket.socket() as engine:
        engine.bind(("127.0.0.1", 0))
        engine.listen()
        alive = f"127.0.0.1:{engine.getsockname()[1]}"
        with (
            plugin(tmp_path, "127.0.0.1:1") as left,
            plugin(tmp_path, alive) as working,
            plugin(tmp_path, "127.0.0.1:1", folder=tmp_path) as elsewhere,
        ):
            ours = [
                process for process in leftovers.providers() if process.pid in (left.pid, working.pid, elsewhere.pid)
            ]
            found = [finding for finding in leftovers.findings("prod") if finding.kind.code == "provider-left"]
            leftovers._end(ours)

            assert [process.pid for process in ours] == [left.pid]
            assert left.poll() is not None
            assert working.poll() is None
            assert elsewhere.poll() is None
    assert [f"Process {left.pid}, pulumi-resource-kubernetes" in finding.what for finding in found].count(True) == 1


def test_a_killed_runs_temporary_files_are_found_and_deleted_and_a_living_ones_are_let_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with leftovers.scratch() as living:
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        left = tmp_path / f"gloo-mesh-run-{ended.pid}-x"
        left.mkdir()
        (left / "kubeconfig1").write_text("credentials")

        (finding,) = [found for found in leftovers.findings("prod") if found.kind.code == "credentials-left"]
        for folder in leftovers.folders():
            shutil.rmtree(folder)

        assert str(left) in finding.what
        assert [path.name for path in tmp_path.iterdir()] == [Path(living).name]


def test_a_login_that_hangs_is_told_before_the_engine_would_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging:
        settings = SimpleNamespace(clusters=[])

        @property
        def unreachable(self) -> dict[str, str]:
            raise UsageError("cluster-1 can't be entered")

        def planned(self) -> Any:
            pytest.fail("the engine was started")

    monkeypatch.setattr(state, "exported", lambda _stack: document())
    deployment: Any = Hanging()

    with pytest.raises(UsageError, match="can't be entered"):
        recover.found(deployment, "prod")


@pytest.fixture
def removed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stacks whose lock, of which there is one, has been removed."""
    gone: list[str] = []
    monkeypatch.setattr(leftovers, "remove", lambda: None)
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


@pytest.mark.skipif(os.getuid() != 0, reason="giving a folder to somebody else takes root")
def test_another_users_folder_is_that_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (theirs := tmp_path / f"gloo-mesh-run-{1 << 22}-x").mkdir()
    assert leftovers.folders() == [theirs]

    os.chown(theirs, 4711, -1)

    assert leftovers.folders() == []


def test_clusters_that_another_namespace_is_on_are_strangers(config: dict[str, Any]) -> None:
    settings = Settings.parse(config, ("licenseKey",))
    live = {"management": {"uid": "m"}, "cluster-1": {"uid": "another"}, "cluster-2": None}

    class Api:
        def __init__(self, cluster: Any) -> None:
            self.cluster = cluster

        def named(self, path: str) -> Any:
            assert path == "/api/v1/namespaces/gloo-mesh"
            return live[self.cluster.name]

    def look(clusters: Any, at: Any, _seconds: float) -> Looked[Any]:
        return Looked({cluster.name: at(cluster, Api(cluster)) for cluster in clusters}, {})

    made = [
        entry("kubernetes:core/v1:Namespace", f"{name}-namespace")
        | {"id": "gloo-mesh", "provider": on(name), "outputs": {"metadata": {"uid": name[0]}}}
        for name in live
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remembered, "look", look)
        (finding,), unseen = remembered.strangers(document(*made), settings.clusters, "gloo-mesh")

    assert (finding.kind.code, finding.where) == ("another-cluster", "cluster-1")
    assert "has UID another; this stack's has c" in finding.what
    assert not unseen


KNOWN = {"known": True, "begun": False, "again": False, "wanted": True}
NEW = KNOWN | {"known": False}


@pytest.mark.parametrize(
    ("statuses", "release", "removed", "failed", "more"),
    [
        ({1: "deployed"}, KNOWN, [], [], []),
        ({1: "failed"}, KNOWN, [], [], ["misjudged", "again"]),
        ({1: "failed", 2: "deployed"}, KNOWN, [], [], []),
        ({1: "deployed", 2: "failed"}, KNOWN, [], [], ["misjudged", "again"]),
        ({1: "deployed", 2: "failed"}, KNOWN | {"again": True}, [], [], []),
        ({1: "deployed", 2: "failed"}, KNOWN | {"wanted": False}, [], [], []),
        ({}, NEW, [], [], []),
        ({1: "pending-install"}, NEW, [1], [], []),
        ({1: "failed"}, NEW, [1], [], []),
        ({1: "deployed"}, NEW, [], [], ["unknown", "again"]),
        ({1: "superseded", 2: "deployed", 3: "pending-upgrade"}, KNOWN, [], [3], ["again"]),
        ({1: "deployed", 2: "pending-rollback"}, KNOWN, [], [2], ["again"]),
        ({1: "deployed", 2: "pending-upgrade"}, NEW, [], [2], ["unknown", "again"]),
        ({1: "superseded", 2: "uninstalling"}, KNOWN, [], [2], ["again"]),
        ({1: "uninstalling"}, KNOWN | {"wanted": False}, [], [], []),
        ({1: "superseded", 2: "uninstalled"}, NEW, [1, 2], [], []),
        ({1: "superseded", 2: "uninstalled"}, KNOWN, [], [2], ["again"]),
        ({1: "uninstalled"}, KNOWN | {"wanted": False}, [], [], []),
        ({1: "pending-install"}, KNOWN, [], [1], ["again"]),
    ],
)
def test_each_release_comes_to_what_lets_the_next_up_past_it(
    statuses: dict[int, str], release: dict[str, bool], removed: list[int], failed: list[int], more: list[str]
) -> None:
    found = judged(
        Release("urn", "cluster-1", "gloo-mesh", "enterprise-agent", **release), Records(statuses, ours=True)
    )

    assert (list(found.removed), list(found.failed)) == (removed, failed)
    assert [name for name in ("unknown", "misjudged", "again") if getattr(found, name)] == more


@pytest.mark.parametrize("status", ["deployed", "failed", "pending-install"])
def test_a_strangers_release_is_neither_taken_in_nor_cleared_away(status: str) -> None:
    release = Release("urn", "cluster-1", "gloo-mesh", "enterprise-agent", **NEW)

    found = judged(release, Records({1: status}))

    assert (found.removed, found.failed, found.unknown) == ((), (), False)


def test_a_release_whose_creation_was_under_way_is_taken_in_whoever_wrote_its_record() -> None:
    release = Release("urn", "cluster-1", "gloo-mesh", "enterprise-agent", **NEW | {"begun": True})

    assert judged(release, Records({1: "deployed"})).unknown


def test_a_secret_that_is_only_labelled_like_a_record_is_none() -> None:
    labels = {"owner": "helm", "name": "enterprise-agent", "status": "deployed"}
    secrets = [{"labels": labels | {"version": version}} for version in ("latest", "1")]

    found = helm_records.read(None, secrets)

    assert found == {"enterprise-agent": Records({1: "deployed"})}


def test_a_record_that_is_marked_as_failed_keeps_all_it_knows() -> None:
    record = {"name": "a", "version": 2, "info": {"status": "pending-upgrade", "notes": "n"}, "manifest": "m" * 1000}
    packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(record).encode()))).decode()

    marked = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(helm_records.failed(packed)))))

    assert marked == record | {"info": {"status": "failed", "notes": "n", "description": helm_records.REFUSED}}


def test_what_exists_comes_behind_what_it_leans_on_and_nothing_stays_pending() -> None:
    before = document(provider("cluster-1"), pending=[{"type": "creating", "resource": secret("root", "cluster-1")}])
    whole = copy.deepcopy(before)
    found = secret("root", "cluster-1", dependencies=[urn("x", "gone"), urn(state.PROVIDER, "cluster-1")])

    after = state.adopted(before, [found])

    assert names(after) == ["cluster-1", "root"]
    assert state.entries(after)[1]["dependencies"] == [urn(state.PROVIDER, "cluster-1")]
    assert state.pending(after) == []
    assert before == whole, "the document that was exported was changed"


def test_what_was_being_replaced_still_has_to_go() -> None:
    old, new = secret("root", "cluster-1") | {"id": "old/root"}, secret("root", "cluster-1") | {"id": "new/root"}
    after = state.entries(state.adopted(document(provider("cluster-1"), old), [new]))

    assert [(e["id"], e.get("delete", False)) for e in after[1:]] == [("new/root", False), ("old/root", True)]


def test_what_was_deleted_to_be_replaced_is_the_new_one_alone() -> None:
    old = secret("root", "cluster-1", pendingReplacement=True)
    after = state.entries(state.adopted(document(provider("cluster-1"), old), [secret("root", "cluster-1")]))

    assert [e.get("pendingReplacement", False) for e in after[1:]] == [False]


def test_what_the_state_has_already_is_not_taken_in_twice() -> None:
    before = document(provider("cluster-1"), secret("root", "cluster-1"))

    assert names(state.adopted(before, [secret("root", "cluster-1")])) == ["cluster-1", "root"]


def test_a_release_is_taken_in_without_its_values_and_they_are_secret_when_they_are_read() -> None:
    taken = state.minimal(release("enterprise-agent", "cluster-1"))

    assert taken["inputs"]["values"] == state._SECRET | {"plaintext": "{}"}
    assert "ciphertext" not in json.dumps(taken)
    assert taken["additionalSecretOutputs"] == ["values"]


def test_a_release_that_is_half_gone_is_known_too_little_to_pass_for_unchanged() -> None:
    whole = release("enterprise-agent", "cluster-1", dependencies=["others"], outputs={"values": "ciphertext"})
    whole["inputs"]["maxHistory"] = 10

    (_, worn), (_, kept) = (
        state.entries(state.worn(document(provider("cluster-1"), whole), urns)) for urns in ({whole["urn"]}, set())
    )

    assert set(worn["inputs"]) == {"name", "namespace", "chart", "values"}
    assert (worn["id"], worn["dependencies"]) == (whole["id"], ["others"])
    assert kept == whole
    assert (state.again(worn), state.again(kept)) == (True, False)


def test_what_failed_is_half_done_until_it_is_worn() -> None:
    whole = release("enterprise-agent", "cluster-1", initErrors=["timed out"])
    whole["inputs"]["maxHistory"] = 10
    failed = document(provider("cluster-1"), whole)

    worn = state.worn(failed, state.half_done(failed))

    assert state.half_done(failed) == [whole["urn"]]
    assert state.half_done(worn) == []
    assert state.again(state.entries(worn)[-1])


def test_an_object_that_isnt_ready_is_no_release_that_failed() -> None:
    assert state.half_done(document(secret("root", "cluster-1", initErrors=["not ready"]))) == []


def test_an_object_is_taken_in_by_its_name_alone() -> None:
    whole = secret("root", "cluster-1")
    whole["inputs"]["data"] = {"ca.crt": "[secret]"}

    assert state.minimal(whole)["inputs"] == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "root", "namespace": "gloo-mesh"},
    }


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


def fleet() -> dict[str, Any]:
    """Two workers, with what else depends on the second."""
    worker = urn("gloo-mesh:index:WorkerCluster", "cluster-2")
    resources = [
        provider("management"),
        provider("cluster-1"),
        provider("cluster-2"),
        entry("gloo-mesh:index:ManagementPlane", "management") | {"custom": False},
        entry("gloo-mesh:index:WorkerCluster", "cluster-1") | {"custom": False},
        entry("gloo-mesh:index:WorkerCluster", "cluster-2") | {"custom": False},
        entry("gloo-mesh:index:Addons", "cluster-2-addons") | {"custom": False},
        # Named as people may name a worker's neighbour; it has nothing to do with it.
        entry("gloo-mesh:index:Fleet", "cluster-2-addons") | {"custom": False},
        secret("root-1", "cluster-1"),
        secret("root-2", "cluster-2", parent=worker),
        entry("kubernetes:multicluster.solo.io/v1alpha1:KubernetesCluster", "registration-2", parent=worker)
        | {"provider": on("management")},
        secret("record", "management", dependencies=[urn("kubernetes:core/v1:Secret", "root-2"), worker])
        | {"propertyDependencies": {"data": [urn("kubernetes:core/v1:Secret", "root-2")]}},
    ]
    return document(*resources)


def test_forgetting_a_worker_drops_all_of_it_and_nothing_of_another_cluster() -> None:
    gone = set(forget._urns(fleet(), "cluster-2"))

    after = state.without(fleet(), gone)

    assert sorted(map(state.name, gone)) == ["cluster-2", "cluster-2", "cluster-2-addons", "registration-2", "root-2"]
    kept = {resource["urn"]: resource for resource in state.entries(after)}
    before = {resource["urn"]: resource for resource in state.entries(fleet())}
    record = urn("kubernetes:core/v1:Secret", "record")
    assert kept[record]["dependencies"] == []
    assert kept[record]["propertyDependencies"] == {"data": []}
    assert {u: r for u, r in kept.items() if u != record} == {
        u: r for u, r in before.items() if u not in gone | {record}
    }


def test_forgetting_the_management_cluster_keeps_every_worker() -> None:
    gone = set(forget._urns(fleet(), "management"))

    assert sorted(map(state.name, gone)) == ["management", "record", "registration-2"]


@pytest.mark.parametrize(
    ("remembered", "configured", "lives"),
    [
        (UNREACHED, UNREACHED, False),
        ("the UID", UNREACHED, True),
        (UNREACHED, "the UID", True),
        (None, UNREACHED, True),
        (Refused(401, "Unauthorized", "no"), UNREACHED, True),
        # A new cluster under the old name or at the old address is not the one that was lost.
        (UNREACHED, "another", False),
        (UNREACHED, None, False),
        ("another", "another", False),
        # Where the state's kubeconfig is a secret, what is configured is all there is to go by.
        (SECRET, None, True),
        (SECRET, "another", False),
    ],
)
def test_a_cluster_is_gone_when_the_one_that_the_state_knows_answers_nowhere(
    remembered: object, configured: object, lives: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"cluster-2": remembered, "moved": configured}

    class Answering:
        def __init__(self, cluster: Any, until: float) -> None:
            self.answer = answers[cluster.context]

        def get(self, path: str) -> Any:
            if isinstance(self.answer, Exception):
                raise self.answer
            return {"metadata": {"uid": self.answer}} if self.answer else None

    monkeypatch.setattr(forget, "Api", Answering)
    outputs = {"kind": "Namespace", "metadata": {"name": "gloo-mesh", "uid": "the UID"}}
    namespace = entry("kubernetes:core/v1:Namespace", "namespace", provider=on("cluster-2"), outputs=outputs)
    settings = Settings.model_validate(
        {
            "version": "1.2.9",
            "management": {"context": "mgmt-cluster"},
            "workers": {"cluster-2": {"context": "moved"}},
            "dashboard": {"authentication": "none"},
        }
    )
    deployment: Any = SimpleNamespace(settings=settings, file=Path("Pulumi.prod.yaml"))

    known = provider("cluster-2")
    if remembered is SECRET:
        known["inputs"]["kubeconfig"] = {"ciphertext": "v1:4711"}

    answer = forget._answer(deployment, document(known, namespace), "cluster-2")

    assert bool(answer) is lives


def test_a_cluster_that_cant_be_entered_isnt_taken_for_gone_unless_its_context_is_gone_too(
    config: dict[str, Any],
) -> None:
    settings = Settings.parse(config, ("licenseKey",))
    deployment: Any = SimpleNamespace(settings=settings, file=Path("Pulumi.prod.yaml"))
    kubeconfig = {
        "contexts": [{"name": "cluster-2", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"exec": {"command": "/bin/false"}}}],
    }
    Path("kubeconfig").write_text(json.dumps(kubeconfig))
    known = provider("cluster-2") | {"inputs": {"kubeconfig": "kubeconfig", "context": "cluster-2"}}

    with pytest.raises(
        UsageError, match=r"Whether cluster-2 \(context cluster-2\) lives can't be seen: .*false failed"
    ):
        forget._answer(deployment, document(known), "cluster-2")

    Path("kubeconfig").unlink()
    with pytest.raises(UsageError, match=r"lives can't be seen: its kubeconfig is kubeconfig"):
        forget._answer(deployment, document(known), "cluster-2")

    Path("kubeconfig").write_text(json.dumps(kubeconfig | {"contexts": []}))
    assert forget._answer(deployment, document(known), "cluster-2") is None


@pytest.mark.parametrize(
    "cause",
    [
        ssl.SSLCertVerificationError(1, "self-signed certificate"),
        ReadTimeoutError(HTTPConnectionPool("127.0.0.1"), "/", "slow"),
        ProxyError("down", NewConnectionError(HTTPConnection("127.0.0.1"), "refused")),
        ModuleNotFoundError("socks"),
        TimeoutError(),
        None,
    ],
)
def test_what_may_be_this_machines_fault_is_no_proof_that_a_cluster_is_gone(
    cause: Exception | None, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent:
        def __init__(self, *_: object) -> None:
            raise Unanswered("silence") from cause

    monkeypatch.setattr(forget, "Api", Silent)
    deployment: Any = SimpleNamespace(settings=Settings.parse(config, ("licenseKey",)), file=Path("Pulumi.prod.yaml"))

    with pytest.raises(UsageError, match=r"lives can't be seen: silence"):
        forget._answer(deployment, document(provider("cluster-2")), "cluster-2")


@pytest.mark.parametrize("meanwhile", ["a lock", "an operation"])
def test_nothing_is_forgotten_where_an_update_has_begun_meanwhile(
    meanwhile: str, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = [{"type": "creating", "resource": secret("root", "cluster-1")}] if meanwhile == "an operation" else []
    monkeypatch.setattr(state, "opened", lambda _: None)
    monkeypatch.setattr(state, "exported", lambda _: document(pending=begun))
    monkeypatch.setattr(lock, "locks", lambda _: [locked()] if meanwhile == "a lock" else [])
    deployment: Any = SimpleNamespace(settings=Settings.parse(config, ("licenseKey",)))

    with pytest.raises(UsageError, match="has begun meanwhile; nothing is forgotten"):
        forget.forget(deployment, "prod", Farewell(deregistered=["cluster-2"]))


def test_a_registration_on_a_strangers_cluster_is_left_alone(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    registered = entry("kubernetes:multicluster.solo.io/v1alpha1:KubernetesCluster", "registration-2") | {
        "inputs": {"metadata": {"name": "cluster-2"}},
        "provider": on("management"),
        "parent": urn("gloo-mesh:index:WorkerCluster", "cluster-2"),
    }
    worker = entry("gloo-mesh:index:WorkerCluster", "cluster-2")
    stranger = ANOTHER_CLUSTER.found("management", "Namespace gloo-mesh has another UID.", "Mend the context.")
    monkeypatch.setattr(lock, "locks", lambda _: [])
    monkeypatch.setattr(forget, "_answer", lambda *_: None)
    monkeypatch.setattr(remembered, "strangers", lambda *_: ([stranger], {}))
    deployment: Any = SimpleNamespace(
        settings=Settings.parse(config, ("licenseKey",)), exported=document(provider("cluster-2"), worker, registered)
    )

    farewell = forget.farewell(deployment, "prod", "cluster-2")

    assert "Another fleet's cluster-2 may be registered there." in farewell.refusal
    assert not farewell.deregistered

    monkeypatch.setattr(remembered, "strangers", lambda *_: ([], {"management": Refused(403, "Forbidden", "no")}))
    with pytest.raises(UsageError, match=r"cluster-2 is registered, can't be asked: answers 403 Forbidden"):
        forget.farewell(deployment, "prod", "cluster-2")


class pulumi:  # noqa: N801 - read as a clause
    """A process that is called as Pulumi's CLI is."""

    command = "pulumi"
    arguments: tuple[str, ...] = ()
    folder: Path | None = None

    def __init__(self, folder: Path) -> None:
        self.executable = folder / self.command
        if not self.executable.exists():
            self.executable.symlink_to("/bin/sleep")

    def __enter__(self) -> subprocess.Popen[bytes]:
        self.process = self.start()
        # Between fork and exec it has this process's name.
        while psutil.Process(self.process.pid).cmdline()[:1] == [sys.executable]:
            time.sleep(0.01)
        return self.process

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen([self.executable, "60"])

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


class plugin(pulumi):  # noqa: N801
    """A process that is called as a provider is, by an engine at an address."""

    command = "pulumi-resource-kubernetes"

    def __init__(self, at: Path, address: str, folder: Path = PROJECT_FOLDER) -> None:
        self.executable = at / self.command
        if not self.executable.exists():
            self.executable.write_text("#!/bin/sh\nread line\n")
            self.executable.chmod(0o755)
        self.address, self.within = address, folder

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen([self.executable, self.address], cwd=self.within, stdin=subprocess.PIPE)


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

    monkeypatch.setattr(recover.state, "exported", lambda _: {"deployment": {"resources": []}})
    monkeypatch.setattr(recover.state, "put_back", put_back)
    monkeypatch.setattr(recover, "look", look)
    release = Release("urn", "cluster-1", "gloo-mesh", "enterprise-agent", **KNOWN)
    cut_off = judged(release, Records({1: "deployed", 2: "pending-upgrade"}))
    nothing: Any = None

    with pytest.raises(UsageError) if refused else nullcontext():
        recover.mend(nothing, "prod", Recovery(judgements=[cut_off]))

    assert done == (["state"] if refused else ["state", "records"])


def test_a_description_that_was_cut_off_is_found_of_this_stack_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ".pulumi/stacks/gloo-mesh"
    folder.mkdir(parents=True)
    for name in ("prod.json", "prod.json.bak", "prod.json.gz", "other.json"):
        (folder / f"{name}.attrs").write_text("")
    (folder / "prod.json.bak.attrs").write_text("{}")
    (folder / "prod.json.gz.attrs").write_text('{"user.')
    monkeypatch.setattr(backend, "url", lambda: f"file://{tmp_path}?no_tmp_dir=true")

    assert backend.cut_off("prod") == [folder / "prod.json.attrs", folder / "prod.json.gz.attrs"]

    monkeypatch.setattr(backend, "url", lambda: "s3://bucket")
    assert backend.cut_off("prod") == []
