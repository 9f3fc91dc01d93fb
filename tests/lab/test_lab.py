"""The lab itself: its clusters as a deployment finds them, and what it leaves alone, survives and removes."""

import fcntl
import ipaddress
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from kubernetes import client, config, utils

from lab import LabError, cluster, kubeconfig, toolbox
from lab.cluster import ADDRESS, COMPONENTS, STAND_IN, Cluster, components, runs
from lab.fleet import Lab
from tests.awaiting import awaited

pytestmark = pytest.mark.lab

CLUSTERS = ["mgmt-cluster", "cluster-1", "cluster-2"]


EXPECTED = {*COMPONENTS, STAND_IN}
"""Everything that runs for a cluster."""


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lab-") as folder:
        yield Path(folder)


def connection(lab: Lab, cluster: str) -> client.ApiClient:
    return config.new_client_from_config(str(lab.kubeconfig), cluster)


def core(lab: Lab, cluster: str) -> Any:
    return client.CoreV1Api(connection(lab, cluster))


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lab", *arguments],
        env={**os.environ, "GLOO_MESH_LAB": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )


def processes(lab: Lab) -> dict[str, dict[str, int]]:
    return {row["cluster"]: row["components"] for row in lab.status()}


def make_namespace(lab: Lab, cluster: str, name: str, labels: dict[str, str]) -> None:
    core(lab, cluster).create_namespace({"metadata": {"name": name, "labels": labels}})
    accounts = core(lab, cluster)
    awaited(lambda: accounts.list_namespaced_service_account(name).items)


def containers_of_a_pod_in(lab: Lab, cluster: str, namespace: str) -> list[str]:
    pod = {"metadata": {"name": "app"}, "spec": {"containers": [{"name": "app", "image": "app"}]}}
    made = core(lab, cluster).create_namespaced_pod(namespace, pod)
    return [container.name for container in made.spec.containers]


