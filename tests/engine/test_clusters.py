"""A plain worker beside one with everything of its own, and two people who run the fleet from their own machines."""

import base64
import json
import shutil
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from lab.fleet import MANAGEMENT, Lab
from lab.plugins import REPOSITORY
from tests.engine.fleet import CLIENT_SECRET, NAMESPACES, Fleet, Report, changed

pytestmark = pytest.mark.engine

VARIABLE = "DC2_KUBECONFIG"
LEFT = {"tls.crt": base64.b64encode(b"of another name").decode()}
"""In the Secret of an agent that was there before."""
REGISTRY = json.dumps({"auths": {"registry.example": {"auth": "registry-canary-4711"}}})
TOLERATION = {"key": "mesh", "operator": "Exists", "effect": "NoSchedule"}
WORKER: dict[str, Any] = {
    "context": "team/api-dc2:6443/ci",
    "kubeconfig": {"env": VARIABLE},
    "platform": "openshift",
    "clusterDomain": "dc2.example",
    "relayAddress": "relay.internal:9900",
    "istio": {"revision": "1-12"},
    "namespaces": {"create": False, "labels": {"team": "mesh"}},
    "images": {"registry": "registry.example/mesh", "pullSecret": {"secret": "registry"}},
    "addons": {"nodeSelector": {"kubernetes.io/os": "linux"}, "tolerations": [TOLERATION]},
    "resources": {"requests": {"cpu": "60m"}},
}
ADDONS = {"rate-limiter": "rate-limiter:0.4.3", "ext-auth-service": "ext-auth-service:0.19.1", "redis": "redis:5"}


class Proxy(socketserver.ThreadingTCPServer):
    """A proxy for CONNECT alone, which remembers where it led."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.led: set[str] = set()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Tunnel(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        target = self.rfile.readline().split()[1].decode()
        while self.rfile.readline().strip():
            pass
        assert isinstance(self.server, Proxy)
        self.server.led.add(target)
        host, _, port = target.rpartition(":")
        with socket.create_connection((host, int(port))) as there:
            self.connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=_pump, args=(there, self.connection))
            back.start()
            _pump(self.connection, there)
            back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while received := source.recv(65536):
            sink.sendall(received)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


class Machine:
    """Somebody's own folder, kubeconfig and user for the second cluster."""

    def __init__(self, lab: Lab, folder: Path, user: dict[str, Any], **reached: str) -> None:
        document = yaml.safe_load(lab.kubeconfig.read_text())
        (cluster,) = [entry["cluster"] for entry in document["clusters"] if entry["name"] == "cluster-2"]
        path = folder / "clusters.yaml"
        entries = {
            "contexts": [{"name": WORKER["context"], "context": {"cluster": folder.name, "user": folder.name}}],
            "clusters": [{"name": folder.name, "cluster": cluster | reached}],
            "users": [{"name": folder.name, "user": user}],
        }
        path.write_text(yaml.safe_dump(entries))
        self.environment = {"HOME": str(folder), VARIABLE: str(path)}


@pytest.fixture(scope="module")
def first(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """The one who logs in by a credential plugin."""
    folder = tmp_path_factory.mktemp("anna")
    document = yaml.safe_load(lab.kubeconfig.read_text())
    (user,) = [entry["user"] for entry in document["users"] if entry["name"].endswith("cluster-2")]
    pem = {key: base64.b64decode(user[f"{key}-data"]).decode() for key in ("client-certificate", "client-key")}
    status = {"clientCertificateData": pem["client-certificate"], "clientKeyData": pem["client-key"]}
    api_version = "client.authentication.k8s.io/v1"
    answer = {"apiVersion": api_version, "kind": "ExecCredential", "status": status}
    (folder / "credential.json").write_text(json.dumps(answer))
    (folder / "login").write_text('#!/bin/sh\ncat "$(dirname "$0")/credential.json"\n')
    (folder / "login").chmod(0o755)
    plugin = {"apiVersion": api_version, "command": str(folder / "login"), "interactiveMode": "Never"}
    return Machine(lab, folder, {"exec": plugin})


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    with Proxy() as proxy:
        threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}).start()
        yield proxy
        proxy.shutdown()


