"""A fleet that is cut off, recovered, loses a worker and then its management cluster; each test leaves it converged."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from kubernetes import client

from components.connection import SCRATCH
from lab.cluster import Event, components
from lab.fleet import MANAGEMENT, Lab
from lab.plugins import REPOSITORY
from operations.releases import packed, unpacked
from tests.awaiting import awaited
from tests.bucket import serving
from tests.engine.fleet import NAMESPACES, Fleet, Report, changed, connected

pytestmark = [pytest.mark.engine, pytest.mark.lived_in_order]

STACK = "crash"
PATIENCE = 120


LAB_WORKERS = 1
"""Until the second worker comes."""


@pytest.fixture(scope="module")
def fleet(lab: Lab) -> Fleet:
    """A stack with one worker, not deployed yet."""
    return Fleet(lab, STACK, {"gloo-mesh:workers": {"cluster-1": {}}})


def test_an_up_that_is_killed_while_helm_installs_is_recovered_and_finished(fleet: Fleet) -> None:
    with frozen(fleet.lab, "cluster-1"), up(fleet) as running:
        await_agent(fleet, running, "cluster-1", "pending-install")
        end(command_line(running))
        running.wait(PATIENCE)
        refused = fleet.run("up", "--yes")
        writes, state = fleet.writes(), fleet.pulumi("stack", "export")
        shown = recover(fleet)
        assert (fleet.writes(), fleet.pulumi("stack", "export")) == (writes, state), "looking wrote something"
        done = recover(fleet, "--yes")
        assert_helms_records_alone_were_written(fleet, writes)

    assert refused.returncode == 1
    assert f"python -m operations recover --stack {STACK}" in refused.stderr
    # And nothing of what the killed one was at as somebody else's.
    assert "lock-left" in refused.stderr
    assert "pending-release" not in refused.stderr
    assert shown["code"] == 1
    assert {"lock-left", "release-pending", "operation-pending", "provider-left"} <= codes(shown)
    assert done["code"] == 0
    assert converged(fleet) != {}
    assert statuses(fleet, "cluster-1")["enterprise-agent"] == ["deployed"]


def test_recovery_is_refused_while_an_update_runs_and_an_upgrade_that_is_killed_is_finished_from_the_last_revision(
    fleet: Fleet,
) -> None:
    fleet.configure("defaults", {"resources": {"requests": {"cpu": "70m"}}})
    with frozen(fleet.lab, "cluster-1"), up(fleet) as running:
        await_agent(fleet, running, "cluster-1", "pending-upgrade")
        refused = recover(fleet, "--yes", "--force")
        assert running.poll() is None
        end(psutil.Process(running.pid), command_line(running), *plugins(running))
        running.wait(PATIENCE)
        writes = fleet.writes()
        done = recover(fleet, "--yes")
        assert_helms_records_alone_were_written(fleet, writes)
        again = recover(fleet)

    assert (again["code"], again["findings"]) == (0, [])
    assert (refused["code"], codes(refused)) == (1, {"lock-held"})
    assert done["code"] == 0
    assert {"lock-left", "release-pending", "credentials-left"} <= codes(done)
    assert statuses(fleet, "cluster-1")["enterprise-agent"][-1] == "failed"
    converged(fleet)
    assert statuses(fleet, "cluster-1")["enterprise-agent"][-1] == "deployed"


def test_an_up_that_a_pipeline_gives_up_saves_its_state_and_leaves_nothing_to_recover(fleet: Fleet) -> None:
    fleet.configure("defaults", {"resources": {"requests": {"cpu": "80m"}}})
    with frozen(fleet.lab, "cluster-1"), up(fleet) as running:
        await_agent(fleet, running, "cluster-1", "pending-upgrade")
        running.terminate()
        assert running.wait(PATIENCE) == 1

    assert list(fleet.scratch.iterdir()) == []
    shown = recover(fleet)
    assert (shown["code"], shown["findings"]) == (0, [])
    assert statuses(fleet, "cluster-1")["enterprise-agent"][-1] == "failed"
    # Which only a refresh finds.
    fleet.core("cluster-1").delete_namespaced_secret("relay-identity-token-secret", "gloo-mesh")
    done = changed(fleet.up())["cluster-1"]
    assert done.items() >= {"cluster-1-agent": "update", "cluster-1-relay-token": "create"}.items()
    assert statuses(fleet, "cluster-1")["enterprise-agent"][-1] == "deployed"


def test_a_release_that_failed_and_that_the_state_takes_for_done_is_finished(fleet: Fleet) -> None:
    core: Any = fleet.core("cluster-1")
    (record,) = core.list_namespaced_secret("gloo-mesh-addons", label_selector="owner=helm,status=deployed").items
    core.patch_namespaced_secret(
        record.metadata.name, "gloo-mesh-addons", {"metadata": {"labels": {"status": "failed"}}}
    )

    refused = fleet.run("up", "--yes", "--json")
    done = recover(fleet, "--yes")
    # As somebody's own refresh would, at the wrong moment.
    refresh(fleet)
    assert secrets(fleet) == []

    assert refused.returncode == 1
    assert codes(json.loads(refused.stdout)) == {"failed-release"}
    assert (done["code"], codes(done)) == (0, {"release-failed"})
    assert changed(fleet.up()) == {"cluster-1": {"cluster-1-addons-release": "update"}}
    assert statuses(fleet, "cluster-1")["enterprise-agent-addons"][-1] == "deployed"


def test_what_the_clusters_have_and_the_state_lost_is_taken_in_and_nothing_is_made_twice(fleet: Fleet) -> None:
    begun = ("cluster-1-relay-token", "management-relay-server-tls-secret", "cluster-1-addons-release")
    lost = ("cluster-1-agent", "cluster-1-relay-root", "cluster-1-registration", "cluster-1-namespace", "fleet-record")
    before = identities(fleet)
    with checkpoint(fleet) as deployment:
        taken = [entry for entry in deployment["resources"] if named(entry) in (*begun, *lost) and entry.get("id")]
        urns = {entry["urn"] for entry in taken}
        assert len(urns) == len(begun) + len(lost)
        deployment["resources"] = [
            forgetting(entry, urns) for entry in deployment["resources"] if entry["urn"] not in urns
        ]
        deployment["pending_operations"] = [
            {"type": "creating", "resource": {key: entry[key] for key in entry if key not in ("id", "outputs")}}
            for entry in taken
            if named(entry) in begun
        ]
        key = {"urn": "urn:pulumi:crash::gloo-mesh::tls:index/privateKey:PrivateKey::new-key", "custom": True}
        creating = {"type": "creating", "resource": {**key, "type": "tls:index/privateKey:PrivateKey"}}
        deployment["pending_operations"].append(creating)

    done = recover(fleet, "--yes")

    told = {finding["code"]: [] for finding in done["findings"]}
    for finding in done["findings"]:
        told[finding["code"]].append(finding["what"])
    assert done["code"] == 0
    assert set(told) == {"operation-pending", "object-unknown-to-state"}
    assert len(told["operation-pending"]) == len(begun) + 1
    assert len(told["object-unknown-to-state"]) == len(lost)
    assert [what for what in told["operation-pending"] if "it is dropped" in what] == [
        "new-key was left while creating; it is dropped."
    ]
    assert secrets(fleet) == []
    # Nothing was left by the tests before this one.
    assert {name for names in converged(fleet).values() for name in names} <= {*begun, *lost}
    assert identities(fleet) == before
    assert secrets(fleet) == []


def test_a_strangers_secret_and_release_are_not_taken_in(fleet: Fleet) -> None:
    core: Any = fleet.core("cluster-1")
    core.delete_namespaced_secret("relay-identity-token-secret", "gloo-mesh")
    strange: Any = {"metadata": {"name": "relay-identity-token-secret"}, "stringData": {"token": "strange"}}
    core.create_namespaced_secret("gloo-mesh", strange)
    namespace = core.read_namespace("gloo-mesh-addons").metadata
    core.patch_namespace(namespace.name, written(somebodies(namespace)))
    for record in core.list_namespaced_secret(namespace.name, label_selector="owner=helm").items:
        core.patch_namespaced_secret(record.metadata.name, namespace.name, written(somebodies(record.metadata)))
    with checkpoint(fleet) as deployment:
        names = ("cluster-1-relay-token", "cluster-1-addons-release")
        urns = {entry["urn"] for entry in deployment["resources"] if named(entry) in names}
        deployment["resources"] = [
            forgetting(entry, urns) for entry in deployment["resources"] if entry["urn"] not in urns
        ]

    looked = recover(fleet)

    assert (looked["code"], looked["findings"]) == (0, [])
    core.delete_namespaced_secret("relay-identity-token-secret", "gloo-mesh")
    core.patch_namespace(namespace.name, written([entry.manager for entry in namespace.managed_fields]))
    assert codes(recover(fleet, "--yes")) == {"object-unknown-to-state"}
    converged(fleet)


def test_a_state_that_no_command_can_read_past_what_a_kill_left_is_read_again(fleet: Fleet) -> None:
    whole = fleet.pulumi("stack", "export")
    (file,) = (fleet.lab.root / "state").rglob(f"{STACK}.json")
    file.with_name(f"{file.name}.attrs").write_text("")
    # Whoever was killed just then held the stack, too.
    gone = subprocess.Popen(["true"])
    gone.wait()
    locked(fleet, gone.pid, socket.gethostname())

    refused = fleet.run("up", "--yes")
    shown = recover(fleet)
    done = recover(fleet, "--yes")

    assert refused.returncode == 2
    assert f"EOF. After a crash: python -m operations recover --stack {STACK}" in refused.stderr
    assert (shown["code"], codes(shown)) == (1, {"state-unreadable", "lock-left"})
    assert (done["code"], codes(done)) == (0, {"state-unreadable", "lock-left"})
    assert fleet.pulumi("stack", "export") == whole


def test_a_lock_of_another_machine_goes_by_force_alone(fleet: Fleet) -> None:
    folder = locked(fleet, 1, "ci-runner-7")

    refused = recover(fleet, "--yes")
    assert (refused["code"], codes(refused)) == (1, {"lock-held"})
    assert "anna on ci-runner-7" in refused["findings"][0]["what"]
    assert list(folder.glob("*.json"))

    assert recover(fleet, "--yes", "--force")["code"] == 0
    assert list(folder.glob("*.json")) == []


def test_a_stack_in_a_bucket_is_recovered_in_the_same_way(fleet: Fleet) -> None:
    state, configured = fleet.pulumi("stack", "export"), fleet.file.read_text()
    lock = f".pulumi/locks/organization/gloo-mesh/{STACK}/there.json"
    gone = subprocess.Popen(["true"])
    gone.wait()
    settings = fleet.lab.root / "environment"
    files = settings.read_text()
    with serving() as bucket:
        fleet.environment |= bucket.environment
        # What a lab's commands run in goes before what their caller has.
        settings.write_text(files + "".join(f"{name}='{value}'\n" for name, value in bucket.environment.items()))
        try:
            fleet.pulumi("stack", "init")
            fleet.file.write_text(configured)
            fleet.pulumi("stack", "import", given=state)
            bucket.objects[lock] = held(1, "ci-runner-7").encode()
            refused = recover(fleet, "--yes")
            assert lock in bucket.objects
            bucket.objects[lock] = held(gone.pid, socket.gethostname()).encode()
            shown = recover(fleet)
            assert lock in bucket.objects
            done = recover(fleet, "--yes")
            locks = [key for key in bucket.objects if "/locks/" in key]
            changes = fleet.preview()["changes"]
        finally:
            fleet.environment.clear()
            settings.write_text(files)
            fleet.file.write_text(configured)

    assert (refused["code"], codes(refused)) == (1, {"lock-held"})
    assert "anna on ci-runner-7" in refused["findings"][0]["what"]
    assert (shown["code"], codes(shown)) == (1, {"lock-left"})
    assert (done["code"], codes(done)) == (0, {"lock-left"})
    assert (locks, changes) == ([], {})


REMAINDERS = (
    "lock-left",
    "state-unreadable",
    "operation-pending",
    "credentials-left",
    "provider-left",
    # What comes of it is for the next up to do.
    "release-pending",
)


@pytest.mark.parametrize("code", REMAINDERS)
def test_each_thing_that_a_crash_may_leave_is_told_alone_and_cleared_away(code: str, fleet: Fleet) -> None:
    with left(fleet, code):
        done = recover(fleet, "--yes")

    assert (done["code"], codes(done)) == (0, {code})
    assert list(fleet.scratch.iterdir()) == []


def test_an_up_whose_plugins_are_killed_while_helm_installs_is_recovered_and_finished(fleet: Fleet) -> None:
    fleet.lab.up(2)
    fleet.configure("workers", {"cluster-1": {}, "cluster-2": {}})
    with frozen(fleet.lab, "cluster-2"), up(fleet) as running:
        await_agent(fleet, running, "cluster-2", "pending-install")
        end(*plugins(running))
        assert running.wait(PATIENCE) == 1

        done = recover(fleet, "--yes")

    assert done["code"] == 0
    assert "release-pending" in codes(done)
    assert "lock-left" not in codes(done)
    converged(fleet)
    assert statuses(fleet, "cluster-2")["enterprise-agent"] == ["deployed"]


def test_a_cluster_that_answers_is_not_forgotten(fleet: Fleet) -> None:
    before = fleet.pulumi("stack", "export")

    refused = fleet.run("forget", "cluster-2", "--yes")
    unknown = fleet.run("forget", "cluster-7", "--yes")

    assert refused.returncode == 1
    assert "cluster-2 (context cluster-2) answers, so it isn't gone" in refused.stderr
    assert unknown.returncode == 2
    assert "cluster-1, cluster-2" in unknown.stderr
    assert fleet.pulumi("stack", "export") == before


def test_a_worker_that_is_gone_is_forgotten_alone(fleet: Fleet) -> None:
    fleet.lab.stop("cluster-2")
    versions = fleet.versions(MANAGEMENT, "cluster-1")
    others = entries(fleet, but="cluster-2")

    asked = fleet.run("forget", "cluster-2")
    assert (asked.returncode, set(fleet.registrations())) == (1, {"cluster-1", "cluster-2"})
    # Whether the others answer makes no difference.
    fleet.lab.stop("cluster-1")
    forgotten = fleet.report("forget", "cluster-2", "--yes")
    fleet.lab.start("cluster-1")

    assert forgotten["deregistered"] == ["cluster-2"]
    assert "take cluster-2 out of gloo-mesh:workers" in forgotten["next"]
    assert set(fleet.registrations()) == {"cluster-1"}
    assert entries(fleet, but="") == others
    fleet.configure("workers", {"cluster-1": {}})
    assert changed(fleet.up()) == {"management": {"fleet-record": "update"}}
    after = fleet.versions(MANAGEMENT, "cluster-1")
    assert [key for key, value in versions.items() if after.get(key) != value] == [
        f"{MANAGEMENT} V1ConfigMap gloo-mesh/gloo-mesh-fleet"
    ]
    assert fleet.preview()["changes"] == {}


def test_a_lost_management_cluster_is_rebuilt_under_the_same_trust_and_no_worker_changes(fleet: Fleet) -> None:
    trust = {name: fleet.secret(MANAGEMENT, name) for name in ("relay-root-tls-secret", "relay-server-tls-secret")}
    # What was forgotten is a new, empty cluster by now.
    fleet.lab.up(1)
    fleet.lab.up(2)
    versions = fleet.versions("cluster-1")
    fleet.lab.stop(MANAGEMENT)
    fleet.configure("management", {"context": "cluster-2"})

    for command in commands("management-lost"):
        done = run(fleet, command)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"

    assert {name: fleet.secret("cluster-2", name) for name in trust} == trust
    awaited(lambda: connected(fleet, "cluster-2") == {"cluster-1"})
    assert fleet.versions("cluster-1") == versions
    custom = client.CustomObjectsApi(fleet.api("cluster-2"))
    listed: Any = custom.list_namespaced_custom_object(
        "multicluster.solo.io", "v1alpha1", "gloo-mesh", "kubernetesclusters"
    )
    assert [item["metadata"]["name"] for item in listed["items"]] == ["cluster-1"]
    assert fleet.preview()["changes"] == {}


@contextmanager
def left(fleet: Fleet, code: str) -> Iterator[None]:
    """One thing that a crash may leave, and nothing else."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    match code:
        case "lock-left":
            locked(fleet, gone.pid, socket.gethostname())
        case "state-unreadable":
            (file,) = (fleet.lab.root / "state").rglob(f"{STACK}.json")
            file.with_name(f"{file.name}.attrs").write_text("")
        case "operation-pending":
            key = {"urn": "urn:pulumi:crash::gloo-mesh::tls:index/privateKey:PrivateKey::new-key", "custom": True}
            creating = {"type": "creating", "resource": {**key, "type": "tls:index/privateKey:PrivateKey"}}
            with checkpoint(fleet) as deployment:
                deployment["pending_operations"] = [creating]
        case "release-pending":
            core: Any = fleet.core("cluster-1")
            selector = "owner=helm,name=enterprise-agent-crds,status=deployed"
            (record,) = core.list_namespaced_secret("gloo-mesh", label_selector=selector).items
            content = unpacked({"data": record.data})
            content |= {"version": content["version"] + 1, "info": content["info"] | {"status": "pending-upgrade"}}
            version = str(content["version"])
            labels = record.metadata.labels | {"status": "pending-upgrade", "version": version}
            metadata = {"name": f"sh.helm.release.v1.enterprise-agent-crds.v{version}", "labels": labels}
            data = {"release": packed(content)}
            core.create_namespaced_secret("gloo-mesh", {"metadata": metadata, "type": record.type, "data": data})
        case "credentials-left":
            folder = fleet.scratch / f"{SCRATCH}{gone.pid}-left"
            folder.mkdir()
            (folder / "kubeconfig").write_text("a credential")
        case _:
            provider = fleet.lab.root / "tmp/pulumi-resource-kubernetes"
            provider.write_text("import time; time.sleep(4711)")
            command = [sys.executable, str(provider), "127.0.0.1:9"]
            with subprocess.Popen(command, cwd=REPOSITORY, env=fleet.variables()) as process:
                yield
                assert process.wait(PATIENCE) == -signal.SIGKILL
            return
    yield


