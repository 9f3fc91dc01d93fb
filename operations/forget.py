"""A cluster that is gone for good: what the state holds of it, and its registration.

Owns which entries those are, and the refusal while the cluster lives. Whether it does is asked where the state knows
it: the configuration may name another cluster by now. No entry of any other cluster is touched.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ProxyError

from components import product
from components.connection import AccessError, ContextMissingError
from components.settings import MANAGEMENT
from operations import lock, state
from operations.api import Api, Refused, Unanswered, silence
from operations.deployment import Deployment
from operations.preflight import access
from operations.preflight import remembered as clusters
from operations.preflight.ownership import NAMESPACE, Ownership
from operations.stack import UsageError, command
from operations.state import State

SECONDS = 10
"""Deadline of asking the cluster, and of deregistering it, logins aside."""
_WORKER = "gloo-mesh:index:WorkerCluster"
_ADDONS = "gloo-mesh:index:Addons"


@dataclass(frozen=True)
class Farewell:
    """What forgetting a cluster comes to."""

    refusal: str = ""
    """Why it isn't done; empty otherwise."""
    urns: frozenset[str] = frozenset()
    dropped: list[str] = field(default_factory=list)
    """By logical name, what goes from the state."""
    deregistered: list[str] = field(default_factory=list)
    """The KubernetesCluster on the management cluster."""
    next: str = ""


def farewell(deployment: Deployment, name: str) -> Farewell:
    """What forgetting `name` would do; raises UsageError where that can't be known."""
    document, stack = deployment.exported, deployment.name
    known = clusters.names(document)
    if name not in known:
        raise UsageError(f"The state knows no cluster {name}; it knows {', '.join(known) or 'none'}.")
    if held := lock.locks(stack):
        finding = held[0].finding(stack)
        return Farewell(f"{finding.what} First: {finding.remedy}")
    if state.pending(document):
        return Farewell(f"A crash left operations in the state. First: {command('recover', stack)}")
    if answer := _answer(deployment, document, name):
        return Farewell(f"{name} {answer}, so it isn't gone. {_instead(deployment, name)}")
    urns = set(_urns(document, name))
    registered = [
        entry["inputs"]["metadata"]["name"]
        for entry in state.entries(document)
        if entry["urn"] in urns and name != MANAGEMENT and entry["type"].endswith(f":{product.CLUSTER_KIND}")
    ]
    if registered:
        settings = deployment.settings
        strangers, silent = clusters.strangers(document, [settings.management_cluster], settings.namespace)
        if MANAGEMENT in silent:
            raise UsageError(
                f"{MANAGEMENT}, where {name} is registered, can't be asked: {silence(silent[MANAGEMENT])}. "
                "Mend that, and run it again."
            )
        if strangers:
            return Farewell(
                f"{strangers[0].what} Another fleet's {name} may be registered there. {strangers[0].remedy}"
            )
    return Farewell(
        urns=frozenset(urns),
        dropped=[state.name(urn) for urn in sorted(urns)],
        deregistered=registered,
        next=_next(deployment, name),
    )


def forget(deployment: Deployment, farewell: Farewell) -> None:
    """Deregister the cluster, then drop it from the state; raises UsageError with what could not be done."""
    settings, stack = deployment.settings, deployment.name
    # Else the registration would be gone before that fails.
    state.opened(stack)
    if lock.locks(stack) or state.pending(state.exported(stack)):
        raise UsageError(f"An update of {stack} has begun meanwhile; nothing is forgotten. Run it again afterwards.")
    try:
        if farewell.deregistered:
            api = Api(settings.management_cluster, SECONDS)
            collection = api.collection(product.CLUSTER_API_VERSION, product.CLUSTER_KIND, settings.namespace)
            for name in farewell.deregistered if collection else ():
                api.remove(f"{collection}/{name}")
    except (Unanswered, Refused) as error:
        raise UsageError(f"The registration can't be deleted: {silence(error)}; nothing is forgotten.") from None
    state.put_back(stack, state.without(state.exported(stack), farewell.urns))


def _urns(document: State, name: str) -> Iterator[str]:
    """Whatever is on a cluster, its provider, and of a worker the components around it with all that is in them."""
    inside: set[str] = set()
    for entry in state.entries(document):
        urn: str = entry["urn"]
        own = (entry["type"], state.name(urn))
        around = name != MANAGEMENT and own in ((_WORKER, name), (_ADDONS, f"{name}-addons"))
        if around or entry.get("parent") in inside:
            inside.add(urn)
        if urn in inside or own == (state.PROVIDER, name) or state.provider(entry) == name:
            yield urn


def _answer(deployment: Deployment, document: State, name: str) -> str | None:
    """How the cluster answers that the state knows; None where nothing does."""
    uid = Ownership.of(document).namespaces.get((name, NAMESPACE, deployment.settings.namespace))
    configured = {cluster.name: cluster for cluster in deployment.settings.clusters}.get(name)
    remembered = clusters.cluster(document, name, deployment.settings.management_cluster)
    if remembered is None and configured is None:
        raise UsageError(
            f"The kubeconfig of {name} is a secret, so whether it answers can't be seen without its entry in "
            f"{deployment.stack.file.name}; put that back until {name} is forgotten."
        )
    for cluster in (remembered, configured):
        if cluster is None:
            continue
        try:
            api = Api(cluster, SECONDS)
            live: Any = api.get(f"/api/v1/namespaces/{deployment.settings.namespace}")
        except Unanswered as silent:
            if not _gone(silent):
                raise UsageError(
                    f"Whether {name} (context {cluster.context}) lives can't be seen: {silent}. Mend that, and run it "
                    "again; where the cluster is gone, a kubeconfig without that context will do."
                ) from None
            continue
        except Refused as refused:
            return f"(context {cluster.context}) answers {refused.status} {refused.reason}"
        found = live["metadata"]["uid"] if live else None
        # Another cluster may have its address, or its context's name, by now.
        if found == uid or (found is None and cluster is (remembered or configured)):
            return f"(context {cluster.context}) answers"
    return None


def _gone(silent: Unanswered) -> bool:
    """Whether nothing is there any more: no such context, or no way through the network to its server.

    Everything else may be this machine's fault: a login, a proxy, a kubeconfig, somebody else's TLS, a slow answer.
    """
    if isinstance(silent.__cause__, AccessError):
        return isinstance(silent.__cause__, ContextMissingError)
    causes = list(access.causes(silent))
    unreached = any(isinstance(cause, NewConnectionError | ConnectTimeoutError) for cause in causes)
    proxied = any(isinstance(cause, ProxyError) for cause in causes)
    return unreached and not proxied


def _instead(deployment: Deployment, name: str) -> str:
    if name == MANAGEMENT:
        return (
            "Where that is the new cluster under the old one's name: kubectl config rename-context, write the new name "
            f"at gloo-mesh:management in {deployment.stack.file.name}, and run it again."
        )
    return (
        f"To take a worker away: take its entry out of gloo-mesh:workers in {deployment.stack.file.name}, then: "
        + command("up", deployment.name)
    )


def _next(deployment: Deployment, name: str) -> str:
    up = command("up", deployment.name)
    if name == MANAGEMENT:
        return f"write the new cluster's context at gloo-mesh:management in {deployment.stack.file.name}, then: {up}"
    if name in deployment.settings.workers:
        return f"take {name} out of gloo-mesh:workers in {deployment.stack.file.name}, then: {up}"
    return up
