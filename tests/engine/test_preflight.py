"""Preflight on real API servers: nothing where nothing is wrong, and for each fault that is planted its own code alone.

In the order a fleet lives: before its first up, after one that half of it missed, and deployed.
"""

import base64
import io
import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from kubernetes import client, config

from components import connection
from components.settings import Settings
from lab.fleet import MANAGEMENT, Lab
from operations import charts as vendored
from operations import state
from operations.api import Api
from operations.preflight import permissions, platform, preflight
from operations.preflight.ownership import NAMESPACE
from operations.preflight.permissions import Need
from operations.stack import Stack
from operations.state import PROVIDER, RELEASE
from tests.authority import CLIENT, DAY, Made
from tests.awaiting import awaited
from tests.engine.fleet import Fleet, Report

pytestmark = pytest.mark.engine

Told = list[tuple[str, str]]
"""Codes, each with where it was found."""


class Looker:
    """Preflight as the commands run it, in this process; the state is read once, unless another is given."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.stack = Stack(fleet.name, fleet.file, {})
        self.exported: dict[str, Any] = {}

    def settings(self, changes: dict[str, Any] | None = None) -> Settings:
        """The configuration with the lab's own kubeconfig and other changes, which the file doesn't keep."""
        before = self.fleet.file.read_text()
        try:
            for key, value in {"kubeconfig": str(self.fleet.lab.kubeconfig), **(changes or {})}.items():
                self.fleet.configure(key, value)
            return self.stack.settings()
        finally:
            self.fleet.file.write_text(before)

    def findings(self, changes: dict[str, Any] | None = None) -> list[Any]:
        return preflight(self.stack, self.settings(changes), self.exported).findings

    def told(self, changes: dict[str, Any] | None = None) -> Told:
        return [(finding.kind.code, finding.where) for finding in self.findings(changes)]


@pytest.fixture(scope="module")
def fleet(lab: Lab) -> Iterator[Fleet]:
    """The lab stack on three clusters; not deployed yet."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in lab.environment().items():
            patch.setenv(name, value)
        yield Fleet(lab, "preflight", {})


@pytest.fixture(scope="module")
def looker(fleet: Fleet) -> Looker:
    return Looker(fleet)


@pytest.fixture(scope="module")
def half(fleet: Fleet, looker: Looker, restricted_kubeconfig: Path) -> Report:
    """A first up that one worker missed, as its kubeconfig led nowhere, by an identity with the listed rights alone."""
    nowhere = edited(restricted_kubeconfig, "nowhere", "cluster-2", server="https://127.0.0.1:9")
    fleet.configure("kubeconfig", str(restricted_kubeconfig))
    fleet.configure("workers", {"cluster-1": {}, "cluster-2": {"kubeconfig": nowhere}})
    done = fleet.run("up", "--yes", "--json")
    fleet.configure("workers", {"cluster-1": {}, "cluster-2": {}})
    assert done.returncode == 1
    looker.exported = state.exported(fleet.name)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def deployed(fleet: Fleet, looker: Looker, half: Report) -> None:
    fleet.settle()
    looker.exported = state.exported(fleet.name)


# Before the first up.


def test_a_fresh_fleet_has_nothing_in_its_way(fleet: Fleet) -> None:
    done = fleet.run("preflight")
    report = fleet.report("preflight")

    assert (done.returncode, done.stderr) == (0, "")
    assert "Nothing is in the way of an up on 3 clusters." in done.stdout
    contexts = {"management": MANAGEMENT, "cluster-1": "cluster-1", "cluster-2": "cluster-2"}
    asked: dict[str, Any] = {name: client.VersionApi(fleet.api(on)).get_code() for name, on in contexts.items()}
    versions = {name: code.git_version for name, code in asked.items()}
    assert report == {
        "findings": [],
        "stopping": 0,
        "clusters": {name: {"kubernetes": versions[name]} for name in versions},
    }
    shown = [line.split() for line in done.stdout.splitlines()[1:4]]
    assert shown == [[name, contexts[name], versions[name], "0"] for name in contexts]


def edited(source: Path, name: str, cluster: str, user: dict[str, Any] | None = None, **reached: Any) -> str:
    """A kubeconfig with another way to one cluster; its path."""
    document: Any = yaml.safe_load(source.read_text())
    for entry in document["clusters"]:
        if entry["name"] == cluster:
            entry["cluster"] |= reached
    for entry in document["users"]:
        if user is not None and entry["name"].endswith(f"@{cluster}"):
            entry["user"] = user
    path = source.with_name(f"kubeconfig-{name}")
    path.write_text(yaml.safe_dump(document))
    return str(path)


def plugin(fleet: Fleet, script: str) -> dict[str, Any]:
    path = fleet.lab.root / "login"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(path)}}