def locked(fleet: Fleet, process: int, host: str) -> Path:
    """Have somebody's process on a host hold the stack; the folder of its locks."""
    folder = fleet.lab.root / f"state/.pulumi/locks/organization/gloo-mesh/{STACK}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "there.json").write_text(held(process, host))
    return folder


def held(process: int, host: str) -> str:
    """What the CLI writes while somebody's process on a host holds a stack."""
    return json.dumps({"pid": process, "username": "anna", "hostname": host, "timestamp": "2026-11-26T10:00:00.1Z"})


def recover(fleet: Fleet, *options: str) -> Report:
    """What `recover` said to machines, and its exit code."""
    done = fleet.run("recover", "--json", *options)
    assert done.stdout, done.stderr
    return json.loads(done.stdout) | {"code": done.returncode}


def written(managers: list[str]) -> list[dict[str, str]]:
    """A patch that changes who wrote what of an object, as the API server notes it."""
    path = "/metadata/managedFields/{}/manager"
    return [{"op": "replace", "path": path.format(at), "value": manager} for at, manager in enumerate(managers)]


def somebodies(metadata: Any) -> list[str]:
    """A stranger for everybody who wrote anything of an object."""
    return [f"somebody-{at}" for at, _ in enumerate(metadata.managed_fields)]


