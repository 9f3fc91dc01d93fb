import base64
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from kubernetes import client, config

from lab.fleet import Lab

WITH_OPENSSL = pytest.mark.skipif(
    not shutil.which("openssl"), reason="The shell flow needs openssl, which isn't on PATH."
)
pytestmark = [pytest.mark.lab, WITH_OPENSSL]

SCRIPT = Path(__file__).parents[2] / "benchmarks/seed-flow.sh"
# What YAML and a shell would each like to interpret.
LICENCE = 'it\'s a "licence", {with} $all: #that'
WORKERS = ["cluster-1", "cluster-2"]
PAIR = {"tls.key", "tls.crt", "ca.crt"}


@dataclass(frozen=True)
class Run:
    """What one run of the script left behind."""

    clients: dict[str, client.ApiClient]
    arguments: str
    """Every argument it gave to a tool."""
    temporary: Path
    output: str

    def core(self, context: str) -> Any:
        return client.CoreV1Api(self.clients[context])

    def secrets(self, context: str, namespace: str = "gloo-mesh") -> dict[str, dict[str, bytes]]:
        """The Opaque secrets, which helm's own are not."""
        found = self.core(context).list_namespaced_secret(namespace, field_selector="type=Opaque").items
        return {s.metadata.name: {k: base64.b64decode(v) for k, v in s.data.items()} for s in found}

    def deployments(self, context: str, namespace: str) -> dict[str, Any]:
        apps: Any = client.AppsV1Api(self.clients[context])
        found = apps.list_namespaced_deployment(namespace).items
        return {deployment.metadata.name: deployment for deployment in found}


def environment(lab: Lab, **changes: str) -> dict[str, str]:
    return {
        **lab.environment(),
        "KUBECONFIG": str(lab.kubeconfig),
        "CHARTS": str(lab.packages),
        "VERSION": "1.2.9",
        "LICENSE": LICENCE,
        **changes,
    }


def witness(lab: Lab, folder: Path) -> Path:
    """The script's tools, each noting its arguments before it does its work."""
    tools = {"helm": lab.tool("helm"), "kubectl": lab.tool("kubectl"), "openssl": shutil.which("openssl")}
    for name, tool in tools.items():
        shim = folder / name
        shim.write_text(
            "#!/bin/sh\n"
            f'printf "%s\\n" "{name} $*" >>{shlex.quote(str(folder / "arguments"))}\n'
            f'exec {shlex.quote(str(tool))} "$@"\n'
        )
        shim.chmod(0o700)
    return folder