ENTRIES: dict[str, Callable[[Fleet], dict[str, Any]]] = {
    "credential-plugin-missing": lambda _: {
        "user": {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-plugin"}}
    },
    "login-needed": lambda fleet: {"user": plugin(fleet, "echo sign in again >&2; exit 1")},
    "login-hangs": lambda fleet: {"user": plugin(fleet, "sleep 4711")},
    "credentials-expired": lambda _: {"user": {"token": "nobody-knows-this-one"}},
    "access-denied": lambda _: {"user": {}},
    "no-answer": lambda _: {"server": "https://127.0.0.1:9"},
    "tls-not-trusted": lambda fleet: {
        "certificate-authority-data": base64.b64encode(
            (fleet.lab.root / "kwok/clusters/cluster-2/pki/ca.crt").read_bytes()
        ).decode()
    },
    "kubeconfig-unusable": lambda _: {"user": {"token": "one line\nand another"}},
}


@pytest.mark.parametrize("code", ENTRIES)
def test_a_worker_that_cant_be_entered_is_told_by_its_cause(
    code: str, fleet: Fleet, looker: Looker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LOGIN_SECONDS", 3)
    path = edited(fleet.lab.kubeconfig, code, "cluster-1", **ENTRIES[code](fleet))

    assert looker.told({"workers": {"cluster-1": {"kubeconfig": path}, "cluster-2": {}}}) == [(code, "cluster-1")]


# The lab's authorities have the serial number 0.
@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_a_client_certificate_that_ended_is_told_with_its_end(fleet: Fleet, looker: Looker) -> None:
    authority = fleet.lab.root / "kwok/clusters/cluster-1/pki"
    key: Any = serialization.load_pem_private_key((authority / "ca.key").read_bytes(), None)
    signer = Made(x509.load_pem_x509_certificate((authority / "ca.crt").read_bytes()), key)
    ended = signer.issue("deployer", uses=(CLIENT,), begins=-3 * DAY, ends=-DAY)
    given = {"client-certificate-data": ended.pem, "client-key-data": ended.key_pem}
    user = {name: base64.b64encode(text.encode()).decode() for name, text in given.items()}
    path = edited(fleet.lab.kubeconfig, "ended", "cluster-1", user)

    (finding,) = looker.findings({"workers": {"cluster-1": {"kubeconfig": path}, "cluster-2": {}}})

    assert (finding.kind.code, finding.where) == ("credentials-expired", "cluster-1")
    assert f"ended on {ended.certificate.not_valid_after_utc:%Y-%m-%d}" in finding.what


def test_a_name_that_doesnt_resolve_is_told(fleet: Fleet, looker: Looker) -> None:
    path = edited(fleet.lab.kubeconfig, "name", "cluster-1", server="https://no-such-host.invalid:6443")

    assert looker.told({"workers": {"cluster-1": {"kubeconfig": path}, "cluster-2": {}}}) == [
        ("no-answer", "cluster-1")
    ]


def test_two_contexts_of_one_cluster_are_told(fleet: Fleet, looker: Looker) -> None:
    document: Any = yaml.safe_load(fleet.lab.kubeconfig.read_text())
    (same,) = [dict(entry) for entry in document["contexts"] if entry["name"] == "cluster-1"]
    document["contexts"].append(same | {"name": "copied"})
    path = fleet.lab.root / "kubeconfig-copied"
    path.write_text(yaml.safe_dump(document))

    workers = {"cluster-1": {}, "cluster-2": {"context": "copied", "kubeconfig": str(path)}}
    assert looker.told({"workers": workers}) == [("one-cluster", "cluster-2")]


Plant = Callable[[Fleet], AbstractContextManager[object]]
ALONE = {"cluster-1": {"namespaces": {"create": False}}, "cluster-2": {}}


@contextmanager
def namespace(fleet: Fleet, name: str = "gloo-mesh", writer: str = "kubectl-create") -> Iterator[Any]:
    """A namespace on cluster-1, somebody else's unless the plugin is the `writer`."""
    core: Any = fleet.core("cluster-1")
    core.create_namespace({"metadata": {"name": name}}, field_manager=writer)
    try:
        yield core
    finally:
        core.delete_namespace(name)
        awaited(lambda: name not in [item.metadata.name for item in core.list_namespace().items])


@contextmanager
def secret(fleet: Fleet) -> Iterator[None]:
    with namespace(fleet) as core:
        core.create_namespaced_secret("gloo-mesh", {"metadata": {"name": "relay-root-tls-secret"}})
        yield


def release(name: str, status: str) -> Plant:
    @contextmanager
    def plant(fleet: Fleet) -> Iterator[None]:
        labels = {"owner": "helm", "name": name, "status": status, "version": "1"}
        with namespace(fleet) as core:
            metadata = {"name": f"sh.helm.release.v1.{name}.v1", "labels": labels}
            core.create_namespaced_secret("gloo-mesh", {"metadata": metadata})
            yield

    return plant


@contextmanager
def crd(fleet: Fleet) -> Iterator[None]:
    """A CRD of the agent's chart, as its crds/ folder would have installed it."""
    api: Any = client.ApiextensionsV1Api(fleet.api("cluster-1"))
    name = "podbouncedirectives.certificates.mesh.gloo.solo.io"
    schema = {"openAPIV3Schema": {"type": "object"}}
    api.create_custom_resource_definition(
        {
            "metadata": {"name": name},
            "spec": {
                "group": "certificates.mesh.gloo.solo.io",
                "scope": "Namespaced",
                "names": {
                    "kind": "PodBounceDirective",
                    "plural": "podbouncedirectives",
                    "singular": "podbouncedirective",
                },
                "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
            },
        },
        # A status as new as that has no conditions yet, which the client takes for a mistake.
        _preload_content=False,
    )
    try:
        yield
    finally:
        api.delete_custom_resource_definition(name)
        awaited(lambda: name not in [item.metadata.name for item in api.list_custom_resource_definition().items])


def patched(cluster: str, read: str, name: str, there: Any, back: Any, kind: str = "apps") -> Plant:
    """A change of an object in istio-system, undone again."""

    @contextmanager
    def plant(fleet: Fleet) -> Iterator[None]:
        api: Any = getattr(fleet, kind)(cluster)
        change = getattr(api, f"patch_namespaced_{read}")
        change(name, "istio-system", there)
        try:
            yield
        finally:
            change(name, "istio-system", back)

    return plant


@contextmanager
def no_load_balancer(fleet: Fleet) -> Iterator[None]:
    core: Any = fleet.core(MANAGEMENT)
    name, within = "istio-ingressgateway", "istio-system"
    core.patch_namespaced_service(name, within, {"metadata": {"annotations": {"lab/load-balancer": "[]"}}})
    core.patch_namespaced_service_status(name, within, {"status": {"loadBalancer": None}})
    try:
        yield
    finally:
        core.patch_namespaced_service(name, within, {"metadata": {"annotations": {"lab/load-balancer": None}}})
        awaited(lambda: core.read_namespaced_service(name, within).status.load_balancer.ingress)


@contextmanager
def webhook(fleet: Fleet) -> Iterator[None]:
    """An injector that takes one revision's namespaces, as Istio installed with a revision has it."""
    admission: Any = client.AdmissionregistrationV1Api(fleet.api("cluster-1"))
    hook: Any = {
        "name": "rev.namespace.sidecar-injector.istio.io",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Ignore",
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "namespaceSelector": {"matchExpressions": [{"key": "istio.io/rev", "operator": "In", "values": ["1-12"]}]},
    }
    metadata = {"name": "istio-sidecar-injector-1-12", "labels": {"app": "sidecar-injector"}}
    admission.create_mutating_webhook_configuration({"metadata": metadata, "webhooks": [hook]})
    try:
        yield
    finally:
        admission.delete_mutating_webhook_configuration(metadata["name"])


@contextmanager
def roots(fleet: Fleet) -> Iterator[None]:
    made = []
    try:
        for cluster in ("cluster-1", "cluster-2"):
            pem = (fleet.lab.root / f"kwok/clusters/{cluster}/pki/ca.crt").read_text()
            core: Any = fleet.core(cluster)
            body = {"metadata": {"name": "istio-ca-root-cert"}, "data": {"root-cert.pem": pem}}
            core.create_namespaced_config_map("istio-system", body)
            made.append(core)
        yield
    finally:
        for core in made:
            core.delete_namespaced_config_map("istio-ca-root-cert", "istio-system")


@contextmanager
def without_gateways(fleet: Fleet) -> Iterator[None]:
    """Istio's Gateways and VirtualServices no longer served in the version that is used."""
    api: Any = client.ApiextensionsV1Api(fleet.api(MANAGEMENT))
    names = ("gateways.networking.istio.io", "virtualservices.networking.istio.io")
    core: Any = client.CustomObjectsApi(fleet.api(MANAGEMENT))

    def serve(served: bool) -> None:
        for name in names:
            found: Any = api.read_custom_resource_definition(name)
            for version in found.spec.versions:
                version.served = served if version.name == "v1beta1" else version.served
            api.replace_custom_resource_definition(name, found)
        awaited(lambda: seen() is served)

    def seen() -> bool:
        # A version that has no kind left isn't known at all.
        try:
            listed: Any = core.get_api_resources("networking.istio.io", "v1beta1")
        except client.ApiException:
            return False
        return bool({"gateways", "virtualservices"} & {resource.name for resource in listed.resources})

    serve(False)
    try:
        yield
    finally:
        serve(True)


@contextmanager
def cluster_role(fleet: Fleet) -> Iterator[None]:
    """A ClusterRole of the name that the agent's chart gives its own."""
    api: Any = client.RbacAuthorizationV1Api(fleet.api("cluster-1"))
    api.create_cluster_role({"metadata": {"name": "enterprise-agent"}, "rules": []})
    try:
        yield
    finally:
        api.delete_cluster_role("enterprise-agent")


@contextmanager
def no_helm(fleet: Fleet) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(fleet.lab.root / "nothing"))
        yield


@contextmanager
def ahead(_fleet: Fleet) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        now = time.time
        patch.setattr(platform.time, "time", lambda: now() + 120)
        yield


def worker(**changes: Any) -> dict[str, Any]:
    return {"workers": {"cluster-1": changes, "cluster-2": {}}}


EXISTING = {
    "pki": {"source": "existing"},
    "management": {"context": MANAGEMENT, "namespaces": {"create": False}},
    "defaults": {"namespaces": {"create": False}},
}
CLUSTER_ID = {"name": "discovery", "env": [{"name": "CLUSTER_ID", "value": "elsewhere"}]}
NO_CLUSTER_ID = {"name": "discovery", "env": [{"name": "CLUSTER_ID", "$patch": "delete"}]}


def spec(container: dict[str, Any]) -> dict[str, Any]:
    return {"spec": {"template": {"spec": {"containers": [container]}}}}


FAULTS: dict[tuple[str, str], tuple[Plant, dict[str, Any]]] = {
    ("name-taken", "cluster-1"): (namespace, {}),
    ("release-name-taken", "cluster-1"): (release("enterprise-agent", "deployed"), {"workers": ALONE}),
    ("crds-unowned", "cluster-1"): (crd, {}),
    ("objects-unowned", "cluster-1"): (cluster_role, {}),
    ("objects-not-compared", "charts"): (no_helm, {}),
    ("clock-skew", "cluster-1"): (ahead, {}),
    ("no-load-balancer", "management"): (no_load_balancer, {}),
    ("istio-missing", "cluster-1"): (nullcontext, worker(istio={"namespace": "elsewhere"})),
    ("istio-revision-missing", "cluster-1"): (nullcontext, worker(istio={"revision": "1-99"})),
    ("istio-not-injecting", "cluster-1"): (webhook, {}),
    ("istio-cluster-name", "cluster-1"): (
        patched("cluster-1", "deployment", "istiod", spec(CLUSTER_ID), spec(NO_CLUSTER_ID)),
        {},
    ),
    ("istio-missing", "cluster-2"): (
        nullcontext,
        {
            "virtualMesh": {"istioCa": "glooMesh"},
            "workers": {
                "cluster-1": {},
                "cluster-2": {"addons": {"enabled": False}, "istio": {"namespace": "elsewhere"}},
            },
        },
    ),
    ("istio-roots-differ", "cluster-2"): (roots, {"virtualMesh": {}}),
    ("istio-gateway-missing", "management"): (nullcontext, {"relay": {"istioGateway": {"name": "nowhere"}}}),
    ("istio-crds-missing", "management"): (without_gateways, {"relay": {"istioGateway": {}}}),
    ("locked-out", "management"): (
        nullcontext,
        {"rbac": {"adminSubjects": [{"kind": "User", "name": "somebody-else"}]}},
    ),
    ("relay-secrets-unfit", "certificates"): (nullcontext, EXISTING),
}


@pytest.mark.parametrize("fault", FAULTS, ids=[code for code, _ in FAULTS])
def test_a_planted_fault_is_found_by_its_code_alone(fault: tuple[str, str], fleet: Fleet, looker: Looker) -> None:
    plant, changes = FAULTS[fault]
    with plant(fleet):
        told = looker.told(changes)

    # A clock is compared with every cluster's, and each Secret that is missing is told.
    assert fault in told
    assert {code for code, _ in told} == {fault[0]}


def test_a_secret_that_is_there_is_told_by_name(fleet: Fleet, looker: Looker) -> None:
    with secret(fleet):
        (finding,) = looker.findings({"workers": ALONE})

    assert finding.kind.code == "name-taken"
    assert "delete secret relay-root-tls-secret" in finding.remedy


def test_a_charts_objects_are_handed_to_its_release_by_the_told_command(fleet: Fleet, looker: Looker) -> None:
    metadata = {"metadata": {"name": "enterprise-agent"}}
    rbac: Any = client.RbacAuthorizationV1Api(fleet.api("cluster-1"))
    rbac.create_cluster_role(metadata)
    with namespace(fleet) as core:
        core.create_namespaced_service("gloo-mesh", metadata | {"spec": {"ports": [{"port": 1}]}})
        (finding,) = looker.findings({"workers": ALONE})
        _, _, handover = finding.remedy.rpartition("write them anew: ")
        subprocess.run(handover, shell=True, check=True, env=os.environ, stdout=subprocess.DEVNULL)

        assert (finding.kind.code, finding.where) == ("objects-unowned", "cluster-1")
        assert "clusterroles.rbac.authorization.k8s.io/enterprise-agent, services/enterprise-agent" in finding.what
        assert looker.told({"workers": ALONE}) == []
    # Whether Helm takes it for its own is for the first up to show.
    assert rbac.read_cluster_role("enterprise-agent").rules is None
    assert looker.told() == []


def test_an_object_whose_creation_was_cut_off_is_told_as_such(
    fleet: Fleet, looker: Looker, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = {"type": "creating", "resource": entry(NAMESPACE, inputs={"metadata": {"name": "gloo-mesh"}})}
    monkeypatch.setattr(looker, "exported", {"deployment": {"pending_operations": [begun]}})
    with namespace(fleet):
        assert looker.told() == [("unfinished-creation", "cluster-1")]


def test_a_release_that_failed_is_told_where_the_state_takes_it_for_done(
    fleet: Fleet, looker: Looker, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = entry(RELEASE, id="gloo-mesh/enterprise-agent-crds", inputs={"maxHistory": 10})
    with release("enterprise-agent-crds", "failed")(fleet):
        monkeypatch.setattr(looker, "exported", {"deployment": {"resources": [made]}})
        done = looker.told({"workers": ALONE})
        monkeypatch.setattr(looker, "exported", {"deployment": {"resources": [made | {"initErrors": ["why"]}]}})
        half_done = looker.told({"workers": ALONE})

    assert done == [("failed-release", "cluster-1")]
    assert half_done == []


def test_a_strangers_release_that_was_cut_off_is_no_less_a_strangers(fleet: Fleet, looker: Looker) -> None:
    with release("enterprise-agent-crds", "pending-install")(fleet):
        assert looker.told({"workers": ALONE}) == [("release-name-taken", "cluster-1")]


def test_what_this_program_made_and_the_state_lost_is_told_apart_from_what_somebody_made(
    fleet: Fleet, looker: Looker, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = {"urn": f"urn:pulumi:preflight::gloo-mesh::{PROVIDER}::cluster-1", "type": PROVIDER}
    with namespace(fleet, writer="pulumi-kubernetes"):
        (new,) = looker.findings()
        monkeypatch.setattr(looker, "exported", {"deployment": {"resources": [reached]}})
        (lost,) = looker.findings()

    assert (new.kind.code, lost.kind.code) == ("name-taken", "name-taken")
    # A state that reaches no cluster has nothing to take it in with.
    assert "recover" not in new.remedy
    assert f"python -m operations recover --stack {fleet.name}. " in lost.remedy
    assert "create: false" in lost.remedy


def test_a_context_that_leads_to_an_empty_cluster_is_told(looker: Looker, monkeypatch: pytest.MonkeyPatch) -> None:
    resources = [
        entry(RELEASE, id="gloo-mesh/enterprise-agent-crds"),
        entry(NAMESPACE, id="gloo-mesh", outputs={"metadata": {"uid": "the UID it had"}}),
    ]
    monkeypatch.setattr(looker, "exported", {"deployment": {"resources": resources}})

    assert looker.told() == [("another-cluster", "cluster-1")]


def test_a_namespace_that_istio_would_inject_is_told_with_the_label_to_take_away(fleet: Fleet, looker: Looker) -> None:
    core: Any = fleet.core(MANAGEMENT)
    core.create_namespace({"metadata": {"name": "gloo-mesh", "labels": {"istio-injection": "enabled"}}})
    try:
        (finding,) = looker.findings({"management": EXISTING["management"]})
    finally:
        core.delete_namespace("gloo-mesh")
        awaited(lambda: "gloo-mesh" not in [item.metadata.name for item in core.list_namespace().items])

    assert (finding.kind.code, finding.where) == ("namespace-injected", "management")
    assert finding.remedy.endswith("label namespace gloo-mesh istio-injection-")


def test_another_stacks_fleet_is_told_by_that_stacks_name(fleet: Fleet, looker: Looker) -> None:
    core: Any = fleet.core(MANAGEMENT)
    structured = dict.fromkeys(("versions", "charts", "clusters", "certificates", "values"), "{}")
    record = {"project": "gloo-mesh", "stack": "older", "version": "1.2.9", **structured}
    core.create_namespace({"metadata": {"name": "gloo-mesh"}})
    core.create_namespaced_config_map("gloo-mesh", {"metadata": {"name": "gloo-mesh-fleet"}, "data": record})
    try:
        (finding,) = looker.findings({"management": EXISTING["management"]})
    finally:
        core.delete_namespace("gloo-mesh")
        awaited(lambda: "gloo-mesh" not in [item.metadata.name for item in core.list_namespace().items])

    assert finding.kind.code == "another-fleet"
    assert "the stack older deployed" in finding.what


def test_the_told_command_hands_crds_over(fleet: Fleet, looker: Looker) -> None:
    with crd(fleet):
        (finding,) = looker.findings()
        run(fleet, finding.remedy)

        assert looker.told() == []


def test_an_archive_that_was_altered_is_told(fleet: Fleet, looker: Looker, tmp_path: Path) -> None:
    charts = shutil.copytree(fleet.lab.root / "charts", tmp_path / "charts")
    lock: Any = yaml.safe_load((charts / "charts.lock").read_text())
    (charts / "old.tgz").write_bytes(b"altered")
    lock["charts"] += [entry | {"version": "1.2.0", "file": "old.tgz"} for entry in lock["charts"]]
    (charts / "charts.lock").write_text(yaml.safe_dump(lock))

    assert {code for code, _ in looker.told({"charts": str(charts)})} == {"charts-altered"}


@pytest.mark.parametrize(
    ("code", "name", "before", "after"),
    [
        (
            "kubernetes-version",
            "enterprise-agent/Chart.yaml",
            "apiVersion: v2",
            "apiVersion: v2\nkubeVersion: <1.24.0-0",
        ),
        ("crd-api-version", "_crds.yaml", "apiextensions.k8s.io/v1\n", "apiextensions.k8s.io/v1beta1\n"),
    ],
)
def test_a_chart_that_a_worker_cant_take_is_told(
    code: str, name: str, before: str, after: str, fleet: Fleet, looker: Looker, tmp_path: Path
) -> None:
    folder = tmp_path / "charts"
    management = next(fleet.lab.packages.glob("gloo-mesh-enterprise-1.2.9.tgz"))
    vendored.add(folder, management.read_bytes(), "the lab")
    agents = fleet.lab.packages / "enterprise-agent-1.2.9.tgz"
    with tarfile.open(agents) as archive, tarfile.open(tmp_path / "altered.tgz", "w:gz") as altered:
        for member in archive:
            file = archive.extractfile(member)
            content = file.read() if file else b""
            if member.name.endswith(name):
                content = content.replace(before.encode(), after.encode())
            member.size = len(content)
            altered.addfile(member, io.BytesIO(content))
    vendored.add(folder, (tmp_path / "altered.tgz").read_bytes(), "a test")

    assert sorted(looker.told({"charts": str(folder)})) == [(code, "cluster-1"), (code, "cluster-2")]


def test_an_up_doesnt_begin_where_something_is_in_the_way(fleet: Fleet) -> None:
    with namespace(fleet):
        before = fleet.writes()
        done = fleet.run("up", "--yes", "--json")
        told = fleet.run("preflight")

        assert fleet.writes() == before
    assert (done.returncode, told.returncode) == (1, 1)
    (finding,) = json.loads(done.stdout)["findings"]
    assert (finding["code"], finding["where"], finding["stops"]) == ("name-taken", "cluster-1", True)
    for part in ("name-taken on cluster-1", "why:", "next:", "page: docs/runbooks/collisions.md#name-taken"):
        assert part in done.stderr
        assert part in told.stdout


# What the deploying identity may do.


class Restricted:
    """An identity on one cluster that may do what the program needs, and nothing else."""

    def __init__(self, fleet: Fleet, looker: Looker, name: str) -> None:
        settings = looker.settings()
        (self.cluster,) = [cluster for cluster in settings.clusters if cluster.name == name]
        folder = fleet.lab.root / "kwok/clusters" / self.cluster.context
        self._api = config.new_client_from_config(str(folder / "kubeconfig.yaml"))
        self._rbac = client.RbacAuthorizationV1Api(self._api)
        core: Any = client.CoreV1Api(self._api)
        with suppress(client.ApiException):
            core.create_namespaced_service_account("default", {"metadata": {"name": "restricted"}})
        token: Any = core.create_namespaced_service_account_token("restricted", "default", {"spec": {}})
        self.user = {"token": token.status.token}
        self.kinds = {
            "permission-missing": permissions.single(permissions.needs(settings, self.cluster)),
            "granting-not-allowed": permissions.single(permissions.granting(self.cluster)),
            "reading-not-allowed": permissions.single(permissions.reading(settings, self.cluster)),
        }
        self.needs = [need for needs in self.kinds.values() for need in needs]
        self.allow(self.needs)
        binding: Any = {
            "metadata": {"name": "restricted"},
            "roleRef": {"apiGroup": permissions.RBAC, "kind": "ClusterRole", "name": "restricted"},
            "subjects": [{"kind": "ServiceAccount", "name": "restricted", "namespace": "default"}],
        }
        with suppress(client.ApiException):
            self._rbac.create_cluster_role_binding(binding)

    def allow(self, needs: list[Need]) -> None:
        rules = [
            {
                "verbs": list(need.verbs),
                "apiGroups": [need.group],
                "resources": [need.resource],
                **({"resourceNames": [need.name]} if need.name else {}),
            }
            for need in needs
        ]
        body: Any = {"metadata": {"name": "restricted"}, "rules": rules}
        try:
            self._rbac.replace_cluster_role("restricted", body)
        except client.ApiException:
            self._rbac.create_cluster_role(body)


@pytest.fixture(scope="module")
def restricted(fleet: Fleet, looker: Looker) -> dict[str, Restricted]:
    return {name: Restricted(fleet, looker, name) for name in ("management", "cluster-1", "cluster-2")}


@pytest.fixture(scope="module")
def restricted_kubeconfig(fleet: Fleet, restricted: dict[str, Restricted]) -> Path:
    document: Any = yaml.safe_load(fleet.lab.kubeconfig.read_text())
    by_context = {one.cluster.context: one.user for one in restricted.values()}
    for entry in document["users"]:
        entry["user"] = by_context[entry["name"].partition("@")[2]]
    path = fleet.lab.root / "kubeconfig-restricted"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.mark.parametrize("name", ["management", "cluster-1"])
def test_each_right_that_is_missing_is_told_and_no_other(
    name: str, fleet: Fleet, looker: Looker, restricted: dict[str, Restricted], restricted_kubeconfig: Path
) -> None:
    one = restricted[name]
    settings = looker.settings({"kubeconfig": str(restricted_kubeconfig)})
    (cluster,) = [cluster for cluster in settings.clusters if cluster.name == name]
    api = Api(cluster, 600)

    def told() -> list[Any]:
        return list(permissions.findings(settings, cluster, api))

    # Of each resource one verb; what the rules review doesn't show is asked for right by right.
    lacking = {(need.group, need.resource, need.namespace): need for need in one.needs}
    try:
        awaited(lambda: not told())
        for need in lacking.values():
            one.allow([other for other in one.needs if (other.group, other.resource, other.verbs) != key(need)])
            awaited(told)
            found = {finding.kind.code: finding.what for finding in told()}
            assert found.keys() == {code for code, needs in one.kinds.items() if key(need) in map(key, needs)}
            assert all(f"{need.verbs[0]} {need.resource}" in what for what in found.values())
            one.allow(one.needs)
            awaited(lambda: not told())
    finally:
        one.allow(one.needs)


@pytest.mark.parametrize("code", ["permission-missing", "granting-not-allowed", "reading-not-allowed"])
def test_a_right_that_an_identity_lacks_is_told_alone(
    code: str, looker: Looker, restricted: dict[str, Restricted], restricted_kubeconfig: Path
) -> None:
    one, changes = restricted["cluster-1"], {"kubeconfig": str(restricted_kubeconfig)}
    others = [key(need) for kind, needs in one.kinds.items() if kind != code for need in needs]
    lacking = next(key(need) for need in reversed(one.kinds[code]) if key(need) not in others)
    try:
        one.allow([need for need in one.needs if key(need) != lacking])
        awaited(lambda: looker.told(changes) == [(code, "cluster-1")], 30)
    finally:
        one.allow(one.needs)
    awaited(lambda: looker.told(changes) == [], 30)


def test_a_server_that_doesnt_say_whom_it_takes_one_for_is_told(
    fleet: Fleet, looker: Looker, restricted: dict[str, Restricted], restricted_kubeconfig: Path
) -> None:
    """As one before Kubernetes 1.28."""
    one = restricted["management"]
    rbac: Any = client.RbacAuthorizationV1Api(fleet.api(MANAGEMENT))
    basic = rbac.read_cluster_role("system:basic-user")
    rules = [rule for rule in basic.rules if "selfsubjectreviews" not in rule.resources]
    subjects = [{"kind": "Group", "name": "system:serviceaccounts"}]
    changes = {"kubeconfig": str(restricted_kubeconfig), "rbac": {"adminSubjects": subjects}}
    try:
        one.allow(permissions.single(permissions.needs(looker.settings(changes), one.cluster)) + one.needs)
        rbac.patch_cluster_role("system:basic-user", {"rules": rules})
        awaited(lambda: looker.told(changes) == [("identity-unknown", "management")], 30)
        rbac.patch_cluster_role("system:basic-user", {"rules": basic.rules})
        awaited(lambda: looker.told(changes) == [], 30)
    finally:
        rbac.patch_cluster_role("system:basic-user", {"rules": basic.rules})
        one.allow(one.needs)


def key(need: Need) -> tuple[str, str, tuple[str, ...]]:
    return need.group, need.resource, need.verbs


# The first up, which one worker misses, by an identity with no more rights than are listed.


def test_what_a_half_finished_up_made_is_its_own(fleet: Fleet, looker: Looker, half: Report) -> None:
    assert set(half["unreachable"]) == {"cluster-2"}
    assert [finding["code"] for finding in half["findings"]] == ["no-answer"]
    assert fleet.registrations().keys() == {"cluster-1"}
    assert fleet.apps("cluster-1").read_namespaced_deployment("enterprise-agent", "gloo-mesh")
    rbac: Any = client.RbacAuthorizationV1Api(fleet.api("cluster-1"))
    assert rbac.read_cluster_role("enterprise-agent").rules

    assert looker.told() == []
    assert fleet.report("preflight")["findings"] == []


# Deployed.


def test_a_deployed_fleet_has_nothing_in_its_way(fleet: Fleet, looker: Looker, deployed: None) -> None:
    before = fleet.writes()

    assert fleet.report("preflight")["findings"] == []
    assert looker.told() == []
    assert fleet.writes() == before


def test_what_a_release_has_already_needs_no_marks_for_another_version(
    fleet: Fleet, looker: Looker, deployed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = json.loads(json.dumps(looker.exported))
    for found in state.entries(document):
        if found["type"] == RELEASE:
            found["inputs"]["version"] = "1.2.8"
    monkeypatch.setattr(looker, "exported", document)
    rbac: Any = client.RbacAuthorizationV1Api(fleet.api("cluster-1"))
    name, marks = "enterprise-agent", rbac.read_cluster_role("enterprise-agent").metadata
    rbac.patch_cluster_role(name, {"metadata": {"labels": dict.fromkeys(marks.labels)}})
    try:
        assert looker.told() == []
    finally:
        rbac.patch_cluster_role(name, {"metadata": {"labels": marks.labels}})


def test_contexts_that_were_swapped_are_told(looker: Looker, deployed: None) -> None:
    swapped = {"cluster-1": {"context": "cluster-2"}, "cluster-2": {"context": "cluster-1"}}

    assert looker.told({"workers": swapped}) == [("another-cluster", "cluster-1"), ("another-cluster", "cluster-2")]


def test_a_worker_that_was_given_another_name_is_told_by_the_one_it_had(looker: Looker, deployed: None) -> None:
    (finding,) = looker.findings({"workers": {"east": {"context": "cluster-1"}, "cluster-2": {}}})

    assert (finding.kind.code, finding.where) == ("renamed-cluster", "east")
    assert "Call it cluster-1 again, with context: cluster-1." in finding.remedy


def test_a_fleet_that_would_move_to_another_namespace_is_told(looker: Looker, deployed: None) -> None:
    told = looker.told({"namespace": "mesh"})

    assert told == [("namespace-moved", name) for name in ("management", "cluster-1", "cluster-2")]


def test_nothing_is_removed_where_the_contexts_of_the_last_run_lead_elsewhere(
    fleet: Fleet, deployed: None, restricted_kubeconfig: Path
) -> None:
    before, writes = restricted_kubeconfig.read_text(), fleet.writes()
    swapped = {"cluster-1": "cluster-2", "cluster-2": "cluster-1"}
    kubeconfig = yaml.safe_load(before)
    for context in kubeconfig["contexts"]:
        context["name"] = swapped.get(context["name"], context["name"])
    restricted_kubeconfig.write_text(yaml.safe_dump(kubeconfig))

    refused, recovered = fleet.run("remove", "--yes"), fleet.run("recover", "--yes", "--json")

    restricted_kubeconfig.write_text(before)
    assert refused.returncode == 1
    assert refused.stderr.count("another-cluster on ") == 2
    assert recovered.returncode == 2
    assert json.loads(recovered.stdout)["unseen"].keys() >= swapped.keys()
    assert fleet.writes() == writes


@pytest.mark.parametrize(
    ("context", "file", "code"),
    [("cluster-1", "kubeconfig-restricted", "another-cluster"), ("cluster-2", "kubeconfig-nowhere", "no-answer")],
)
def test_a_worker_that_leaves_is_looked_for_where_it_is_taken_away(
    looker: Looker,
    deployed: None,
    restricted_kubeconfig: Path,
    monkeypatch: pytest.MonkeyPatch,
    context: str,
    file: str,
    code: str,
) -> None:
    document = json.loads(json.dumps(looker.exported))
    (provider,) = [e["inputs"] for e in state.entries(document) if e["urn"].endswith(f"{PROVIDER}::cluster-2")]
    provider |= {"context": context, "kubeconfig": str(restricted_kubeconfig.with_name(file))}
    monkeypatch.setattr(looker, "exported", document)

    (finding,) = looker.findings({"workers": {"cluster-1": {}}})

    assert (finding.kind.code, finding.where) == (code, "cluster-2")
    assert "operations forget cluster-2 --stack preflight" in finding.remedy


def test_a_release_that_was_cut_off_later_is_told(fleet: Fleet, looker: Looker, deployed: None) -> None:
    core: Any = fleet.core("cluster-1")
    labels = {"owner": "helm", "name": "enterprise-agent", "status": "pending-upgrade", "version": "99"}
    record = {"metadata": {"name": "sh.helm.release.v1.enterprise-agent.v99", "labels": labels}}
    core.create_namespaced_secret("gloo-mesh", record)
    try:
        (finding,) = looker.findings()
    finally:
        core.delete_namespaced_secret("sh.helm.release.v1.enterprise-agent.v99", "gloo-mesh")

    assert (finding.kind.code, finding.where) == ("pending-release", "cluster-1")
    assert finding.remedy.endswith(f"python -m operations recover --stack {fleet.name}")


def test_a_resource_that_a_new_setting_would_make_is_told_when_somebody_made_it(
    fleet: Fleet, looker: Looker, deployed: None
) -> None:
    custom: Any = client.CustomObjectsApi(fleet.api(MANAGEMENT))
    group, version, plural = "networking.mesh.gloo.solo.io", "v1", "virtualmeshes"
    body = {"apiVersion": f"{group}/{version}", "kind": "VirtualMesh", "metadata": {"name": "virtual-mesh"}}
    custom.create_namespaced_custom_object(group, version, "gloo-mesh", plural, body | {"spec": {"meshes": []}})
    try:
        told = looker.told({"virtualMesh": {}})
    finally:
        custom.delete_namespaced_custom_object(group, version, "gloo-mesh", plural, "virtual-mesh")

    assert told == [("name-taken", "management")]


def test_the_listed_rights_are_enough_for_a_fleets_whole_life(fleet: Fleet, deployed: None) -> None:
    """What was deployed by them is changed and removed by them."""
    fleet.configure("workers", {"cluster-1": {"addons": {"enabled": False}}, "cluster-2": {}})
    fleet.settle()
    fleet.report("remove", "--yes")

    assert fleet.report("preflight")["findings"] == []


def entry(kind: str, **more: Any) -> dict[str, Any]:
    """A state's entry for something on cluster-1."""
    provider = "urn:pulumi:preflight::gloo-mesh::pulumi:providers:kubernetes::cluster-1::4711"
    return {"urn": f"urn:pulumi:preflight::gloo-mesh::{kind}::it", "type": kind, "provider": provider, **more}


def run(fleet: Fleet, commands: str) -> None:
    """What a finding says to type, as it is."""
    environment = fleet.lab.environment()
    environment["PATH"] = f"{fleet.lab.root / 'bin'}{os.pathsep}{environment['PATH']}"
    subprocess.run(commands, shell=True, env=environment, check=True, capture_output=True)
