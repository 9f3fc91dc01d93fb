"""The relay's stand-in and its agents, on a fleet that the shell flow installed: who is let in, who isn't, and why."""

import base64
import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from kubernetes import client, config

from lab import proof
from lab.fleet import MANAGEMENT, Lab
from lab.plugins import REPOSITORY
from lab.relay.protocol import PUSH
from tests.authority import AUTHORITY, CLIENT, DAY, Made, root
from tests.awaiting import awaited
from tests.lab import test_seed_flow

pytestmark = [pytest.mark.lab, test_seed_flow.WITH_OPENSSL]

NAMESPACE = "gloo-mesh"
WORKERS = ("cluster-1", "cluster-2")
WORKER = "cluster-2"
"""The one that is tampered with."""
CONNECTED = {"pull": 1, "push": 1}
ABSENT = {"pull": 0, "push": 0}
CLIENT_SECRET, TOKEN_SECRET, ROOT_SECRET = (
    "relay-client-tls-secret",
    "relay-identity-token-secret",
    "relay-root-tls-secret",
)


class Fleet:
    """The installed fleet, and how to spoil it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._apis = {name: config.new_client_from_config(str(lab.kubeconfig), name) for name in lab.clusters()}

    def core(self, cluster: str) -> Any:
        return client.CoreV1Api(self._apis[cluster])

    def apps(self, cluster: str) -> Any:
        return client.AppsV1Api(self._apis[cluster])

    def gauges(self) -> dict[str, dict[str, int]]:
        try:
            return proof.gauges(self._apis[MANAGEMENT])
        except (OSError, client.ApiException):
            return {}

    def secret(self, cluster: str, name: str) -> dict[str, str]:
        data = self.core(cluster).read_namespaced_secret(name, NAMESPACE).data
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def write(self, cluster: str, name: str, content: dict[str, str]) -> None:
        """Give a Secret another content; it is made where there is none."""
        body = {"metadata": {"name": name}, "stringData": content}
        if name in self.secrets(cluster):
            self.core(cluster).patch_namespaced_secret(name, NAMESPACE, body)
        else:
            self.core(cluster).create_namespaced_secret(NAMESPACE, body)

    def secrets(self, cluster: str) -> set[str]:
        return {found.metadata.name for found in self.core(cluster).list_namespaced_secret(NAMESPACE).items}

    def delete(self, cluster: str, name: str) -> None:
        if name in self.secrets(cluster):
            self.core(cluster).delete_namespaced_secret(name, NAMESPACE)

    def argue(self, cluster: str, deployment: str, **changes: str) -> None:
        """Give a Deployment other arguments."""
        found = self.apps(cluster).read_namespaced_deployment(deployment, NAMESPACE)
        (container,) = found.spec.template.spec.containers
        arguments = dict(argument.partition("=")[::2] for argument in container.args)
        arguments |= {f"--{name.replace('_', '-')}": value for name, value in changes.items()}
        args = [f"{name}={value}" for name, value in arguments.items()]
        template = {"spec": {"containers": [{"name": container.name, "args": args}]}}
        self.apps(cluster).patch_namespaced_deployment(deployment, NAMESPACE, {"spec": {"template": template}})

    def scale(self, cluster: str, deployment: str, replicas: int) -> None:
        self.apps(cluster).patch_namespaced_deployment(deployment, NAMESPACE, {"spec": {"replicas": replicas}})

    def signing(self) -> Made:
        """The relay's authority for clients."""
        held = self.secret(MANAGEMENT, "relay-tls-signing-secret")
        key: Any = serialization.load_pem_private_key(held["tls.key"].encode(), None)
        return Made(x509.load_pem_x509_certificate(held["tls.crt"].encode()), key)

    def says(self, cluster: str) -> str:
        """Everything that a cluster's relay or agent has said."""
        return (self.lab.root / f"kwok/clusters/{cluster}/logs/relay.log").read_text()

    def agent_says(self) -> str:
        return self.says(WORKER)

    def process(self, cluster: str, name: str) -> psutil.Process:
        (row,) = [row for row in self.lab.status() if row["cluster"] == cluster]
        return psutil.Process(row["components"][name])


def streams(fleet: Fleet, worker: str = WORKER) -> dict[str, int] | None:
    return fleet.gauges().get(worker)