def test_a_folder_that_holds_other_things_is_neither_used_nor_deleted(folder: Path) -> None:
    (folder / "thesis.txt").write_text("ten years of work")

    for verb in ("up", "down"):
        refused = run(folder, verb)

        assert refused.returncode == 1
        assert f"{folder} holds other things than a lab, thesis.txt" in refused.stderr
        assert "Traceback" not in refused.stderr
    assert [entry.name for entry in folder.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("workers", ["0", "many"])
def test_a_number_of_workers_that_makes_no_fleet_is_refused(folder: Path, workers: str) -> None:
    refused = run(folder, "up", "--workers", workers)

    assert refused.returncode == 2
    assert "--workers" in refused.stderr
    assert list(folder.iterdir()) == []


def test_a_cluster_that_is_not_there_is_refused_by_name(lab: Lab) -> None:
    with pytest.raises(LabError, match="no cluster cluster-9; it has mgmt-cluster, cluster-1, cluster-2"):
        lab.stop("cluster-9")


def test_a_server_that_cannot_start_is_reported_with_the_last_words_of_its_log(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(cluster.MANIFESTS, folder / "manifests")
    policy = folder / "manifests/audit-policy.yaml"
    policy.write_text(policy.read_text().replace("Metadata", "Loud"))
    monkeypatch.setattr(cluster, "MANIFESTS", folder / "manifests")
    lab = Lab(folder / "lab")
    try:
        with pytest.raises(LabError, match=r"(?s)mgmt-cluster: .*kube-apiserver.log:.*Loud.*python -m lab down"):
            lab.up(workers=0)
    finally:
        lab.down()


def test_clusters_of_two_labs_have_no_port_in_common_though_neither_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    toolbox.cache_folder().mkdir()
    # Each would take the lowest.
    monkeypatch.setattr(random, "sample", lambda ports, _: list(ports))
    for step in ("_launch", "start", "_install"):
        monkeypatch.setattr(Cluster, step, lambda *_: None)
    monkeypatch.setattr(kubeconfig, "issue", lambda _: None)
    ports: list[set[str]] = []
    for root in (folder / "one", folder / "another"):
        (root / "kwok").mkdir(parents=True)
        (root / ADDRESS).write_text("127.0.0.1")
        Cluster("cluster-1", root, {}, threading.Event()).create()
        ports.append(set(re.findall(r"[Pp]ort: (\d+)", (root / "kwok/cluster-1.yaml").read_text())))

    assert [len(found) for found in ports] == [7, 7]
    assert ports[0].isdisjoint(ports[1])


def test_two_commands_cannot_change_one_lab_at_once(lab: Lab) -> None:
    held = os.open(lab.root, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        refused = run(lab.root, "down")
    finally:
        os.close(held)

    assert refused.returncode == 1
    assert f"Another command is changing the lab in {lab.root}" in refused.stderr
    assert all(row["ready"] for row in lab.status())


def test_without_a_lab_the_status_says_how_to_get_one(folder: Path) -> None:
    empty = run(folder / "lab", "status")

    assert empty.returncode == 1
    assert "python -m lab up" in empty.stderr


def test_the_contexts_are_named_exactly_and_none_is_current(lab: Lab) -> None:
    document = yaml.safe_load(lab.kubeconfig.read_text())

    assert [context["name"] for context in document["contexts"]] == CLUSTERS
    assert "current-context" not in document
    assert lab.kubeconfig.stat().st_mode & 0o077 == 0


def test_every_context_is_a_cluster_of_its_own(lab: Lab) -> None:
    identities = {core(lab, cluster).read_namespace("kube-system").metadata.uid for cluster in CLUSTERS}

    assert len(identities) == 3


def test_everything_listens_on_loopback_only(lab: Lab) -> None:
    found = components(lab.root)
    listening = {
        held.laddr.ip
        for _, _, process in found
        for held in process.net_connections(kind="inet")
        if held.status == psutil.CONN_LISTEN
    }

    assert len(found) == 3 * (len(COMPONENTS) + 1)
    assert [ip for ip in listening if not loopback(ip)] == []


def loopback(ip: str) -> bool:
    """Also as gRPC writes it, an IPv4 address mapped into IPv6."""
    return ipaddress.ip_address(ip.removeprefix("::ffff:")).is_loopback


def test_the_deployer_is_who_the_audit_log_shows_and_dry_runs_are_left_out(lab: Lab) -> None:
    before = len(lab.audit("cluster-1"))
    core(lab, "cluster-1").create_namespace({"metadata": {"name": "dry"}}, dry_run="All")
    core(lab, "cluster-1").create_namespace({"metadata": {"name": "wet"}})
    core(lab, "cluster-1").read_namespace("wet")

    written = awaited(lambda: lab.audit("cluster-1")[before:])

    assert [(event["verb"], event["objectRef"]["name"]) for event in written] == [("create", "wet")]
    assert written[0]["user"]["username"] == kubeconfig.DEPLOYER
    assert "system:masters" not in written[0]["user"]["groups"]
    assert len(lab.audit("cluster-2")) == 0


def test_the_deployer_has_its_rights_from_a_binding_that_can_be_taken_away(lab: Lab) -> None:
    access: Any = client.RbacAuthorizationV1Api(connection(lab, "cluster-2"))

    binding = access.read_cluster_role_binding(kubeconfig.DEPLOYER)

    assert binding.role_ref.name == "cluster-admin"
    assert [(subject.kind, subject.name) for subject in binding.subjects] == [("User", "deployer")]


def addresses_of_a_load_balancer(lab: Lab, name: str, asked: list[dict[str, str]] | None) -> Callable[[], Any]:
    services = core(lab, "mgmt-cluster")
    annotations = {} if asked is None else {"lab/load-balancer": json.dumps(asked)}
    service = {
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 9900}]},
    }
    services.create_namespaced_service("default", service)
    balanced = services.api_client.sanitize_for_serialization
    return lambda: balanced(services.read_namespaced_service(name, "default").status.load_balancer.ingress)


def test_a_load_balancer_gets_the_addresses_it_asks_for_or_one_or_never_any(lab: Lab) -> None:
    hostname = {"hostname": "relay.example"}
    several = [hostname, {"ip": "192.0.2.1", "ipMode": "Proxy"}]
    never = addresses_of_a_load_balancer(lab, "never", [])
    aws = addresses_of_a_load_balancer(lab, "aws", [hostname])
    mixed = addresses_of_a_load_balancer(lab, "mixed", several)
    usual = addresses_of_a_load_balancer(lab, "usual", None)

    # The API server says how packets arrive wherever that isn't said.
    assert awaited(usual) == [{"ip": lab.address, "ipMode": "VIP"}]
    assert awaited(aws) == [hostname]
    assert awaited(mixed) == several
    assert never() is None