@pytest.fixture(scope="module")
def second(lab: Lab, fleet: Fleet, proxy: Proxy, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """The one who has a token in a file, and a proxy before the cluster."""
    folder = tmp_path_factory.mktemp("ben")
    account: Any = {"metadata": {"name": "ben"}}
    core: Any = fleet.core("cluster-2")
    core.create_namespaced_service_account("kube-system", account)
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    subject = {"kind": "ServiceAccount", "name": "ben", "namespace": "kube-system"}
    binding: Any = {"metadata": {"name": "ben"}, "roleRef": role, "subjects": [subject]}
    client.RbacAuthorizationV1Api(fleet.api("cluster-2")).create_cluster_role_binding(binding)
    request = {"spec": {"audiences": [], "expirationSeconds": 7200}}
    token = core.create_namespaced_service_account_token("ben", "kube-system", request).status.token
    (folder / "token").write_text(f"{token}\n")
    return Machine(lab, folder, {"tokenFile": str(folder / "token")}, **{"proxy-url": proxy.url})


@pytest.fixture(scope="module")
def fleet(lab: Lab) -> Iterator[Fleet]:
    """A plain worker, and one with everything; its namespaces are there already."""
    lab.install("cluster-2", "openshift")
    # One worker's address is a private one.
    fleet = Fleet(lab, "clusters", {"gloo-mesh:relay": {"dialFromHere": False}})
    for name in NAMESPACES:
        namespace: Any = {"metadata": {"name": name, "labels": {"owner": "platform"}}}
        fleet.core("cluster-2").create_namespace(namespace)
    left: Any = {"metadata": {"name": CLIENT_SECRET}, "data": LEFT}
    fleet.core("cluster-2").create_namespaced_secret("gloo-mesh", left)
    for key, content in {"fleet": lab.kubeconfig.read_text(), "registry": REGISTRY}.items():
        fleet.pulumi("config", "set", "--secret", f"gloo-mesh:{key}", given=content)
    fleet.configure("management", {"context": MANAGEMENT, "kubeconfig": {"secret": "fleet"}})
    fleet.configure("workers", {"cluster-1": {}, "cluster-2": WORKER})
    yield fleet
    shutil.rmtree(REPOSITORY / ".kubeconfigs" / fleet.name, ignore_errors=True)


@pytest.fixture(scope="module")
def deployed(fleet: Fleet, first: Machine) -> Report:
    """The first up, by the first of them."""
    fleet.environment = first.environment
    return fleet.up()


def namespaces(fleet: Fleet, cluster: str) -> dict[str, Any]:
    """The metadata of the fleet's namespaces, by name."""
    listed: Any = fleet.core(cluster).list_namespace()
    return {item.metadata.name: item.metadata for item in listed.items if item.metadata.name in NAMESPACES}


def pods(fleet: Fleet, cluster: str, namespace: str) -> dict[str, Any]:
    """The pods of each Deployment as they are meant to be, by its name."""
    listed: Any = fleet.apps(cluster).list_namespaced_deployment(namespace)
    return {item.metadata.name: item.spec.template.spec for item in listed.items}


def test_a_worker_has_what_is_its_own(fleet: Fleet, deployed: Report) -> None:
    found = namespaces(fleet, "cluster-2")
    agent = pods(fleet, "cluster-2", "gloo-mesh")["enterprise-agent"]
    addons = pods(fleet, "cluster-2", "gloo-mesh-addons")
    running: Any = fleet.core("cluster-2").list_namespaced_pod("gloo-mesh-addons")
    api = fleet.api("cluster-2")
    binding: Any = client.RbacAuthorizationV1Api(api).read_namespaced_role_binding(
        "system:openshift:scc:anyuid", "gloo-mesh-addons"
    )

    assert all(metadata.labels.items() >= {"owner": "platform", "team": "mesh"}.items() for metadata in found.values())
    assert found["gloo-mesh-addons"].labels["istio.io/rev"] == "1-12"
    assert "istio-injection" not in found["gloo-mesh-addons"].labels
    assert "istio.io/rev" not in found["gloo-mesh"].labels
    assert agent.containers[0].image == "registry.example/mesh/enterprise-agent:1.2.9"
    assert agent.containers[0].resources.requests["cpu"] == "60m"
    assert "--relay-address=relay.internal:9900" in agent.containers[0].args
    assert agent.security_context.run_as_user is None
    assert [secret.name for secret in agent.image_pull_secrets] == ["gloo-mesh-registry"]
    for name, image in ADDONS.items():
        assert addons[name].containers[0].image == f"registry.example/mesh/{image}"
        assert addons[name].node_selector == {"kubernetes.io/os": "linux"}
        assert [toleration.key for toleration in addons[name].tolerations] == ["mesh"]
        assert [secret.name for secret in addons[name].image_pull_secrets] == ["gloo-mesh-registry"]
    assert {len(pod.spec.containers) for pod in running.items} == {2}, "Not every addon was injected."
    for namespace in NAMESPACES:
        made: Any = fleet.core("cluster-2").read_namespaced_secret("gloo-mesh-registry", namespace)
        assert made.type == "kubernetes.io/dockerconfigjson"
        assert base64.b64decode(made.data[".dockerconfigjson"]).decode() == REGISTRY
    assert [subject.name for subject in binding.subjects] == ["system:serviceaccounts:gloo-mesh-addons"]
    assert client.CustomObjectsApi(api).get_namespaced_custom_object(
        "k8s.cni.cncf.io", "v1", "gloo-mesh-addons", "network-attachment-definitions", "istio-cni"
    )
    assert fleet.registrations()["cluster-2"]["spec"]["clusterDomain"] == "dc2.example"


def test_an_agent_shows_nothing_that_an_earlier_one_left(fleet: Fleet, deployed: Report) -> None:
    secrets: Any = fleet.core("cluster-2").list_namespaced_secret("gloo-mesh")

    assert LEFT not in [secret.data for secret in secrets.items]


def test_its_neighbour_stays_plain(fleet: Fleet, deployed: Report) -> None:
    agent = pods(fleet, "cluster-1", "gloo-mesh")["enterprise-agent"]
    addons = pods(fleet, "cluster-1", "gloo-mesh-addons")

    assert namespaces(fleet, "cluster-1")["gloo-mesh-addons"].labels["istio-injection"] == "enabled"
    assert agent.containers[0].image == "gcr.io/gloo-mesh/enterprise-agent:1.2.9"
    assert agent.security_context.run_as_user == 10101
    assert {addons[name].containers[0].image.partition("/")[0] for name in ADDONS} == {"docker.io", "quay.io"}
    assert not any(addons[name].tolerations or addons[name].image_pull_secrets for name in ADDONS)
    assert fleet.registrations()["cluster-1"]["spec"]["clusterDomain"] == "cluster.local"


def test_the_state_knows_no_credential_and_no_machine(fleet: Fleet, deployed: Report, first: Machine) -> None:
    users = yaml.safe_load(fleet.lab.kubeconfig.read_text())["users"]
    secret = [entry["user"]["client-key-data"] for entry in users] + ["registry-canary-4711"]
    at_rest = "".join(path.read_text() for path in (fleet.lab.root / "state").rglob("*") if path.is_file())
    resources = json.loads(fleet.pulumi("stack", "export"))["deployment"]["resources"]
    (provider,) = [r["inputs"] for r in resources if r["urn"].endswith("providers:kubernetes::cluster-2")]

    assert provider["kubeconfig"] == f".kubeconfigs/{fleet.name}/{VARIABLE}"
    assert not [canary for canary in secret if canary in at_rest]
    assert first.environment["HOME"] not in at_rest


def test_another_machine_sees_no_change_and_changes_only_what_was_asked_for(
    fleet: Fleet, deployed: Report, second: Machine, proxy: Proxy
) -> None:
    fleet.environment = second.environment
    writes, before = fleet.writes(), namespaces(fleet, "cluster-1")
    nothing = fleet.preview()
    assert (nothing["changes"], nothing["unreachable"]) == ({}, {})
    assert fleet.writes() == writes
    assert proxy.led

    elsewhere = WORKER["addons"] | {"tolerations": [TOLERATION, {"key": "edge", "operator": "Exists"}]}
    handed_over = {"namespaces": {"create": False, "labels": {"team": "mesh"}}}
    fleet.configure("workers", {"cluster-1": handed_over, "cluster-2": WORKER | {"addons": elsewhere}})
    done = fleet.up()

    assert changed(done) == {
        "cluster-1": {"cluster-1-namespace": "update", "cluster-1-addons-namespace": "update"},
        "cluster-2": {"cluster-2-addons-release": "update"},
        "management": {"fleet-record": "update"},
    }
    for pod in (pods(fleet, "cluster-2", "gloo-mesh-addons")[name] for name in ADDONS):
        assert [toleration.key for toleration in pod.tolerations] == ["mesh", "edge"]
    after = namespaces(fleet, "cluster-1")
    assert {name: metadata.uid for name, metadata in after.items()} == {name: m.uid for name, m in before.items()}
    assert fleet.preview()["changes"] == {}


def test_a_removal_leaves_other_peoples_namespaces_as_they_were(
    fleet: Fleet, deployed: Report, second: Machine
) -> None:
    fleet.environment = second.environment
    shutil.rmtree(REPOSITORY / ".kubeconfigs" / fleet.name)
    fleet.report("remove", "--yes")

    for cluster, owner in {"cluster-1": None, "cluster-2": "platform"}.items():
        found = namespaces(fleet, cluster)
        assert set(found) == set(NAMESPACES)
        for metadata in found.values():
            assert metadata.labels.get("owner") == owner
            assert not metadata.labels.keys() & {"team", "istio.io/rev"}
        secrets: Any = [fleet.core(cluster).list_namespaced_secret(name) for name in NAMESPACES]
        # An agent that once connected wrote its own certificate there.
        assert {item.metadata.name for listed in secrets for item in listed.items} <= {CLIENT_SECRET}
    # It was made with that one, see docs/clusters.md.
    assert namespaces(fleet, "cluster-1")["gloo-mesh-addons"].labels["istio-injection"] == "enabled"
