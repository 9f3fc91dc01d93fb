"""Secrets of cert-manager's or Vault's, looked at before an up: each fault names Secret, namespace and cluster."""

import base64
from typing import Any

import pytest

from components.settings import Settings
from operations.api import Refused, Unanswered
from operations.preflight import trust
from tests.authority import root

ROOT = root()
OTHER = root("other")
SERVER = ROOT.server()
SIGNING = ROOT.signing()
Cluster = dict[str, dict[str, str] | int]


@pytest.fixture
def secrets() -> dict[str, Cluster]:
    """Each cluster's Secrets by name, all well; a number is the status the API server answers with instead."""

    def pair(made: Any) -> dict[str, str]:
        return {"tls.crt": made.pem, "tls.key": made.key_pem, "ca.crt": ROOT.pem}

    secrets: dict[str, Cluster] = {
        "management": {
            "relay-root-tls-secret": {"ca.crt": ROOT.pem},
            "relay-server-tls-secret": pair(SERVER),
            "relay-tls-signing-secret": pair(SIGNING),
        },
        "cluster-1": {"relay-client-tls-secret": pair(ROOT.client("cluster-1"))},
        "cluster-2": {"relay-client-tls-secret": pair(ROOT.client("cluster-2"))},
    }

    return secrets


class Secrets:
    """A cluster's API as far as it has Secrets."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def get(self, path: str) -> Any:
        content = self._cluster.get(path.rpartition("/")[2])
        if isinstance(content, int):
            raise Refused(content, "Forbidden", "secrets is forbidden")
        data = {key: base64.b64encode(text.encode()).decode() for key, text in (content or {}).items()}
        return None if content is None else {"data": data}


def taking(config: dict[str, Any], clients: str = "relay") -> Settings:
    """The seeds' fleet with Secrets that somebody else makes."""
    management = {"context": "mgmt-cluster", "namespaces": {"create": False}}
    config |= {"management": management, "defaults": {"namespaces": {"create": False}}}
    return Settings.parse(config | {"pki": {"source": "existing", "clientCertificates": clients}}, ("licenseKey",))


def faults(
    config: dict[str, Any], secrets: dict[str, Cluster], silent: tuple[str, ...] = (), clients: str = "relay"
) -> list[str]:
    settings = taking(config, clients)
    apis: Any = {name: Secrets(cluster) for name, cluster in secrets.items() if name not in silent}

    return trust.faults(
        settings,
        {it.name: trust.held(settings, it, apis[it.name]) for it in settings.clusters if it.name in apis},
    )


def only_fault(config: dict[str, Any], secrets: dict[str, Cluster], clients: str = "relay") -> str:
    (fault,) = faults(config, secrets, clients=clients)
    return fault


def test_a_missing_secret_is_refused_by_name(config: dict[str, Any], secrets: dict[str, Cluster]) -> None:
    del secrets["management"]["relay-tls-signing-secret"]

    assert only_fault(config, secrets) == (
        "Secret relay-tls-signing-secret in namespace gloo-mesh on management (context mgmt-cluster) is not there; "
        "have it made before the first up (docs/own-pki.md)."
    )


def test_a_secret_that_cant_be_read_is_refused(config: dict[str, Any], secrets: dict[str, Cluster]) -> None:
    secrets["management"]["relay-server-tls-secret"] = 403

    assert "(context mgmt-cluster) can't be read: answers 403 Forbidden" in only_fault(config, secrets)


def test_a_cluster_that_falls_silent_says_nothing_of_its_secrets(config: dict[str, Any]) -> None:
    class Silent:
        def get(self, path: str) -> Any:
            raise Unanswered("the time for all of it ran out")

    settings, silent = taking(config), Silent()

    with pytest.raises(Unanswered):
        trust.held(settings, settings.management_cluster, silent)  # type: ignore[arg-type]


def test_a_secret_without_ca_crt_is_refused(config: dict[str, Any], secrets: dict[str, Cluster]) -> None:
    del secrets["management"]["relay-server-tls-secret"]["ca.crt"]  # type: ignore[union-attr]

    assert "relay-server-tls-secret in namespace gloo-mesh" in (fault := only_fault(config, secrets))
    assert "has no ca.crt" in fault