def test_a_plain_service_gets_no_address(lab: Lab) -> None:
    gateway = core(lab, "cluster-1").read_namespaced_service("istiod", "istio-system")

    assert gateway.status.load_balancer.ingress is None


def test_the_gateway_runs_ready_on_a_node_with_an_address_of_its_own_and_not_on_the_first(lab: Lab) -> None:
    api = core(lab, "mgmt-cluster")

    def ready() -> list[str]:
        found = api.read_namespaced_endpoints("istio-ingressgateway", "istio-system").subsets or []
        return [address.node_name for subset in found for address in subset.addresses or []]

    def address(node: Any) -> str | None:
        return next((found.address for found in node.status.addresses or [] if found.type == "InternalIP"), None)

    assert awaited(ready) == ["node-2"]
    awaited(lambda: all(address(node) for node in api.list_node().items))
    assert {node.metadata.name: address(node) for node in api.list_node().items} == {
        "node-1": lab.address,
        "node-2": f"{lab.address.removesuffix('1')}2",
    }


def test_the_gateways_service_can_be_a_load_balancer_or_a_node_port(lab: Lab) -> None:
    api = core(lab, "mgmt-cluster")
    place = ("istio-ingressgateway", "istio-system")

    balanced = awaited(lambda: api.read_namespaced_service(*place).status.load_balancer.ingress)
    api.patch_namespaced_service(*place, {"spec": {"type": "NodePort"}})
    bare = api.read_namespaced_service(*place)

    assert [entry.ip for entry in balanced] == [lab.address]
    assert bare.status.load_balancer.ingress is None
    assert [(port.port, port.node_port > 30000) for port in bare.spec.ports if port.name == "https"] == [(443, True)]


def test_what_openshift_brings_is_there_where_it_was_installed(lab: Lab) -> None:
    lab.install("cluster-2", "openshift")

    def attach(cluster: str, config: object) -> Any:
        custom: Any = client.CustomObjectsApi(connection(lab, cluster))
        attachment = {
            "apiVersion": "k8s.cni.cncf.io/v1",
            "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": "istio-cni"},
            "spec": {"config": config},
        }
        place = ("k8s.cni.cncf.io", "v1", "default", "network-attachment-definitions")
        return custom.create_namespaced_custom_object(*place, attachment)

    with pytest.raises(client.ApiException, match="404"):
        attach("cluster-1", "{}")
    with pytest.raises(client.ApiException, match=r"spec\.config in body must be of type string"):
        attach("cluster-2", {})
    assert attach("cluster-2", "{}")["spec"] == {"config": "{}"}
    access: Any = client.RbacAuthorizationV1Api(connection(lab, "cluster-2"))
    assert access.read_cluster_role("system:openshift:scc:anyuid").rules[0].verbs == ["use"]
    assert "clusterroles" not in {event["objectRef"]["resource"] for event in lab.audit("cluster-2")}


@pytest.mark.parametrize(
    ("namespace", "labels", "containers"),
    [
        ("plain", {}, ["app"]),
        ("off", {"istio-injection": "disabled"}, ["app"]),
        ("injected", {"istio-injection": "enabled"}, ["app", "istio-proxy"]),
        ("revision", {"istio.io/rev": "1-12"}, ["app", "istio-proxy"]),
    ],
)
def test_a_pod_gets_a_sidecar_only_where_its_namespace_asks_for_one(
    lab: Lab, namespace: str, labels: dict[str, str], containers: list[str]
) -> None:
    for name in CLUSTERS:
        make_namespace(lab, name, namespace, labels)

        assert containers_of_a_pod_in(lab, name, namespace) == containers


def test_the_namespace_in_which_injection_was_tried_is_as_it_was(lab: Lab) -> None:
    for name in CLUSTERS:
        assert "istio-injection" not in core(lab, name).read_namespace("default").metadata.labels


def test_a_deployment_comes_up_and_is_removed_with_its_namespace(lab: Lab) -> None:
    make_namespace(lab, "cluster-1", "short", {})
    api = core(lab, "cluster-1")
    labels = {"app": "short"}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "short", "namespace": "short"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "app"}]}},
        },
    }
    utils.create_from_dict(api.api_client, deployment)
    deployments: Any = client.AppsV1Api(connection(lab, "cluster-1"))

    assert awaited(lambda: deployments.read_namespaced_deployment("short", "short").status.ready_replicas) == 1

    api.delete_namespace("short")

    assert awaited(lambda: "short" not in [space.metadata.name for space in api.list_namespace().items])


