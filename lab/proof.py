"""Proof that a fleet stands: read from the API servers, nothing taken from what the deployment says of itself.

Looks only; names come from the vendor's pages. The relay's gauges are read where the vendor's health check reads
them, through a port-forward.
"""

import base64
import re
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from kubernetes import client, config
from kubernetes.stream import portforward

from lab.cluster import METRICS_PORT
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
GAUGE = re.compile(r'^relay_(pull|push)_clients_connected\{cluster="([^"]+)"\} (\d+)$', re.MULTILINE)
PATIENCE_SECONDS = 20


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
    connected = _once_connected(management, {cluster for cluster in lab.clusters() if cluster != MANAGEMENT})
    for cluster in lab.clusters():
        api = _api(lab, cluster)
        role = MANAGEMENT if cluster == MANAGEMENT else "worker"
        found += [_pod(cluster, api, *place, wanted) for place, wanted in WANTED[role].items()]
        if role == "worker":
            found.append(Fact(cluster, "registration", "present" if cluster in names else "none", cluster in names))
            found.append(_trust(cluster, api, management))
            found.append(_relay(cluster, connected.get(cluster, {})))
    return found


def gauges(management: client.ApiClient, namespace: str = NAMESPACE) -> dict[str, dict[str, int]]:
    """By cluster, how many agents pull from the relay and push to it; OSError or ApiException where it isn't there."""
    core: Any = client.CoreV1Api(management)
    pods = core.list_namespaced_pod(namespace, label_selector="app=enterprise-networking").items
    if not pods:
        raise OSError(f"no pod of enterprise-networking in {namespace}")
    place = pods[0].metadata.name, namespace
    forwarded: Any = portforward(core.connect_get_namespaced_pod_portforward, *place, ports=str(METRICS_PORT))
    with closing(forwarded):
        connection = forwarded.socket(METRICS_PORT)
        connection.settimeout(PATIENCE_SECONDS)
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n")
        # Not until the connection's end, which a port-forward by websocket doesn't tell.
        answer = HTTPResponse(connection)
        try:
            answer.begin()
            text = answer.read().decode()
        except HTTPException:
            raise OSError(forwarded.error(METRICS_PORT) or "the relay tells no gauges") from None
    found: dict[str, dict[str, int]] = {}
    for way, cluster, count in GAUGE.findall(text):
        found.setdefault(cluster, {})[way] = int(count)
    return found


def _once_connected(management: client.ApiClient, clusters: set[str]) -> Mapping[str, dict[str, int]]:
    """The gauges, as soon as all these clusters are connected; else as they are in the end."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            found = gauges(management)
        except (OSError, client.ApiException):
            found = {}
        waiting = [cluster for cluster in clusters if not _relay(cluster, found.get(cluster, {})).holds]
        if not waiting or time.monotonic() > until:
            return found
        time.sleep(0.2)


def _relay(cluster: str, streams: Mapping[str, int]) -> Fact:
    """Whether this cluster's agent pulls and pushes."""
    open_ones = [way for way in ("pull", "push") if streams.get(way)]
    shown = "connected" if len(open_ones) == 2 else f"only {open_ones[0]}" if open_ones else "not connected"
    return Fact(cluster, "relay", shown, len(open_ones) == 2)


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