def refresh(fleet: Fleet) -> None:
    """What `pulumi refresh --run-program` does, with the program inline."""
    code = (
        "import sys; from rich.console import Console; "
        "from operations.deployment import Deployment; from operations.stack import Stack; "
        "stack = Deployment(Stack.find(sys.argv[1]), Console(stderr=True)); "
        "sys.exit(bool(stack._run(stack._engine.refresh, dry=False, run_program=True, show_secrets=False).errors))"
    )
    command = [sys.executable, "-c", code, fleet.name]
    done = subprocess.run(command, cwd=REPOSITORY, env=fleet.variables(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def assert_helms_records_alone_were_written(fleet: Fleet, before: dict[str, list[Event]]) -> None:
    paths = [
        event["requestURI"] for cluster, events in fleet.writes().items() for event in events[len(before[cluster]) :]
    ]
    assert paths, "nothing was written"
    assert all("/secrets/sh.helm.release.v1." in path for path in paths), paths


def codes(report: Report) -> set[str]:
    return {finding["code"] for finding in report["findings"]}


def converged(fleet: Fleet) -> dict[str, dict[str, str]]:
    """What one up did, after which there is nothing left to change."""
    done = changed(fleet.up())
    assert fleet.preview()["changes"] == {}
    return done


@contextmanager
def up(fleet: Fleet) -> Iterator[subprocess.Popen[str]]:
    """An up under way; what it leaves running is ended."""
    with fleet.start("up", "--yes") as running:
        # Nobody reads what it says until it has ended.
        reading = [threading.Thread(target=stream.read) for stream in (running.stdout, running.stderr) if stream]
        for thread in reading:
            thread.start()
        try:
            yield running
        finally:
            # The command's own end would leave Pulumi's CLI and the providers below it, and with them the lock.
            with suppress(psutil.NoSuchProcess):
                end(*psutil.Process(running.pid).children(recursive=True))
            running.kill()
            for thread in reading:
                thread.join()


def await_agent(fleet: Fleet, running: subprocess.Popen[str], cluster: str, status: str) -> None:
    """Wait until Helm is at a cluster's agent, which an up that ends before never is."""
    awaited(lambda: status in statuses(fleet, cluster).get("enterprise-agent", []) or running.poll() is not None)
    assert running.poll() is None


def command_line(running: subprocess.Popen[str]) -> psutil.Process:
    """The CLI that an up drives."""
    (found,) = [process for process in psutil.Process(running.pid).children() if process.name() == "pulumi"]
    return found


def plugins(running: subprocess.Popen[str]) -> list[psutil.Process]:
    """The clusters' provider plugins, or their stand-ins."""
    below = psutil.Process(running.pid).children(recursive=True)
    found = [
        process
        for process in below
        if re.search(r"resource-kubernetes|providers kubernetes", " ".join(process.cmdline()))
    ]
    assert found
    return found


def end(*processes: psutil.Process) -> None:
    for process in processes:
        process.kill()


@contextmanager
def frozen(lab: Lab, cluster: str) -> Iterator[None]:
    """Nothing readies a cluster's pods for a while, so what waits for them waits."""
    below = lab.root / "kwok/clusters" / cluster
    (process,) = [process for _, name, process in components(below) if name == "kwok-controller"]
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def statuses(fleet: Fleet, cluster: str) -> dict[str, list[str]]:
    """Of each of Helm's releases, by name, the status of its revisions."""
    found: dict[str, dict[int, str]] = {}
    for namespace in NAMESPACES:
        listed: Any = fleet.core(cluster).list_namespaced_secret(namespace, label_selector="owner=helm")
        for labels in (secret.metadata.labels for secret in listed.items):
            found.setdefault(labels["name"], {})[int(labels["version"])] = labels["status"]
    return {name: [revisions[revision] for revision in sorted(revisions)] for name, revisions in found.items()}


def identities(fleet: Fleet) -> dict[str, str]:
    """The UID of everything that was taken from the state."""
    found: dict[str, str] = {}
    for cluster in (MANAGEMENT, "cluster-1"):
        core, apps = fleet.core(cluster), fleet.apps(cluster)
        listed: list[Any] = [core.list_namespace()]
        for namespace in NAMESPACES:
            listed += [core.list_namespaced_secret(namespace), core.list_namespaced_config_map(namespace)]
            listed += [apps.list_namespaced_deployment(namespace)]
        for meta in (item.metadata for items in listed for item in items.items):
            if not meta.name.startswith("sh.helm.release"):
                found[f"{cluster} {meta.namespace}/{meta.name}"] = meta.uid
    found |= {f"registration {name}": item["metadata"]["uid"] for name, item in fleet.registrations().items()}
    return found


def secrets(fleet: Fleet) -> list[str]:
    """What of the licence, the tokens and the keys is in the state in clear."""
    state = fleet.pulumi("stack", "export")
    licence = fleet.pulumi("config", "get", "gloo-mesh:licenseKey").strip()
    token = fleet.secret("cluster-1", "relay-identity-token-secret")["token"]
    return [secret for secret in (licence, token, "PRIVATE KEY") if secret in state]


@contextmanager
def checkpoint(fleet: Fleet) -> Iterator[dict[str, Any]]:
    """The state as it lies in the backend, to be changed as no command would."""
    file = fleet.lab.root / f"state/.pulumi/stacks/gloo-mesh/{STACK}.json"
    document = json.loads(file.read_text())
    yield document["checkpoint"]["latest"]
    file.write_text(json.dumps(document))


def named(entry: dict[str, Any]) -> str:
    return entry["urn"].rpartition("::")[2]


def forgetting(entry: dict[str, Any], urns: set[str]) -> dict[str, Any]:
    """An entry that doesn't depend on some others any more."""
    kept = entry | {"dependencies": [urn for urn in entry.get("dependencies") or [] if urn not in urns]}
    by_property = entry.get("propertyDependencies") or {}
    kept["propertyDependencies"] = {key: [urn for urn in on if urn not in urns] for key, on in by_property.items()}
    return kept


def entries(fleet: Fleet, but: str) -> dict[str, Any]:
    """What the state holds of every cluster but one, what depends on what aside."""
    # In clear, because a secret is another each time it is encrypted.
    resources = json.loads(fleet.pulumi("stack", "export", "--show-secrets"))["deployment"]["resources"]
    return {
        entry["urn"]: {key: entry.get(key) for key in ("id", "type", "inputs", "outputs", "provider", "parent")}
        for entry in resources
        if not but or (not named(entry).startswith(but) and f"::{but}::" not in entry.get("provider", ""))
    }


def commands(page: str) -> list[str]:
    """Every line of a runbook's bash blocks, comments cut off."""
    blocks = re.findall(r"```bash\n(.*?)```", (REPOSITORY / f"docs/runbooks/{page}.md").read_text(), re.DOTALL)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def run(fleet: Fleet, command: str) -> subprocess.CompletedProcess[str]:
    """A runbook's command as it is written, but for the stack's name; every question is answered with yes."""
    environment = fleet.lab.environment() | {"GLOO_MESH_LAB": str(fleet.lab.root)}
    environment["PATH"] = f"{REPOSITORY / '.venv/bin'}{os.pathsep}{environment['PATH']}"
    command = command.replace("--stack prod", f"--stack {fleet.name}")
    return subprocess.run(
        ["bash", "-c", command],
        cwd=REPOSITORY,
        env=environment,
        input="y\n",
        capture_output=True,
        text=True,
        check=False,
    )
