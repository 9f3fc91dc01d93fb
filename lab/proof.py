"""Proof that a fleet stands: read from the API servers, nothing taken from what the deployment says of itself.

Looks only; names come from the vendor's pages.
"""

import base64
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from kubernetes import client, config

from lab.fleet import MANAGEMENT, Lab

NAMESPACE = "gloo-mesh"
ADDONS_NAMESPACE = "gloo-mesh-addons"
WANTED = {
    MANAGEMENT: {(NAMESPACE, "enterprise-networking"): 1, (NAMESPACE, "dashboard"): 3},
    "worker": {
        (NAMESPACE, "enterprise-agent"): 1,
        (ADDONS_NAMESPACE, "rate-limiter"): 2,
        (ADDONS_NAMESPACE, "ext-auth-service"): 2,
        (ADDONS_NAMESPACE, "redis"): 2,
    },
}
"""Containers in a pod by namespace and Deployment; the second of two is Istio's proxy."""


@dataclass(frozen=True)
class Fact:
    """One thing that was looked at on one cluster."""

    cluster: str
    what: str
    found: str
    holds: bool


def facts(lab: Lab) -> list[Fact]:
    """Everything worth showing of a deployed lab."""
    found: list[Fact] = []
    management = _api(lab, MANAGEMENT)
    registered: Any = client.CustomObjectsApi(management).list_namespaced_custom_object(
        "multicluster.solo.io", "v1alpha1", NAMESPACE, "kubernetesclusters"
    )
    names = {item["metadata"]["name"] for item in registered["items"]}
    for cluster in lab.clusters():
        api = _api(lab, cluster)
        role = MANAGEMENT if cluster == MANAGEMENT else "worker"
        found += [_pod(cluster, api, *place, wanted) for place, wanted in WANTED[role].items()]
        if role == "worker":
            found.append(Fact(cluster, "registration", "present" if cluster in names else "none", cluster in names))
            found.append(_trust(cluster, api, management))
    return found


def _pod(cluster: str, api: client.ApiClient, namespace: str, deployment: str, wanted: int) -> Fact:
    pods: Any = client.CoreV1Api(api).list_namespaced_pod(namespace)
    mine = [pod for pod in pods.items if pod.metadata.name.startswith(f"{deployment}-")]
    ready = [sum(status.ready for status in pod.status.container_statuses or []) for pod in mine]
    shown = ", ".join(f"{count}/{wanted} ready" for count in ready) or "no pod"
    return Fact(cluster, f"{namespace}/{deployment}", shown, bool(ready) and all(count == wanted for count in ready))


def _trust(cluster: str, api: client.ApiClient, management: client.ApiClient) -> Fact:
    """Whether what this agent was given verifies the relay's certificate for the name this agent asks for."""
    try:
        agent: Any = client.AppsV1Api(api).read_namespaced_deployment("enterprise-agent", NAMESPACE)
        arguments = dict(argument.partition("=")[::2] for argument in agent.spec.template.spec.containers[0].args)
        authority = arguments["--relay-authority"]
        root = x509.load_pem_x509_certificate(_secret(api, "relay-root-tls-secret", "ca.crt"))
        server = x509.load_pem_x509_certificate(_secret(management, "relay-server-tls-secret", "tls.crt"))
        PolicyBuilder().store(Store([root])).build_server_verifier(x509.DNSName(authority)).verify(server, [])
    except (client.ApiException, VerificationError, ValueError, KeyError) as error:
        return Fact(cluster, "trust in the relay", f"none: {error}".splitlines()[0], False)
    return Fact(cluster, "trust in the relay", f"{authority} verified", True)


def _secret(api: client.ApiClient, name: str, key: str) -> bytes:
    secret: Any = client.CoreV1Api(api).read_namespaced_secret(name, NAMESPACE)
    return base64.b64decode(secret.data[key])


def _api(lab: Lab, cluster: str) -> client.ApiClient:
    return config.new_client_from_config(str(lab.kubeconfig), cluster)
