"""Clusters as the state reaches them: by the kubeconfig and the context that the last run had.

Owns that reading, and whether they still are the clusters that the state knows. The configuration may name another
cluster by now, or none.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from components.settings import ClusterSettings, Settings
from components.settings import kubeconfig as kubeconfigs
from operations import state
from operations.api import SECONDS, Api
from operations.everywhere import look
from operations.findings import Finding
from operations.preflight.clusters import ANOTHER_CLUSTER
from operations.preflight.ownership import NAMESPACE, Ownership
from operations.state import State


def names(document: State) -> list[str]:
    """Every cluster that the state knows, by name: the engine keeps them in the order in which they came about."""
    return sorted(state.clusters(document))


def cluster(document: State, name: str, like: ClusterSettings) -> ClusterSettings | None:
    """How to reach one of them, everything else as in `like`; None where the state holds its kubeconfig encrypted."""
    inputs = state.clusters(document)[name]["inputs"]
    if not isinstance(inputs.get("kubeconfig"), str):
        return None
    return replace(like, name=name, kubeconfig=kubeconfigs.behind(inputs["kubeconfig"]), context=inputs["context"])


def leaving(document: State, settings: Settings) -> list[ClusterSettings]:
    """The clusters that the next up takes away, as the configuration has none of the name; but for encrypted ones."""
    configured = {cluster.name for cluster in settings.clusters}
    found = (cluster(document, name, settings.management_cluster) for name in names(document) if name not in configured)
    return [left for left in found if left]


def strangers(
    document: State, clusters: Iterable[ClusterSettings], namespace: str
) -> tuple[list[Finding], dict[str, Exception]]:
    """A finding for each cluster where the fleet's namespace isn't the one that the state knows; and why some can't be
    asked, by name.
    """
    known = Ownership.of(document).namespaces

    def at(cluster: ClusterSettings, api: Api) -> Any:
        asks = (cluster.name, NAMESPACE, namespace) in known
        return api.named(f"/api/v1/namespaces/{namespace}") if asks else None

    asked = {cluster.name: cluster for cluster in clusters}
    looked = look(asked.values(), at, SECONDS)
    found: list[Finding] = []
    for name, live in looked.seen.items():
        if live and live["uid"] != (uid := known[name, NAMESPACE, namespace]):
            cluster = asked[name]
            where = f"{name} (context {cluster.context})"
            what = f"Namespace {namespace} of {where} has UID {live['uid']}; this stack's has {uid}."
            remedy = f"Let the context lead where it led: {cluster.kubectl} config view --minify"
            found.append(ANOTHER_CLUSTER.found(name, what, remedy))
    return found, looked.unseen