@pytest.fixture(scope="module")
def run(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> test_seed_flow.Run:
    return test_seed_flow.install(lab, tmp_path_factory, parallel="1")


@pytest.fixture(scope="module")
def installed(lab: Lab, run: test_seed_flow.Run) -> Fleet:
    return Fleet(lab)


class TestSideBySide(test_seed_flow.Installed): ...


@pytest.fixture
def fleet(installed: Fleet) -> Iterator[Fleet]:
    """The fleet with every agent connected; what a test does to the tampered worker is undone, and that seen."""
    awaited(lambda: all(streams(installed, worker) == CONNECTED for worker in WORKERS))
    agent, relay = (WORKER, "enterprise-agent"), (MANAGEMENT, "enterprise-networking")
    deployments = {
        place: installed.apps(place[0]).read_namespaced_deployment(place[1], NAMESPACE) for place in (agent, relay)
    }
    # The client certificate first: an agent that gets its token back without one asks for its own meanwhile.
    secrets = {name: installed.secret(WORKER, name) for name in (CLIENT_SECRET, ROOT_SECRET, TOKEN_SECRET)}
    server = installed.secret(MANAGEMENT, "relay-server-tls-secret")
    yield installed
    for name, content in secrets.items():
        installed.write(WORKER, name, content)
    installed.write(MANAGEMENT, "relay-server-tls-secret", server)
    for (cluster, name), before in deployments.items():
        body = {
            "spec": {
                "replicas": before.spec.replicas,
                "template": {
                    "spec": {
                        "containers": [
                            {"name": container.name, "args": container.args}
                            for container in before.spec.template.spec.containers
                        ]
                    }
                },
            }
        }
        installed.apps(cluster).patch_namespaced_deployment(name, NAMESPACE, body)


def refused(fleet: Fleet, spoil: Callable[[], None], why: str) -> None:
    """The tampered worker's agent isn't connected once this was spoilt, and comes to say why.

    While the relay begins anew an agent may have other reasons first.
    """
    before = len(fleet.agent_says())
    spoil()
    awaited(lambda: re.search(rf"^not connected: .*{re.escape(why)}", fleet.agent_says()[before:], re.MULTILINE))
    # The relay counts by itself.
    awaited(lambda: streams(fleet) == ABSENT)


def test_a_caller_without_a_client_certificate_is_refused(fleet: Fleet) -> None:
    given = {
        "method": PUSH,
        "cluster": WORKER,
        "address": fleet.lab.relay_address,
        "authority": AUTHORITY,
        "root": fleet.secret(WORKER, ROOT_SECRET)["ca.crt"],
        "client": None,
    }

    # Apart, because gRPC works in a process or in its forks.
    done = subprocess.run(
        [sys.executable, "-m", "tests.half_agent"],
        cwd=REPOSITORY,
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 1
    assert "a client certificate is needed" in done.stderr


def test_an_agent_with_another_token_gets_no_certificate(fleet: Fleet) -> None:
    def spoil() -> None:
        fleet.write(WORKER, TOKEN_SECRET, {"token": "guessed"})
        fleet.delete(WORKER, CLIENT_SECRET)
        fleet.argue(WORKER, "enterprise-agent", verbose="true")

    refused(fleet, spoil, "the identity token isn't this relay's")
    assert CLIENT_SECRET not in fleet.secrets(WORKER)


def test_an_agent_with_another_root_does_not_talk_to_the_relay(fleet: Fleet) -> None:
    refused(fleet, lambda: fleet.write(WORKER, ROOT_SECRET, {"ca.crt": root().pem}), "certificate verify failed")


def test_only_the_first_root_of_several_counts(fleet: Fleet) -> None:
    both = root().pem + fleet.secret(WORKER, ROOT_SECRET)["ca.crt"]

    refused(fleet, lambda: fleet.write(WORKER, ROOT_SECRET, {"ca.crt": both}), "certificate verify failed")


def test_an_agent_that_expects_another_authority_does_not_talk_to_the_relay(fleet: Fleet) -> None:
    elsewhere = "enterprise-networking.elsewhere"

    def spoil() -> None:
        fleet.argue(WORKER, "enterprise-agent", relay_authority=elsewhere)

    refused(fleet, spoil, f"is for {AUTHORITY}, not for {elsewhere}")


def test_an_agent_whose_certificate_has_expired_is_refused(fleet: Fleet) -> None:
    expired = fleet.signing().issue("agent", names=(WORKER,), uses=(CLIENT,), begins=-2 * DAY, ends=-DAY)

    refused(fleet, lambda: present(fleet, expired, fleet.signing()), "certificate expired")


def test_an_agent_whose_certificate_is_of_another_authority_is_refused(fleet: Fleet) -> None:
    foreign = root().signing()

    refused(fleet, lambda: present(fleet, foreign.client(WORKER), foreign), "unknown ca")


def test_an_agent_whose_certificate_is_for_another_cluster_is_refused(fleet: Fleet) -> None:
    fleet.argue(MANAGEMENT, "enterprise-networking", relay_disable_ca="true")
    signing = fleet.signing()

    strange = signing.client("cluster-1")
    refused(fleet, lambda: present(fleet, strange, signing), f"is for cluster-1, not for cluster {WORKER}")

    present(fleet, signing.client(WORKER), signing)
    awaited(lambda: streams(fleet) == CONNECTED)


def test_a_relay_without_an_authority_issues_nothing(fleet: Fleet) -> None:
    def spoil() -> None:
        fleet.delete(WORKER, CLIENT_SECRET)
        fleet.argue(MANAGEMENT, "enterprise-networking", relay_disable_ca="true")
        fleet.argue(WORKER, "enterprise-agent", verbose="true")

    refused(fleet, spoil, "issues no certificates")
    assert CLIENT_SECRET not in fleet.secrets(WORKER)


def test_the_relays_own_certificate_is_no_agents(fleet: Fleet) -> None:
    server = fleet.secret(MANAGEMENT, "relay-server-tls-secret")

    refused(fleet, lambda: fleet.write(WORKER, CLIENT_SECRET, server), f"is for {AUTHORITY}, not for")


def present(fleet: Fleet, made: Made, authority: Made) -> None:
    """Give the tampered worker's agent this certificate."""
    fleet.write(WORKER, CLIENT_SECRET, {"tls.crt": made.pem + authority.pem, "tls.key": made.key_pem})


def test_every_agent_pulls_and_pushes(fleet: Fleet) -> None:
    awaited(lambda: fleet.gauges() == {worker: CONNECTED for worker in WORKERS})


def test_kubectls_port_forward_leads_to_the_gauges(fleet: Fleet) -> None:
    command = [fleet.lab.tool("kubectl"), "--kubeconfig", fleet.lab.kubeconfig, "--context", MANAGEMENT]
    command += ["--namespace", NAMESPACE, "port-forward", "deploy/enterprise-networking", ":9091"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **fleet.lab.environment()}
    ) as forward:
        try:
            assert forward.stdout
            (port,) = re.findall(r"127\.0\.0\.1:(\d+) -> 9091", forward.stdout.readline())
            connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=10)
            connection.request("GET", "/metrics")
            metrics = connection.getresponse().read().decode()
        finally:
            forward.kill()

    for worker in WORKERS:
        assert f'relay_pull_clients_connected{{cluster="{worker}"}} 1\n' in metrics
        assert f'relay_push_clients_connected{{cluster="{worker}"}} 1\n' in metrics