def install(lab: Lab, tmp_path_factory: pytest.TempPathFactory, parallel: str) -> Run:
    """Run the script, its workers one after the other or side by side."""
    tools = witness(lab, tmp_path_factory.mktemp("tools"))
    temporary = tmp_path_factory.mktemp("temporary")
    variables = environment(
        lab, PARALLEL=parallel, TMPDIR=str(temporary), PATH=f"{tools}{os.pathsep}{os.environ['PATH']}"
    )
    done = subprocess.run(
        [SCRIPT, str(len(WORKERS))], env=variables, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    clients = {
        context: config.new_client_from_config(str(lab.kubeconfig), context) for context in ("mgmt-cluster", *WORKERS)
    }
    return Run(clients, (tools / "arguments").read_text(), temporary, done.stdout)


@pytest.fixture(scope="module")
def run(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return install(lab, tmp_path_factory, parallel="")


@pytest.mark.parametrize("count", ["", "0", "two", "-1"])
def test_a_number_of_workers_that_is_none_is_refused(lab: Lab, count: str) -> None:
    done = subprocess.run([SCRIPT, count], env=environment(lab), capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert f"the number of workers is '{count}'" in done.stderr


@pytest.mark.parametrize("variable", ["KUBECONFIG", "CHARTS", "VERSION", "LICENSE"])
def test_a_variable_that_is_not_set_is_named(lab: Lab, variable: str) -> None:
    variables = environment(lab, **{variable: ""})

    done = subprocess.run([SCRIPT, "2"], env=variables, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert f"{variable} is not set" in done.stderr


def test_a_version_without_its_charts_is_refused_before_anything_is_made(lab: Lab) -> None:
    variables = environment(lab, VERSION="9.9.9")

    done = subprocess.run([SCRIPT, "2"], env=variables, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "has no gloo-mesh-enterprise-9.9.9.tgz" in done.stderr


class Installed:
    """What a run has to leave behind, however its workers came about."""

    def test_no_secret_is_given_as_an_argument(self, run: Run) -> None:
        secrets = run.secrets("mgmt-cluster")
        tokens = [data["token"].decode() for data in secrets.values() if "token" in data]

        assert len(tokens) == 2
        assert not [secret for secret in (LICENCE, *tokens) if secret in run.arguments]

    def test_no_key_stays_in_the_temporary_folder(self, run: Run) -> None:
        assert list(run.temporary.iterdir()) == []

    def test_workers_hold_the_root_certificate_and_the_token_and_no_key(self, run: Run) -> None:
        management = run.secrets("mgmt-cluster")

        for worker in WORKERS:
            found = run.secrets(worker)
            # Made by the agent, once the relay has issued it.
            found.pop("relay-client-tls-secret", None)
            assert found == {
                name: management[name] for name in ("relay-root-tls-secret", "relay-identity-token-secret")
            }

    def test_the_management_cluster_holds_the_relays_secrets_and_the_licence(self, run: Run) -> None:
        secrets = run.secrets("mgmt-cluster")

        assert {name: set(data) for name, data in secrets.items()} == {
            "relay-server-tls-secret": PAIR,
            "relay-tls-signing-secret": PAIR,
            "relay-root-tls-secret": {"ca.crt"},
            "relay-identity-token-secret": {"token"},
            "relay-forwarding-identity-token-secret": {"token"},
            "gloo-mesh-enterprise-license": {"key"},
        }
        assert secrets["gloo-mesh-enterprise-license"]["key"].decode() == LICENCE

    def test_the_relays_certificate_is_for_its_authority_and_of_the_root_that_workers_hold(self, run: Run) -> None:
        root = x509.load_pem_x509_certificate(run.secrets("cluster-1")["relay-root-tls-secret"]["ca.crt"])
        secrets = run.secrets("mgmt-cluster")
        server, signing = (
            x509.load_pem_x509_certificate(secrets[name]["tls.crt"])
            for name in ("relay-server-tls-secret", "relay-tls-signing-secret")
        )

        names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["enterprise-networking.gloo-mesh"]
        server.verify_directly_issued_by(root)
        signing.verify_directly_issued_by(root)
        assert server.serial_number != signing.serial_number

    def test_every_deployment_is_ready(self, run: Run) -> None:
        expected = {
            ("mgmt-cluster", "gloo-mesh"): {"enterprise-networking", "dashboard", "prometheus-server"},
            **{(worker, "gloo-mesh"): {"enterprise-agent"} for worker in WORKERS},
            **{(worker, "gloo-mesh-addons"): {"rate-limiter", "ext-auth-service", "redis"} for worker in WORKERS},
        }

        for (context, namespace), names in expected.items():
            deployments = run.deployments(context, namespace)
            assert set(deployments) == names
            assert {d.status.ready_replicas for d in deployments.values()} == {1}

    def test_the_relay_has_an_address_and_the_agents_dial_it_under_their_own_names(self, run: Run) -> None:
        service = run.core("mgmt-cluster").read_namespaced_service("enterprise-networking", "gloo-mesh")
        [ingress] = service.status.load_balancer.ingress
        [port] = [port.port for port in service.spec.ports if port.name == "grpc"]

        assert service.spec.type == "LoadBalancer"
        assert run.output == f"relay at {ingress.ip}:{port}, 2 workers\n"
        for worker in WORKERS:
            [container] = run.deployments(worker, "gloo-mesh")["enterprise-agent"].spec.template.spec.containers
            assert {
                f"--cluster={worker}",
                f"--relay-address={ingress.ip}:{port}",
                "--relay-authority=enterprise-networking.gloo-mesh",
            } <= set(container.args)

    def test_every_worker_is_registered(self, run: Run) -> None:
        custom: Any = client.CustomObjectsApi(run.clients["mgmt-cluster"])
        clusters = custom.list_namespaced_custom_object(
            "multicluster.solo.io", "v1alpha1", "gloo-mesh", "kubernetesclusters"
        )

        assert {cluster["metadata"]["name"]: cluster["spec"] for cluster in clusters["items"]} == {
            worker: {"clusterDomain": "cluster.local"} for worker in WORKERS
        }

    def test_the_addons_have_sidecars_and_the_management_plane_has_none(self, run: Run) -> None:
        for worker in WORKERS:
            namespace = run.core(worker).read_namespace("gloo-mesh-addons")
            pods = run.core(worker).list_namespaced_pod("gloo-mesh-addons").items

            assert namespace.metadata.labels["istio-injection"] == "enabled"
            assert len(pods) == 3
            for pod in pods:
                assert [(status.name, status.ready) for status in pod.status.container_statuses] == [
                    (pod.metadata.labels["app"], True),
                    ("istio-proxy", True),
                ]
        for context in ("mgmt-cluster", *WORKERS):
            pods = run.core(context).list_namespaced_pod("gloo-mesh").items
            assert "istio-proxy" not in {container.name for pod in pods for container in pod.spec.containers}


class TestOneAfterTheOther(Installed): ...
