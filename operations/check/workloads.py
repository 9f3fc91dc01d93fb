"""Deployments that aren't ready, and addons that Istio didn't inject.

Owns the look at Deployments, at the addons' pods and at the label of their namespace.
"""

from collections.abc import Collection, Iterator

from components import product
from operations.check.view import View
from operations.findings import Finding, Kind
from operations.objects import Object

PROXY = "istio-proxy"

NOT_READY = Kind(
    "deployment-not-ready",
    why="What the Deployment runs serves nobody, or only in part.",
    page="workloads",
)
NOT_INJECTED = Kind(
    "addon-not-injected",
    why="Without Istio's proxy an addon is outside the mesh, so gateways that ask for mutual TLS can't call it.",
    page="workloads",
)
NOT_LABELLED = Kind(
    "addons-not-labelled",
    why="Istio injects by the namespace's label, so the addons' next pods come up without its proxy.",
    page="workloads",
)


def findings(view: View, changed: Collection[tuple[str, str]]) -> Iterator[Finding]:
    """Of one cluster; `changed` names the Deployments, by namespace and name, whose replicas somebody changed."""
    for namespace in view.namespaces:
        for deployment in view.deployments(namespace):
            name = deployment["metadata"]["name"]
            if (namespace, name) not in changed and (lacking := _lacking(deployment)):
                reasons = _reasons(view, namespace, name)
                yield NOT_READY.found(
                    view.name,
                    f"Deployment {name} in namespace {namespace} {lacking}{f' ({reasons})' if reasons else ''}.",
                    view.kubectl(f"describe deployment {name}", namespace),
                )
    worker = view.worker
    if worker is None or not worker.addons.enabled:
        return
    for name in _without_proxy(view):
        yield NOT_INJECTED.found(
            view.name,
            f"Pods of Deployment {name} in namespace {product.ADDONS_NAMESPACE} have no container {PROXY}.",
            view.kubectl(f"rollout restart deployment {name}", product.ADDONS_NAMESPACE),
        )
    ((key, value),) = product.injection(worker.istio.revision).items()
    namespace = view.api.get(f"/api/v1/namespaces/{product.ADDONS_NAMESPACE}")
    labels = namespace["metadata"].get("labels", {}) if namespace else {key: value}
    if labels.get(key) != value:
        what = f"isn't labelled {key}={value}"
        yield NOT_LABELLED.found(view.name, f"Namespace {product.ADDONS_NAMESPACE} {what}.", view.fleet.up)
    elif product.injected_by(labels) != key:
        other = product.INJECTION_LABEL
        what = f"is labelled {other}={labels[other]} beside {key}={value}, and Istio goes by the former"
        remedy = f"{view.cluster.kubectl} label namespace {product.ADDONS_NAMESPACE} {other}-"
        yield NOT_LABELLED.found(view.name, f"Namespace {product.ADDONS_NAMESPACE} {what}.", remedy)


def ready(view: View) -> str:
    """How many Deployments are ready, of how many."""
    found = [deployment for namespace in view.namespaces for deployment in view.deployments(namespace)]
    return f"{sum(not _lacking(deployment) for deployment in found)}/{len(found)}"


def _lacking(deployment: Object) -> str | None:
    """What a Deployment lacks (kubectl: rollout status, and its own replicas); None when it is ready."""
    wanted, status = deployment["spec"].get("replicas", 1), deployment.get("status", {})
    available, updated = status.get("availableReplicas", 0), status.get("updatedReplicas", 0)
    if not wanted:
        return "is scaled to no replica"
    if status.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        return "was changed, and nothing has looked at it since"
    if available < wanted:
        return f"has {available} of {wanted} replicas available"
    if updated < status.get("replicas", 0):
        return f"is being rolled out: {updated} of {status['replicas']} replicas are new"
    return None


def _reasons(view: View, namespace: str, deployment: str) -> str:
    """Why its pods' containers wait, as the kubelet says."""
    states = [
        container.get("state", {})
        for pod in view.pods(namespace)
        if _owner(pod) == deployment
        for container in pod.get("status", {}).get("containerStatuses", [])
    ]
    return ", ".join(sorted({state["waiting"].get("reason", "") for state in states if "waiting" in state} - {""}))


def _without_proxy(view: View) -> list[str]:
    """The Deployments of the addons' namespace that have pods without Istio's proxy."""
    return sorted(
        {
            name
            for pod in view.pods(product.ADDONS_NAMESPACE)
            if (name := _owner(pod))
            # Istio's native sidecars are init containers that stay.
            and PROXY not in {c["name"] for kind in ("containers", "initContainers") for c in pod["spec"].get(kind, [])}
        }
    )


def _owner(pod: Object) -> str | None:
    """The Deployment that a pod is of, by its ReplicaSet's name."""
    owners = pod["metadata"].get("ownerReferences", [])
    return next((owner["name"].rpartition("-")[0] for owner in owners if owner["kind"] == "ReplicaSet"), None)