def test_a_client_certificate_is_of_the_signing_authority_and_for_its_cluster(fleet: Fleet) -> None:
    for worker in WORKERS:
        held = fleet.secret(worker, CLIENT_SECRET)
        certificate, issuer = x509.load_pem_x509_certificates(held["tls.crt"].encode())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        key: Any = serialization.load_pem_private_key(held["tls.key"].encode(), None)

        certificate.verify_directly_issued_by(fleet.signing().certificate)
        assert issuer == fleet.signing().certificate
        assert names.get_values_for_type(x509.DNSName) == [worker]
        assert key.public_key() == certificate.public_key()
        assert certificate.not_valid_after_utc > datetime.now(UTC) + timedelta(days=300)
        assert held["ca.crt"] in fleet.secret(worker, ROOT_SECRET)["ca.crt"] + "\n"


def test_an_agent_of_a_cluster_that_is_not_registered_is_let_in(fleet: Fleet) -> None:
    custom = client.CustomObjectsApi(fleet.core(MANAGEMENT).api_client)
    place = ("multicluster.solo.io", "v1alpha1", NAMESPACE, "kubernetesclusters")
    registration: Any = custom.get_namespaced_custom_object(*place, WORKER)
    custom.delete_namespaced_custom_object(*place, WORKER)
    fleet.process(WORKER, "relay").kill()
    awaited(lambda: streams(fleet) == ABSENT)

    fleet.lab.start(WORKER)

    awaited(lambda: streams(fleet) == CONNECTED)
    del registration["metadata"]["resourceVersion"], registration["metadata"]["uid"]
    custom.create_namespaced_custom_object(*place, registration)


