"""`operations check` on one fleet: clean as deployed, and one finding for each fault that somebody plants."""

import base64
import json
import os
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

from components.settings import Settings, configured, encrypted, pem
from lab import cluster as processes
from lab import packages
from lab.fleet import MANAGEMENT, Lab
from lab.plugins import REPOSITORY
from lab.relay.protocol import PULL, PUSH
from operations import certificates, renewals
from operations.certificates import Expiry
from operations.check import Checked, check
from operations.findings import Finding
from tests.authority import CLIENT, DAY, SERVER, Made, root
from tests.engine.colleague import Colleague
from tests.engine.fleet import Fleet
from tests.forwarder import Forwarder, Place
from tests.relay import Relay, self_signed

pytestmark = pytest.mark.engine

WORKERS = ("cluster-1", "cluster-2")
NAMESPACE, ADDONS = "gloo-mesh", "gloo-mesh-addons"

Planted = Callable[["Site"], Any]


class Site:
    """A deployed fleet, somebody with rights on its clusters, and the look that is under test."""

    def __init__(self, fleet: Fleet, way: Forwarder) -> None:
        self.fleet = fleet
        self.way = way
        """By which the agent of cluster-2 reaches the relay."""
        self.lab = fleet.lab
        self.settings = Settings.read(fleet.file)
        self.told: list[Finding] = []
        self.patience = 90
        """Seconds that agents, controllers and webhooks may take."""

    def on(self, cluster: str) -> Colleague:
        return Colleague(self.lab, cluster)

    def look(self, settings: Settings | None = None) -> Checked:
        return check(self.fleet.name, settings or self.settings)

    def expiry(self) -> Expiry:
        return certificates.look(self.fleet.name, self.settings)

    def comes_to(self, wanted: set[tuple[str, str]], settings: Settings | None = None) -> set[tuple[str, str]]:
        """Codes and places as soon as they are as wanted, or as they are in the end."""
        until = time.monotonic() + self.patience
        while True:
            self.told = self.look(settings).findings
            found = {(finding.kind.code, finding.where) for finding in self.told}
            if found == wanted:
                return found
            if time.monotonic() > until:
                # What one test left behind, no other gets rid of by waiting.
                self.patience = 10
                return found
            time.sleep(0.2)

    def process(self, cluster: str, name: str) -> psutil.Process:
        """A process of the lab beside a cluster."""
        running = processes.components(self.lab.root / "kwok/clusters" / cluster)
        return next(process for _, found, process in running if found == name)

    def run(self, command: str) -> None:
        """What a finding says to do next."""
        done = subprocess.run(
            ["bash", "-c", command], env=self.lab.environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def site(lab: Lab) -> Iterator[Site]:
    """The lab stack with a mesh, deployed; somebody stands for the controller that accepts it."""
    with Forwarder(lambda: place(lab.relay_address)) as way:
        workers = {"cluster-1": {}, "cluster-2": {"relayAddress": way.address}}
        mesh = {"globalAccessPolicy": "ENABLED"}
        configured = {"gloo-mesh:virtualMesh": mesh, "gloo-mesh:relay": {}, "gloo-mesh:workers": workers}
        fleet = Fleet(lab, "check", configured)
        fleet.settle()
        accept(fleet)
        yield Site(fleet, way)


def place(address: str) -> Place:
    host, _, port = address.rpartition(":")
    return host, int(port)


def accept(fleet: Fleet) -> None:
    """What the controller does with a mesh and its policies."""
    colleague = Colleague(fleet.lab, MANAGEMENT)
    for plural in ("virtualmeshes", "accesspolicies"):
        for name, item in fleet.custom("networking.mesh.gloo.solo.io", "v1", plural).items():
            status = {"observedGeneration": item["metadata"]["generation"], "state": "ACCEPTED"}
            colleague.patch(f"{plural} {name}", {"status": status}, "--subresource=status")


def test_a_fleet_that_was_just_deployed_is_well(site: Site) -> None:
    assert site.comes_to(set()) == set(), site.told

    done = site.fleet.run("check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All is well." in done.stdout
    machine = json.loads(site.fleet.run("check", "--json").stdout)
    assert machine["findings"] == []
    assert machine["clusters"]["cluster-1"] == {
        "version": "1.2.9",
        "image": "1.2.9",
        "behind": False,
        "ready": "4/4",
        "pull": 1,
        "push": 1,
    }


def test_without_a_record_the_rest_is_told_all_the_same(site: Site) -> None:
    wanted = {("record-missing", "management"), ("token-differs", "cluster-1")}

    with unrecorded(site), another_token(site):
        assert site.comes_to(wanted) == wanted, site.told
    assert site.comes_to(set()) == set(), site.told


def test_looking_writes_nothing(site: Site) -> None:
    before = site.fleet.writes()
    site.look()

    assert site.fleet.writes() == before


def unready(cluster: str, deployment: str) -> Planted:
    @contextmanager
    def plant(site: Site) -> Iterator[None]:
        on = site.on(cluster)
        pod = on.pod(deployment)
        condition = {"type": "Ready", "status": "False"}
        on.patch(f"pod {pod}", {"status": {"conditions": [condition]}}, "--subresource=status")
        try:
            yield
        finally:
            on.kubectl("delete", "pod", pod)

    return plant


@contextmanager
def outside_the_mesh(site: Site) -> Iterator[None]:
    on = site.on("cluster-1").within(ADDONS)
    on.kubectl("label", "namespace", ADDONS, "istio-injection-")
    on.kubectl("delete", "pod", on.pod("redis"))
    on.kubectl("rollout", "status", "deployment", "redis")
    on.kubectl("label", "namespace", ADDONS, "istio-injection=enabled")
    try:
        yield
    finally:
        on.kubectl("delete", "pod", on.pod("redis"))


@contextmanager
def unlabelled(site: Site) -> Iterator[None]:
    on = site.on("cluster-2")
    on.kubectl("label", "namespace", ADDONS, "istio-injection-")
    try:
        yield
    finally:
        on.kubectl("label", "namespace", ADDONS, "istio-injection=enabled")


@contextmanager
def locked_out(site: Site) -> Iterator[None]:
    with site.on("cluster-2").without("clusterrolebinding deployer"):
        yield


@contextmanager
def unseen_policy(site: Site) -> Iterator[None]:
    with site.on(MANAGEMENT).made("networking.mesh.gloo.solo.io/v1", "TrafficPolicy", "theirs", {"spec": {}}):
        yield


@contextmanager
def edited_mesh(site: Site) -> Iterator[None]:
    """Generations only rise, so the controller's stand-in has to take it in again."""
    on = site.on(MANAGEMENT)
    on.patch("virtualmeshes virtual-mesh", {"spec": {"globalAccessPolicy": "DISABLED"}})
    try:
        yield
    finally:
        on.patch("virtualmeshes virtual-mesh", {"spec": {"globalAccessPolicy": "ENABLED"}})
        generation = on.get("virtualmeshes virtual-mesh")["metadata"]["generation"]
        on.patch("virtualmeshes virtual-mesh", {"status": {"observedGeneration": generation}}, "--subresource=status")


def refused(policy: str) -> Planted:
    @contextmanager
    def plant(site: Site) -> Iterator[None]:
        on = site.on(MANAGEMENT)
        on.patch(policy, {"status": {"state": "INVALID", "errors": ["no such mesh"]}}, "--subresource=status")
        try:
            yield
        finally:
            on.patch(policy, {"status": {"state": "ACCEPTED", "errors": None}}, "--subresource=status")

    return plant


@contextmanager
def issued(site: Site) -> Iterator[None]:
    with site.on("cluster-1").made(
        "certificates.mesh.gloo.solo.io/v1", "IssuedCertificate", "istiod", {"spec": {"hosts": []}}
    ):
        yield


@contextmanager
def bounced(site: Site) -> Iterator[None]:
    with site.on("cluster-2").made(
        "certificates.mesh.gloo.solo.io/v1", "PodBounceDirective", "istiod", {"spec": {"podsToBounce": []}}
    ):
        yield


@contextmanager
def no_forwarding(site: Site) -> Iterator[None]:
    """kwok is the kubelet that a port-forward goes through."""
    processes.end([site.process(MANAGEMENT, "kwok-controller")])
    try:
        yield
    finally:
        site.lab.start(MANAGEMENT)


@contextmanager
def no_agent(site: Site) -> Iterator[None]:
    processes.end([site.process("cluster-2", "relay")])
    try:
        yield
    finally:
        site.lab.start("cluster-2")


def half(method: str) -> Planted:
    return lambda site: half_connected(site, method)


@contextmanager
def half_connected(site: Site, method: str) -> Iterator[None]:
    """In the agent's place, with its certificate; apart, because gRPC works in a process or in its forks."""
    on = site.on("cluster-2")
    client, relay_root = (
        {key: base64.b64decode(value).decode() for key, value in on.get(f"secret {name}")["data"].items()}
        for name in ("relay-client-tls-secret", "relay-root-tls-secret")
    )
    given = {
        "method": method,
        "cluster": "cluster-2",
        "address": site.lab.relay_address,
        "authority": "enterprise-networking.gloo-mesh",
        "root": relay_root["ca.crt"],
        "client": (client["tls.crt"], client["tls.key"]),
    }
    command = [sys.executable, "-m", "tests.half_agent"]
    folder, path = site.lab.root / "tmp", {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with no_agent(site), subprocess.Popen(command, cwd=folder, env=path, stdin=subprocess.PIPE, text=True) as agent:
        assert agent.stdin
        agent.stdin.write(json.dumps(given))
        agent.stdin.close()
        try:
            yield
        finally:
            agent.kill()


def led(elsewhere: Place | None) -> Planted:
    """The address leads elsewhere, or nowhere, from now on; the agent's own connection lives on."""

    @contextmanager
    def plant(site: Site) -> Iterator[None]:
        assert site.comes_to(set()) == set(), "the agent has to be connected"
        before = site.way.target
        site.way.target = lambda: elsewhere
        try:
            yield
        finally:
            site.way.target = before

    return plant


@contextmanager
def taken_over(site: Site) -> Iterator[None]:
    with (
        Relay(*self_signed("enterprise-networking.gloo-mesh")).start() as other,
        led(place(other.address))(site),
    ):
        yield


@contextmanager
def misnamed(site: Site) -> Iterator[None]:
    """Under the same root, as a company's is: another of its servers."""
    resources = json.loads(site.fleet.pulumi("stack", "export", "--show-secrets"))["deployment"]["resources"]
    (entry,) = [entry for entry in resources if entry["urn"].endswith("::relay-root-key")]
    key = private(json.loads(entry["outputs"]["privateKeyPem"]["plaintext"]).encode())
    content = site.on(MANAGEMENT).get("secret relay-root-tls-secret")["data"]["ca.crt"]
    own = Made(x509.load_pem_x509_certificate(base64.b64decode(content)), key)
    server = own.issue("server", names=("relay.elsewhere.example",), uses=(SERVER,))
    with Relay(server.pem, server.key_pem).start() as other, led(place(other.address))(site):
        yield


@contextmanager
def swallowed(site: Site) -> Iterator[None]:
    """As by a firewall: the call is taken, and nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as nobody, led(nobody.getsockname())(site):
        yield


@contextmanager
def uncertified(site: Site) -> Iterator[None]:
    """The agent has it in memory, for as long as its pod lives."""
    with site.on("cluster-1").without("secret relay-client-tls-secret"):
        yield


@contextmanager
def unregistered(site: Site) -> Iterator[None]:
    with site.on(MANAGEMENT).without("kubernetesclusters cluster-1"):
        yield


@contextmanager
def ghost(site: Site) -> Iterator[None]:
    with site.on(MANAGEMENT).made(
        "multicluster.solo.io/v1alpha1", "KubernetesCluster", "ghost", {"spec": {"clusterDomain": "cluster.local"}}
    ):
        yield


@contextmanager
def another_signing(site: Site) -> Iterator[None]:
    with site.on(MANAGEMENT).secret("relay-tls-signing-secret", {"tls.crt": root().signing().pem}):
        yield


@contextmanager
def another_key(site: Site) -> Iterator[None]:
    with site.on(MANAGEMENT).secret("relay-tls-signing-secret", {"tls.key": root().signing().key_pem}):
        yield


@contextmanager
def another_token(site: Site) -> Iterator[None]:
    with site.on("cluster-1").secret("relay-identity-token-secret", {"token": "token-canary"}):
        yield


@contextmanager
def no_token(site: Site) -> Iterator[None]:
    with site.on(MANAGEMENT).without("secret relay-forwarding-identity-token-secret"):
        yield


@contextmanager
def unrecorded(site: Site) -> Iterator[None]:
    with site.on(MANAGEMENT).without("configmap gloo-mesh-fleet"):
        yield


@contextmanager
def anothers(site: Site) -> Iterator[None]:
    on = site.on(MANAGEMENT)
    on.patch("configmap gloo-mesh-fleet", {"data": {"stack": "older"}})
    try:
        yield
    finally:
        on.patch("configmap gloo-mesh-fleet", {"data": {"stack": site.fleet.name}})


@contextmanager
def unreadable_release(site: Site) -> Iterator[None]:
    on = site.on("cluster-2")
    with on.secret(on.record("enterprise-agent"), {"release": "not what Helm wrote"}):
        yield


@contextmanager
def undeployed(site: Site) -> Iterator[None]:
    on = site.on(MANAGEMENT)
    before = on.get("configmap gloo-mesh-fleet")["data"]["versions"]
    versions = {name: version for name, version in json.loads(before).items() if name != "cluster-2"}
    on.patch("configmap gloo-mesh-fleet", {"data": {"versions": json.dumps(versions)}})
    try:
        yield
    finally:
        on.patch("configmap gloo-mesh-fleet", {"data": {"versions": before}})


@contextmanager
def forgotten_release(site: Site) -> Iterator[None]:
    on = site.on("cluster-1").within(ADDONS)
    with on.without(f"secret {on.record('enterprise-agent-addons')}"):
        yield


@contextmanager
def failed_release(site: Site) -> Iterator[None]:
    on = site.on("cluster-2")
    record = on.record("enterprise-agent")
    on.kubectl("label", "secret", record, "status=failed", "--overwrite")
    try:
        yield
    finally:
        on.kubectl("label", "secret", record, "status=deployed", "--overwrite")


@contextmanager
def other_version(site: Site) -> Iterator[None]:
    older = site.lab.root / "older"
    packages.pack(site.lab.tool("helm"), older, site.lab.environment(), "1.2.0")
    with site.on("cluster-1").within(ADDONS).upgraded("enterprise-agent-addons", older / "enterprise-agent-1.2.0.tgz"):
        yield


@contextmanager
def other_values(site: Site) -> Iterator[None]:
    chart = site.lab.packages / "enterprise-agent-1.2.9.tgz"
    set_value = "rate-limiter.extraTemplateAnnotations.by=hand"
    with site.on("cluster-2").within(ADDONS).upgraded("enterprise-agent-addons", chart, "--set", set_value):
        yield


@contextmanager
def other_chart(site: Site) -> Iterator[None]:
    """Of the same version with the same values, and with an object more; nothing that a preview looks at says so."""
    altered = site.lab.root / "altered"
    with tarfile.open(site.lab.packages / "enterprise-agent-1.2.9.tgz") as archive:
        archive.extractall(altered, filter="data")
    chart, on = altered / "enterprise-agent", site.on("cluster-2").within(ADDONS)
    (chart / "templates/theirs.yaml").write_text("{apiVersion: v1, kind: ConfigMap, metadata: {name: theirs}}")
    with on.upgraded("enterprise-agent-addons", chart):
        try:
            yield
        finally:
            if [finding.kind.code for finding in site.told] == ["release-by-hand"]:
                site.run(site.told[0].remedy)
                on.kubectl("wait", "configmap/theirs", "--for=delete", "--timeout=60s")


def by_command(cluster: str, namespace: str, *kubectl: str) -> Planted:
    """A change that a finding's own command takes back."""

    @contextmanager
    def plant(site: Site) -> Iterator[None]:
        site.on(cluster).within(namespace).kubectl(*kubectl)
        yield
        site.run(site.told[0].remedy)

    return plant


PATCH = '{"spec":{"template":{"spec":{"containers":[{"name":"redis","image":"evil"}]}}}}'
SETTINGS, RELAYED = "settings.settings.mesh.gloo.solo.io", '{"spec":{"relay":{"server":{"address":"by-hand"}}}}'
CRD = "podbouncedirectives.certificates.mesh.gloo.solo.io"
SCHEMA = '[{"op":"remove","path":"/spec/versions/0/schema/openAPIV3Schema/properties/spec"}]'

FAULTS: list[tuple[str, str, Planted, str]] = [
    ("deployment-not-ready", "management", unready(MANAGEMENT, "dashboard"), "dashboard"),
    ("addon-not-injected", "cluster-1", outside_the_mesh, "Deployment redis"),
    ("addons-not-labelled", "cluster-2", unlabelled, "istio-injection=enabled"),
    ("cluster-not-seen", "cluster-2", locked_out, "forbidden"),
    ("policy-pending", "management", unseen_policy, "TrafficPolicy theirs in namespace gloo-mesh has no status"),
    ("policy-pending", "management", edited_mesh, "is ACCEPTED as of generation"),
    ("policy-not-accepted", "management", refused("virtualmeshes virtual-mesh"), "INVALID: no such mesh"),
    ("policy-not-accepted", "management", refused(f"accesspolicies {ADDONS}"), f"AccessPolicy {ADDONS}"),
    ("istio-ca-issued", "cluster-1", issued, "IssuedCertificate"),
    ("istio-ca-issued", "cluster-2", bounced, "PodBounceDirective"),
    ("relay-metrics-unread", "management", no_forwarding, "port-forward"),
    ("agent-not-connected", "cluster-2", no_agent, "no client"),
    ("agent-half-connected", "cluster-2", half(PULL), "no push client of cluster-2"),
    ("agent-half-connected", "cluster-2", half(PUSH), "no pull client of cluster-2"),
    ("relay-not-answering", "management", led(None), "The relay doesn't answer at 127.0.0.1"),
    ("relay-not-answering", "management", swallowed, "The relay doesn't answer at 127.0.0.1"),
    ("relay-not-trusted", "management", taken_over, "not under this fleet's root"),
    ("relay-not-trusted", "management", misnamed, "relay.elsewhere.example"),
    ("client-certificate-missing", "cluster-1", uncertified, "no Secret relay-client-tls-secret"),
    ("agent-unregistered", "cluster-1", unregistered, "cluster-1"),
    ("registration-without-agent", "management", ghost, "ghost"),
    ("certificate-changed", "management", another_signing, "relay-signing"),
    ("certificate-unusable", "management", another_key, "tls.key of Secret relay-tls-signing-secret"),
    ("token-differs", "cluster-1", another_token, "relay-identity-token-secret"),
    ("relay-secret-missing", "management", no_token, "relay-forwarding-identity-token-secret"),
    ("record-missing", "management", unrecorded, "gloo-mesh-fleet"),
    ("another-fleet", "management", anothers, "the stack older deployed, and this is check"),
    (
        "cluster-not-seen",
        "cluster-2",
        unreadable_release,
        "is labelled as a record of Helm's, and can't be read as one",
    ),
    ("worker-not-deployed", "cluster-2", undeployed, "no up has deployed it"),
    ("release-missing", "cluster-1", forgotten_release, "enterprise-agent-addons"),
    ("release-unfinished", "cluster-2", failed_release, "failed"),
    ("release-version", "cluster-1", other_version, "1.2.0"),
    ("release-values", "cluster-2", other_values, "enterprise-agent-addons"),
    ("release-by-hand", "cluster-2", other_chart, "Upgrade complete"),
    (
        "object-changed",
        "cluster-1",
        by_command("cluster-1", NAMESPACE, "label", "service", "enterprise-agent", "app=mine", "--overwrite"),
        "Service enterprise-agent in namespace gloo-mesh isn't as Helm release enterprise-agent made it, in "
        "metadata.labels.app (by kubectl-label).",
    ),
    (
        "object-changed",
        "cluster-2",
        by_command("cluster-2", NAMESPACE, "label", "service", "enterprise-agent", "app-"),
        "metadata.labels.app (removed)",
    ),
    (
        "object-changed",
        "cluster-1",
        by_command("cluster-1", ADDONS, "patch", "deployment", "redis", "-p", PATCH),
        "spec.template.spec.containers[redis].image (by kubectl-patch)",
    ),
    (
        "object-changed",
        "management",
        by_command(MANAGEMENT, NAMESPACE, "scale", "deployment", "dashboard", "--replicas=2"),
        "spec.replicas (by kubectl)",
    ),
    (
        "object-changed",
        "management",
        by_command(MANAGEMENT, NAMESPACE, "patch", SETTINGS, "settings", "--type=merge", "-p", RELAYED),
        "spec.relay.server.address (by kubectl-patch)",
    ),
    (
        "object-changed",
        "cluster-2",
        by_command("cluster-2", NAMESPACE, "patch", "crd", CRD, "--type=json", "-p", SCHEMA),
        f"CRD {CRD} isn't as Helm release enterprise-agent-crds made it, in spec.versions",
    ),
    (
        "object-changed",
        "cluster-1",
        by_command("cluster-1", NAMESPACE, "patch", "clusterrole", "enterprise-agent", "-p", '{"rules":[]}'),
        "ClusterRole enterprise-agent isn't",
    ),
    (
        "object-deleted",
        "management",
        by_command(MANAGEMENT, NAMESPACE, "delete", "service", "dashboard"),
        "Service dashboard in namespace gloo-mesh, of Helm release gloo-mesh-enterprise, is gone.",
    ),
    (
        "object-deleted",
        "cluster-2",
        by_command("cluster-2", ADDONS, "delete", "deployment", "redis"),
        "Deployment redis in namespace gloo-mesh-addons, of Helm release enterprise-agent-addons, is gone.",
    ),
    (
        "crd-missing",
        "management",
        by_command(MANAGEMENT, NAMESPACE, "delete", "crd", "dashboards.settings.mesh.gloo.solo.io"),
        "There is no CRD dashboards.settings.mesh.gloo.solo.io.",
    ),
    (
        "crd-missing",
        "cluster-1",
        by_command("cluster-1", NAMESPACE, "delete", "crd", CRD),
        f"There is no CRD {CRD}.",
    ),
    (
        "crd-outdated",
        "cluster-2",
        by_command("cluster-2", NAMESPACE, "annotate", "crd", CRD, "crd.solo.io/specHash=0", "--overwrite"),
        CRD,
    ),
]


@pytest.mark.parametrize(("code", "where", "plant", "told"), FAULTS, ids=[f"{f[0]}-{n}" for n, f in enumerate(FAULTS)])
def test_a_planted_fault_is_told_and_nothing_else(site: Site, code: str, where: str, plant: Planted, told: str) -> None:
    # That all is well again is part of the next fault's test, and of the last test.
    with plant(site):
        found = site.comes_to({(code, where)})
        reports = [finding.report() for finding in site.told]
    # Afterwards, so that a fault that isn't told is taken back all the same.
    assert found == {(code, where)}, reports
    assert told in reports[0]["what"]


ENDED = root().issue("server", begins=-400 * DAY, ends=-DAY)
LICENCE = "secret gloo-mesh-enterprise-license"


def licence(ends: timedelta) -> Planted:
    """One in the vendor's form."""

    @contextmanager
    def plant(site: Site) -> Iterator[None]:
        token = {"exp": (datetime.now(UTC) + ends).timestamp()}
        payload = base64.urlsafe_b64encode(json.dumps(token).encode()).decode().rstrip("=")
        with site.on(MANAGEMENT).secret(LICENCE.partition(" ")[2], {"key": f"e30.{payload}.signed"}):
            yield

    return plant


def served(content: str) -> Planted:
    return lambda site: site.on(MANAGEMENT).secret("relay-server-tls-secret", {"tls.crt": content})


@pytest.mark.parametrize(
    ("code", "plant", "told"),
    [
        ("certificate-expired", served(ENDED.pem), "relay-server-tls-secret"),
        ("certificate-unreadable", served("not PEM"), "relay-server-tls-secret"),
        ("licence-expired", licence(-DAY), "The licence ended on"),
        ("licence-due", licence(20 * DAY), "in 19 days"),
        ("licence-unreadable", lambda site: site.on(MANAGEMENT).without(LICENCE), "is not there"),
    ],
)
def test_what_has_ended_or_ends_is_told_and_nothing_else(site: Site, code: str, plant: Planted, told: str) -> None:
    assert site.expiry().findings == []

    with plant(site):
        found = site.expiry().findings

    assert [(finding.kind.code, finding.where) for finding in found] == [(code, "management")]
    assert told in found[0].what


def test_a_certificate_that_ends_soon_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pem, "SOON", timedelta(days=400))
    monkeypatch.setattr(renewals, "PATIENCE", 1)

    assert site.comes_to({("certificate-expiring", "management")}) == {("certificate-expiring", "management")}
    assert "tls.crt of Secret relay-server-tls-secret" in site.told[0].what


def client_certificate(site: Site, **changes: Any) -> dict[str, str]:
    """One that the relay would have issued for cluster-1, but for these changes, and its key."""
    trusted = site.on(MANAGEMENT).get("secret relay-tls-signing-secret")["data"]
    certificate, key = (base64.b64decode(trusted[name]) for name in ("tls.crt", "tls.key"))
    signing = Made(x509.load_pem_x509_certificate(certificate), private(key))
    made = signing.issue("agent", names=["cluster-1"], uses=[CLIENT], **changes)
    return {"tls.crt": made.pem + certificate.decode(), "tls.key": made.key_pem}


def test_a_client_certificate_for_anything_but_a_client_is_told(site: Site) -> None:
    with site.on("cluster-1").secret("relay-client-tls-secret", client_certificate(site, ca=True, signs=None)):
        assert site.comes_to({("certificate-unusable", "cluster-1")}) == {("certificate-unusable", "cluster-1")}
        assert "is a CA's certificate" in site.told[0].what


def test_a_client_certificate_that_the_relay_has_not_renewed_is_told(site: Site) -> None:
    soon = client_certificate(site, begins=-360 * DAY, ends=5 * DAY)
    with site.on("cluster-1").secret("relay-client-tls-secret", soon):
        (finding,) = site.expiry().findings

    assert (finding.kind.code, finding.where) == ("certificate-due", "cluster-1")
    assert "relay-client-tls-secret" in finding.what


def test_an_agent_that_the_relay_turns_away_is_told_with_the_cause(site: Site) -> None:
    """It starts anew, as after a node's failure, and has another token than the relay."""
    on = site.on("cluster-1")
    wanted = {("token-differs", "cluster-1"), ("agent-not-connected", "cluster-1")}
    with another_token(site), on.without("secret relay-client-tls-secret"):
        on.kubectl("delete", "pod", on.pod("enterprise-agent"))
        found = site.comes_to(wanted)

    assert found == wanted, site.told
    assert site.comes_to(set()) == set(), site.told


def test_a_fleet_that_nobody_registered_is_told_worker_by_worker(site: Site) -> None:
    on = site.on(MANAGEMENT)
    wanted = {("agent-unregistered", "cluster-1"), ("agent-unregistered", "cluster-2")}
    with on.without("kubernetesclusters cluster-1"), on.without("kubernetesclusters cluster-2"):
        assert site.comes_to(wanted) == wanted, site.told


def test_an_agent_that_isnt_ready_is_told_with_what_comes_of_it(site: Site) -> None:
    wanted = {("deployment-not-ready", "cluster-1"), ("agent-not-connected", "cluster-1")}
    with unready("cluster-1", "enterprise-agent")(site):
        assert site.comes_to(wanted) == wanted, site.told


def test_a_client_that_nobody_registered_is_told(site: Site) -> None:
    """A worker that was taken out of the configuration and forgotten, whose agent still runs."""
    config = configured(site.fleet.file)
    config["workers"] = {"cluster-1": {}}
    settings = Settings.parse(config, encrypted(config))

    with site.on(MANAGEMENT).without("kubernetesclusters cluster-2"):
        assert site.comes_to({("connected-unregistered", "management")}, settings) == {
            ("connected-unregistered", "management")
        }


def test_an_agent_that_leads_the_management_plane_is_told_beside_who_made_it(site: Site) -> None:
    agent = site.on("cluster-1")
    before = agent.get("deployment enterprise-agent")["spec"]["template"]["spec"]["containers"][0]["image"]
    agent.kubectl(
        "set", "image", "deployment", "enterprise-agent", f"enterprise-agent={before.replace('1.2.9', '1.3.0')}"
    )
    wanted = {("agent-skew", "cluster-1"), ("object-changed", "cluster-1")}

    assert site.comes_to(wanted) == wanted
    told = {finding.kind.code: finding for finding in site.told}
    assert "1.3.0" in told["agent-skew"].what
    assert "spec.template.spec.containers[enterprise-agent].image" in told["object-changed"].what
    site.run(told["object-changed"].remedy)


def test_a_relay_that_died_shows_on_every_side(site: Site) -> None:
    processes.end([site.process(MANAGEMENT, "relay")])
    wanted = {("relay-metrics-unread", "management"), ("relay-not-answering", "management")}

    assert site.comes_to(wanted) == wanted
    site.lab.start(MANAGEMENT)


def test_no_secret_is_in_what_is_told(site: Site) -> None:
    on = site.on("cluster-1")
    with on.secret("relay-identity-token-secret", {"token": "token-canary"}):
        told = site.fleet.run("check")
        machine = site.fleet.run("check", "--json")

    assert told.returncode == machine.returncode == 1
    assert "token-differs" in told.stdout
    for said in (told.stdout, told.stderr, machine.stdout, machine.stderr):
        assert "canary" not in said
        assert "PRIVATE KEY" not in said


def test_waiting_says_what_for_and_ends_when_all_is_well(site: Site) -> None:
    with ghost(site):
        waited = site.fleet.run("check", "--wait", "6s")
    again = site.fleet.run("check", "--wait", "1m")

    assert waited.returncode == 1
    assert "Waiting for: registration-without-agent on management." in waited.stderr
    assert again.returncode == 0, again.stdout + again.stderr


def test_in_the_end_all_is_well_again(site: Site) -> None:
    assert site.comes_to(set()) == set(), [finding.report() for finding in site.told]


def test_an_agent_that_the_configuration_itself_lets_lead_is_told_alone(site: Site) -> None:
    values = {"enterpriseAgent": {"image": {"tag": "1.3.0"}}}
    site.fleet.configure("workers", {"cluster-1": {"values": {"agent": values}}, "cluster-2": {}})
    site.fleet.settle()

    wanted = {("agent-skew", "cluster-1")}
    assert site.comes_to(wanted, Settings.read(site.fleet.file)) == wanted
    assert "workers.cluster-1.values names an image.tag" in site.told[0].remedy


def private(key: bytes) -> CertificateIssuerPrivateKeyTypes:
    read: Any = serialization.load_pem_private_key(key, None)
    return read