def test_istios_own_definitions_are_served(lab: Lab) -> None:
    custom: Any = client.CustomObjectsApi(connection(lab, "cluster-2"))

    assert custom.list_cluster_custom_object("networking.istio.io", "v1", "gateways")["items"] == []


def test_the_settings_lead_to_the_labs_own_tools_and_state(lab: Lab) -> None:
    environment = lab.environment()

    assert environment["PULUMI_BACKEND_URL"] == f"file://{lab.root}/state"
    assert environment["PULUMI_HOME"] == f"{lab.root}/pulumi"
    assert str(lab.root / "bin") in environment["PATH"].split(":")[:2]
    assert (lab.root / "passphrase").stat().st_mode & 0o777 == 0o600
    assert (lab.root / "passphrase").read_text() not in (lab.root / "environment").read_text()
    version = subprocess.run(["kubectl", "version", "--client"], env=environment, capture_output=True, text=True)
    assert "v1.34.4" in version.stdout


def test_the_stand_in_charts_are_packed(lab: Lab) -> None:
    packed = {archive.name: archive.read_bytes() for archive in lab.packages.iterdir()}

    lab.up(workers=2)

    assert set(packed) == {"gloo-mesh-enterprise-1.2.9.tgz", "enterprise-agent-1.2.9.tgz"}
    assert {archive.name: archive.read_bytes() for archive in lab.packages.iterdir()} == packed


def test_up_again_keeps_every_process_and_certificate(lab: Lab) -> None:
    before = processes(lab), lab.kubeconfig.read_bytes(), (lab.root / "passphrase").read_bytes()

    lab.up(workers=2)

    assert (processes(lab), lab.kubeconfig.read_bytes(), (lab.root / "passphrase").read_bytes()) == before


def test_up_heals_a_component_that_was_killed_and_touches_no_other(lab: Lab) -> None:
    before = processes(lab)
    psutil.Process(before["cluster-1"]["kube-apiserver"]).kill()
    awaited(lambda: "kube-apiserver" not in processes(lab)["cluster-1"])

    lab.up(workers=2)

    after = processes(lab)
    assert after["cluster-1"].pop("kube-apiserver") != before["cluster-1"].pop("kube-apiserver")
    assert after == before
    assert core(lab, "cluster-1").read_namespace("istio-system")


def test_a_kwok_that_trips_over_itself_when_it_starts_is_started_again(lab: Lab, tmp_path: Path) -> None:
    """As kwok does now and then, with "concurrent map writes"."""
    program = lab.root / "kwok/clusters/cluster-1/bin/kwok-controller"
    real, tripped = program.with_name("real"), tmp_path / "tripped"
    running = psutil.Process(processes(lab)["cluster-1"]["kwok-controller"])
    kwok = running.exe()
    running.kill()
    awaited(lambda: "kwok-controller" not in processes(lab)["cluster-1"])
    program.rename(real)
    trip = f"exec -a {program} bash -c 'sleep 2; exit 2'"
    once = f"[ -e {tripped} ] || {{ touch {tripped}; {trip}; }}"
    program.write_text(f'#!/bin/bash\n{once}\nexec -a {program} {real} "$@"\n')
    program.chmod(0o755)
    try:
        lab.up(workers=2)
        started = psutil.Process(processes(lab)["cluster-1"]["kwok-controller"]).exe()
    finally:
        program.unlink()
        real.rename(program)

    assert tripped.exists()
    assert Path(started).resolve() == Path(kwok).resolve()


@pytest.mark.parametrize("cluster", ["mgmt-cluster", "cluster-1"])
def test_up_heals_a_stand_in_of_the_relays_conversation_that_was_killed(lab: Lab, cluster: str) -> None:
    before = processes(lab)
    (name,) = set(before[cluster]) - set(COMPONENTS)
    psutil.Process(before[cluster][name]).kill()
    awaited(lambda: name not in processes(lab)[cluster])

    lab.up(workers=2)

    after = processes(lab)
    assert after[cluster].pop(name) != before[cluster].pop(name)
    assert after == before


def test_every_lab_but_the_default_one_has_a_network_of_its_own_for_its_whole_life(lab: Lab) -> None:
    before = lab.address

    lab.up(workers=2)

    assert lab.address == before
    assert before.startswith("127.")
    assert (before == "127.0.0.1") == (sys.platform != "linux")


