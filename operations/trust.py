"""Whether the relay's Secrets that somebody else makes are there, and are what the relay needs.

Owns reading them from the clusters. What certificates have to be is checked as for supplied ones. Keys stay in this
process's memory, and no sentence repeats one.
"""

import base64
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any

from components import product
from components.settings import ClusterSettings, Settings, pem
from components.settings.pem import Pem, PemPair, Trust

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

SECONDS = 5
_PAIR = ("tls.crt", "tls.key", "ca.crt")


def faults(
    settings: Settings, connected: Callable[[ClusterSettings], "ApiClient"], silent: Collection[str]
) -> list[str]:
    """A sentence for each reason why existing Secrets can't work; none for other sources and `silent` clusters."""
    management = settings.management_cluster
    if settings.pki.source != "existing" or management.name in silent:
        return []
    found: list[str] = []

    def pems(cluster: ClusterSettings, name: str, *keys: str) -> dict[str, Pem]:
        try:
            return dict(_pems(connected(cluster), cluster, settings.namespace, name, keys, found))
        except Exception as error:
            reason = " ".join(str(getattr(error, "reason", None) or error).split())[:200]
            found.append(f"{_called(name, cluster, settings.namespace)} can't be read: {reason}.")
            return {}

    root = pems(management, product.RELAY_ROOT_SECRET, "ca.crt").get("ca.crt")
    server = pems(management, product.RELAY_SERVER_SECRET, *_PAIR)
    holders = [server]
    clients: dict[str, PemPair] = {}
    signing = None
    if settings.pki.per_worker:
        for worker in settings.worker_clusters:
            if worker.name not in silent:
                held = pems(worker, product.RELAY_CLIENT_SECRET, *_PAIR)
                clients[worker.name] = _pair(held)
                holders.append(held)
    else:
        held = pems(management, product.RELAY_SIGNING_SECRET, *_PAIR)
        signing = _pair(held)
        holders.append(held)
    trust = Trust(authority=settings.authority, root=root, server=_pair(server), signing=signing, clients=clients)
    found += pem.faults(trust)
    for own in (held["ca.crt"] for held in holders if "ca.crt" in held):
        # `faults` has told where the root itself can't be read.
        if root and own.text != root.text:
            found.append(
                f"{own.name} is not {root.name}; relay and agents must trust the same root, so write that there."
            )
    return found


def _pems(
    api: "ApiClient", cluster: ClusterSettings, namespace: str, name: str, keys: Collection[str], found: list[str]
) -> Iterator[tuple[str, Pem]]:
    """A Secret's PEMs by key; what it lacks is told in `found`."""
    from kubernetes import client

    called = _called(name, cluster, namespace)
    try:
        secret: Any = client.CoreV1Api(api).read_namespaced_secret(name, namespace, _request_timeout=SECONDS)
    except client.ApiException as error:
        if error.status != 404:
            raise
        found.append(f"{called} is not there; have it made before the first up (docs/own-pki.md).")
        return
    data: dict[str, str] = secret.data or {}
    if name == product.RELAY_ROOT_SECRET and data.keys() - keys:
        found.append(
            f"{called} holds {', '.join(sorted(data.keys() - keys))} besides ca.crt; this program reads that Secret, "
            "so a key there would reach its state. Leave ca.crt alone in it."
        )
    for key in keys:
        if not data.get(key):
            found.append(f"{called} has no {key}; have it made with {', '.join(keys)}.")
            continue
        text = base64.b64decode(data[key]).decode(errors="replace")
        if key != "ca.crt":
            yield key, Pem(f"{key} of {called}", text)
            continue
        # Agents read no further than this, so the rest can't help.
        try:
            yield key, Pem(f"the first block in ca.crt of {called}", pem.first_pem(text, f"ca.crt of {called}"))
        except ValueError as error:
            found.append(str(error))


def _pair(pems: dict[str, Pem]) -> PemPair:
    return PemPair(pems.get("tls.crt"), pems.get("tls.key"))


def _called(name: str, cluster: ClusterSettings, namespace: str) -> str:
    return f"Secret {name} in namespace {namespace} on {cluster.name} (context {cluster.context})"