def test_an_agent_keeps_the_certificate_whose_secret_was_deleted_as_long_as_its_pod_lives(fleet: Fleet) -> None:
    fleet.delete(WORKER, CLIENT_SECRET)
    before = len(fleet.agent_says())
    fleet.argue(MANAGEMENT, "enterprise-networking", verbose="true")
    awaited(lambda: "is connected" in fleet.agent_says()[before:])

    assert CLIENT_SECRET not in fleet.secrets(WORKER)

    fleet.argue(WORKER, "enterprise-agent", verbose="true")
    awaited(lambda: CLIENT_SECRET in fleet.secrets(WORKER) and streams(fleet) == CONNECTED)


def test_a_relay_with_the_vendor_pages_wildcard_is_trusted(fleet: Fleet) -> None:
    authority = root()
    server = authority.server("*.gloo-mesh")
    content = {"tls.crt": server.pem, "tls.key": server.key_pem, "ca.crt": authority.pem}
    fleet.write(WORKER, ROOT_SECRET, {"ca.crt": authority.pem})
    present(fleet, authority.client(WORKER), authority)

    fleet.write(MANAGEMENT, "relay-server-tls-secret", content)

    awaited(lambda: fleet.gauges() == {"cluster-1": ABSENT, WORKER: CONNECTED})


def test_an_agent_scaled_away_is_not_connected_and_comes_back_with_its_pod(fleet: Fleet) -> None:
    fleet.scale(WORKER, "enterprise-agent", 0)
    awaited(lambda: streams(fleet) == ABSENT)

    awaited(lambda: streams(fleet, "cluster-1") == CONNECTED)
    fleet.scale(WORKER, "enterprise-agent", 1)
    awaited(lambda: streams(fleet) == CONNECTED)


def test_a_cluster_that_loses_power_takes_its_agent_along_and_brings_it_back(fleet: Fleet) -> None:
    fleet.lab.stop(WORKER)
    awaited(lambda: streams(fleet) == ABSENT)

    awaited(lambda: streams(fleet, "cluster-1") == CONNECTED)
    fleet.lab.start(WORKER)
    awaited(lambda: streams(fleet) == CONNECTED)


def test_a_relay_that_was_killed_tells_nothing_until_it_is_back_with_every_agent(fleet: Fleet) -> None:
    fleet.process(MANAGEMENT, "relay").kill()
    awaited(lambda: fleet.gauges() == {})

    fleet.lab.up(workers=len(WORKERS))

    awaited(lambda: fleet.gauges() == {worker: CONNECTED for worker in WORKERS})


def test_a_relay_scaled_away_drops_its_agents_and_they_come_back(fleet: Fleet) -> None:
    fleet.scale(MANAGEMENT, "enterprise-networking", 0)
    awaited(lambda: "[Errno" in fleet.agent_says().rpartition("not connected: ")[2])

    fleet.scale(MANAGEMENT, "enterprise-networking", 1)

    awaited(lambda: fleet.gauges() == {worker: CONNECTED for worker in WORKERS})


def test_a_relays_next_pod_knows_only_who_has_come_to_it(fleet: Fleet) -> None:
    fleet.scale(WORKER, "enterprise-agent", 0)
    awaited(lambda: streams(fleet) == ABSENT)

    fleet.scale(MANAGEMENT, "enterprise-networking", 0)
    awaited(lambda: fleet.says(MANAGEMENT).rstrip().endswith("serves no longer"))
    fleet.scale(MANAGEMENT, "enterprise-networking", 1)

    awaited(lambda: fleet.gauges() == {"cluster-1": CONNECTED})


def test_behind_a_node_port_the_relay_answers_on_every_node(fleet: Fleet) -> None:
    place = ("enterprise-networking", NAMESPACE)
    core = fleet.core(MANAGEMENT)
    service = core.patch_namespaced_service(*place, {"spec": {"type": "NodePort"}})
    (port,) = [entry.node_port for entry in service.spec.ports if entry.name == "grpc"]
    for node in core.list_node().items:
        (address,) = [entry.address for entry in node.status.addresses if entry.type == "InternalIP"]
        fleet.argue(WORKER, "enterprise-agent", relay_address=f"{address}:{port}")

        awaited(lambda dialled=f"is connected to {address}:{port}": fleet.agent_says().rstrip().endswith(dialled))

        awaited(lambda: streams(fleet) == CONNECTED)
    core.patch_namespaced_service(*place, {"spec": {"type": "LoadBalancer"}})