def test_a_pid_file_that_points_at_a_stranger_neither_blocks_up_nor_endangers_the_stranger(lab: Lab) -> None:
    with subprocess.Popen(["sleep", "600"]) as stranger:
        try:
            psutil.Process(processes(lab)["cluster-2"]["kube-scheduler"]).kill()
            awaited(lambda: "kube-scheduler" not in processes(lab)["cluster-2"])
            (lab.root / "kwok/clusters/cluster-2/pids/kube-scheduler.pid").write_text(str(stranger.pid))

            lab.up(workers=2)

            assert set(processes(lab)["cluster-2"]) == EXPECTED
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_after_an_outage_a_cluster_has_its_data_and_address_again(lab: Lab) -> None:
    identity = core(lab, "cluster-2").read_namespace("kube-system").metadata.uid

    lab.stop("cluster-2")
    report = {row["cluster"]: row for row in lab.status()}
    lab.start("cluster-2")

    assert report["cluster-2"] == {
        "cluster": "cluster-2",
        "ready": False,
        "version": None,
        "components": {},
        "memory_mb": 0,
    }
    assert report["cluster-1"]["ready"]
    assert core(lab, "cluster-2").read_namespace("kube-system").metadata.uid == identity


def test_a_process_whose_first_thread_has_ended_runs_while_another_holds_its_port() -> None:
    holding = """
import ctypes, socket, threading, sys
listener = socket.create_server(("127.0.0.1", 0))
print(flush=True)
threading.Thread(target=sys.stdin.read).start()
ctypes.CDLL(None).pthread_exit(None)
"""
    with subprocess.Popen([sys.executable, "-c", holding], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        seen = psutil.Process(process.pid)
        awaited(lambda: seen.status() == psutil.STATUS_ZOMBIE)
        assert runs(seen)

        process.kill()
        awaited(lambda: not runs(seen))


def test_the_status_for_programs_tells_processes_version_and_memory(lab: Lab) -> None:
    printed = run(lab.root, "status", "--json")

    assert printed.returncode == 0
    report = json.loads(printed.stdout)
    assert [row["cluster"] for row in report] == CLUSTERS
    assert {row["version"] for row in report} == {"v1.34.4"}
    for row in report:
        assert set(row["components"]) == EXPECTED
        resident = sum(psutil.Process(process).memory_info().rss for process in row["components"].values())
        assert row["memory_mb"] == pytest.approx(resident / 2**20, rel=0.2)


def test_a_worker_is_added_and_removed_and_the_others_keep_running(lab: Lab) -> None:
    before = processes(lab)

    lab.up(workers=3)
    grown = processes(lab)
    lab.up(workers=2)

    assert list(grown) == [*CLUSTERS, "cluster-3"]
    assert processes(lab) == before
    contexts = yaml.safe_load(lab.kubeconfig.read_text())["contexts"]
    assert [context["name"] for context in contexts] == CLUSTERS


def test_a_cluster_that_was_never_finished_is_made_anew_and_down_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = folder / "home"
    (home / ".kube").mkdir(parents=True)
    (home / ".kube/config").write_text("apiVersion: v1\nkind: Config\n")
    monkeypatch.setenv("XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache"))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("KUBECONFIG", str(home / ".kube/config"))
    lab = Lab(folder / "lab")
    try:
        lab.up(workers=0)
        (lab.root / "kwok/clusters/mgmt-cluster/deployer.crt").unlink()
        unfinished = set(processes(lab)["mgmt-cluster"].values())

        lab.up(workers=0)

        remade = set(processes(lab)["mgmt-cluster"].values())
        assert unfinished.isdisjoint(remade)
        assert lab.status()[0]["ready"]
    finally:
        assert run(lab.root, "down").returncode == 0

    assert components(folder) == []
    assert not lab.root.exists()
    assert [str(entry.relative_to(home)) for entry in home.rglob("*")] == [".kube", ".kube/config"]
    assert (home / ".kube/config").read_text() == "apiVersion: v1\nkind: Config\n"


def test_down_ends_what_runs_though_its_folder_was_deleted_by_hand(folder: Path) -> None:
    lab = Lab(folder / "lab")
    try:
        lab.up(workers=0)
        for entry in sorted(lab.root.rglob("*"), reverse=True):
            if not entry.is_dir() or entry.is_symlink():
                entry.unlink(missing_ok=True)
    finally:
        lab.down()

    assert components(folder) == []
    assert not lab.root.exists()