def test_a_key_beside_the_root_is_refused_since_the_program_reads_that_secret(
    config: dict[str, Any], secrets: dict[str, Cluster]
) -> None:
    secrets["management"]["relay-root-tls-secret"] = {"ca.crt": ROOT.pem, "tls.key": ROOT.key_pem}

    assert "holds tls.key besides ca.crt" in only_fault(config, secrets)


def test_another_root_in_one_of_the_secrets_is_refused(config: dict[str, Any], secrets: dict[str, Cluster]) -> None:
    secrets["management"]["relay-tls-signing-secret"] |= {"ca.crt": OTHER.pem}  # type: ignore[operator]

    fault = only_fault(config, secrets)

    assert "ca.crt of Secret relay-tls-signing-secret" in fault
    assert "is not the first block in ca.crt of Secret relay-root-tls-secret" in fault


def test_a_bundle_counts_by_its_first_block_alone(config: dict[str, Any], secrets: dict[str, Cluster]) -> None:
    secrets["management"]["relay-root-tls-secret"] = {"ca.crt": ROOT.pem + OTHER.pem}
    assert faults(config, secrets) == []

    secrets["management"]["relay-root-tls-secret"] = {"ca.crt": OTHER.pem + ROOT.pem}
    assert "was not issued by the first block in ca.crt of Secret relay-root-tls-secret" in faults(config, secrets)[0]


def test_a_key_of_another_certificate_is_refused_and_not_repeated(
    config: dict[str, Any], secrets: dict[str, Cluster]
) -> None:
    secrets["management"]["relay-server-tls-secret"] |= {"tls.key": SIGNING.key_pem}  # type: ignore[operator]

    fault = only_fault(config, secrets)

    assert fault.startswith("tls.key of Secret relay-server-tls-secret in namespace gloo-mesh on management (context")
    assert not [line for line in SIGNING.key_pem.splitlines()[1:-1] if line in fault]


def test_a_client_certificate_of_another_worker_is_refused_by_cluster(
    config: dict[str, Any], secrets: dict[str, Cluster]
) -> None:
    secrets["cluster-2"] = secrets["cluster-1"]

    fault = only_fault(config, secrets, clients="perWorker")

    assert "on cluster-2 (context cluster-2) is for cluster-1, not for the cluster cluster-2" in fault


def test_a_silent_worker_isnt_asked(config: dict[str, Any], secrets: dict[str, Cluster]) -> None:
    secrets["cluster-2"] = {}

    assert faults(config, secrets, ("cluster-2",), clients="perWorker") == []


@pytest.mark.parametrize("clients", ["relay", "perWorker"])
def test_what_is_well_is_let_through(config: dict[str, Any], secrets: dict[str, Cluster], clients: str) -> None:
    if clients == "perWorker":
        del secrets["management"]["relay-tls-signing-secret"]

    assert faults(config, secrets, clients=clients) == []


@pytest.mark.parametrize(
    ("clients", "needed"),
    [
        ("relay", {("management", "relay-tls-signing-secret")}),
        ("perWorker", {("cluster-1", "relay-client-tls-secret"), ("cluster-2", "relay-client-tls-secret")}),
    ],
)
def test_secrets_that_the_up_would_delete_are_told_each(
    config: dict[str, Any], clients: str, needed: set[tuple[str, str]]
) -> None:
    needed |= {("management", "relay-root-tls-secret"), ("management", "relay-server-tls-secret")}
    others = {("management", "relay-forwarding-identity-token-secret"), ("cluster-1", "relay-root-tls-secret")}
    doomed = {(cluster, "kubernetes:core/v1:Secret", f"gloo-mesh/{name}") for cluster, name in needed | others}

    told = [finding.what for finding in trust.findings(taking(config, clients), {}, doomed)]

    assert len(told) == len(needed)
    for cluster, name in needed:
        assert [what for what in told if f"Secret {name} in namespace gloo-mesh on {cluster} " in what]
    assert list(trust.findings(Settings.parse(config, ("licenseKey",)), {}, doomed)) == []
