"""Whether the relay's Secrets that somebody else makes are there, and are what the relay needs.

Owns reading them from the clusters. What certificates have to be is checked as for supplied ones. Keys stay in this
process's memory, and no sentence repeats one.
"""

import base64
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from components import product
from components.settings import ClusterSettings, Settings, WorkerClusterSettings, pem
from components.settings.pem import Pem, PemPair, Trust
from operations.api import Api, Refused, silence
from operations.findings import Finding, Kind
from operations.preflight.ownership import Identity

SECRETS = Kind(
    "relay-secrets-unfit",
    "Relay and agents would refuse each other, or not start at all.",
    "trust",
    stops=True,
)
_SECRET = "kubernetes:core/v1:Secret"


Held = Mapping[str, Any]
"""By name, a cluster's Secrets: None for one that isn't there, and why for one that may not be read."""


def held(settings: Settings, cluster: ClusterSettings, api: Api) -> Held:
    """Those that somebody else makes on a cluster; raises where it falls silent, which says nothing of them."""
    found: dict[str, Any] = {}
    for name in _needed(settings, cluster):
        try:
            found[name] = api.get(f"/api/v1/namespaces/{settings.namespace}/secrets/{name}")
        except Refused as refused:
            found[name] = refused
    return found


def findings(settings: Settings, there: Mapping[str, Held], doomed: Collection[Identity]) -> Iterator[Finding]:
    """One for each fault, and for each Secret among the `doomed`: what an up deletes once it isn't the program's."""
    for fault in settings.ended:
        yield SECRETS.found("certificates", fault, "Bring a new one, as docs/own-pki.md says for supplied ones.")
    for fault in faults(settings, there):
        yield SECRETS.found("certificates", fault, "Have that Secret made anew by what makes it: docs/own-pki.md")
    needed = [(cluster, name) for cluster in settings.clusters for name in _needed(settings, cluster)]
    for cluster, name in needed:
        if (cluster.name, _SECRET, f"{settings.namespace}/{name}") in doomed:
            yield SECRETS.found(
                "certificates",
                f"{_called(name, cluster, settings.namespace)} was made by this stack, so the up would delete it.",
                "Have the state let go of it first: docs/own-pki.md, handing the Secrets over",
            )


def faults(settings: Settings, there: Mapping[str, Held]) -> list[str]:
    """A sentence for each reason why existing Secrets can't work; none for other sources and absent clusters."""
    management = settings.management_cluster
    if settings.pki.source != "existing" or management.name not in there:
        return []
    found: list[str] = []

    def pems(cluster: ClusterSettings, name: str) -> dict[str, Pem]:
        called, secret = _called(name, cluster, settings.namespace), there[cluster.name][name]
        if isinstance(secret, Refused):
            found.append(f"{called} can't be read: {silence(secret)}.")
            return {}
        keys = settings.pki.secrets(isinstance(cluster, WorkerClusterSettings))[name]
        return dict(_pems(secret, called, name, keys, found))

    root = pems(management, product.RELAY_ROOT_SECRET).get("ca.crt")
    server = pems(management, product.RELAY_SERVER_SECRET)
    holders = [server]
    clients: dict[str, PemPair] = {}
    signing = None
    if settings.pki.per_worker:
        for worker in settings.worker_clusters:
            if worker.name in there:
                client = pems(worker, product.RELAY_CLIENT_SECRET)
                clients[worker.name] = _pair(client)
                holders.append(client)
    else:
        issuer = pems(management, product.RELAY_SIGNING_SECRET)
        signing = _pair(issuer)
        holders.append(issuer)
    trust = Trust(authority=settings.authority, root=root, server=_pair(server), signing=signing, clients=clients)
    found += pem.faults(trust)
    for own in (holder["ca.crt"] for holder in holders if "ca.crt" in holder):
        # `faults` has told where the root itself can't be read.
        if root and own.text != root.text:
            found.append(
                f"{own.name} is not {root.name}; relay and agents must trust the same root, so write that there."
            )
    return found


def _needed(settings: Settings, cluster: ClusterSettings) -> list[str]:
    """The Secrets that somebody else makes on a cluster."""
    return sorted(settings.pki.others(isinstance(cluster, WorkerClusterSettings)))


def _pems(secret: Any, called: str, name: str, keys: Collection[str], found: list[str]) -> Iterator[tuple[str, Pem]]:
    """A Secret's PEMs by key; what it lacks is told in `found`."""
    if secret is None:
        found.append(f"{called} is not there; have it made before the first up (docs/own-pki.md).")
        return
    data: dict[str, str] = secret.get("data") or {}
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
