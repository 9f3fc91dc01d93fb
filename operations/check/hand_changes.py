"""Objects that aren't as Helm made them: edited or deleted since.

Owns the comparison of every release's objects with Helm's stored manifest. Only what a manifest says counts, so
defaults, status and what webhooks add don't. Where the API server may merely write the same in another way, a dry
run decides. Values are compared and never told.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from operations.api import Refused
from operations.check import definitions
from operations.check.view import View
from operations.findings import Finding, Kind
from operations.objects import SERVERS_OWN, FieldPath, Object, differences, holds, merged, unlike, writers, written
from operations.releases import Deployed

CHANGED = Kind(
    "object-changed",
    why="It isn't what was deployed, no preview shows it, and a later change of its release may take it back.",
    page="releases",
)
DELETED = Kind(
    "object-deleted",
    why="A part of the release is gone, and no preview shows it.",
    page="releases",
)

NAMESPACED = {
    "ServiceAccount": "serviceaccounts",
    "Secret": "secrets",
    "ConfigMap": "configmaps",
    "Service": "services",
    "Deployment": "deployments",
    "Role": "roles",
    "RoleBinding": "rolebindings",
}
CLUSTER_WIDE = {
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "ValidatingWebhookConfiguration": "validatingwebhookconfigurations",
}
"""Kinds that needn't be asked for: every API server has them by these names."""
HELMS = {"labelSelector": "app.kubernetes.io/managed-by=Helm"}
"""What Helm labels everything with that it makes; of cluster-wide kinds there may be hundreds."""
AUTOSCALER = "kube-controller-manager"
REPLICAS = ("spec", "replicas")


def findings(view: View, found: Mapping[str, Deployed]) -> Iterator[Finding]:
    """Of one cluster, whose releases are `found`."""
    for name, release in found.items():
        # That a CRD is gone is told as such.
        if definitions.are(name):
            remedy = view.manifest_again(name, release)
            objects = ((*changed, remedy) for changed in definitions.changed(view, release))
        else:
            objects = _objects(view, name, release)
        for called, live, paths, again in objects:
            if live is None:
                yield DELETED.found(view.name, f"{called}, of Helm release {name}, is gone.", again)
            elif paths:
                fields = ", ".join(_told(live, path) for path in paths[:5])
                more = f" and {len(paths) - 5} more" if len(paths) > 5 else ""
                what = f"{called} isn't as Helm release {name} made it, in {fields}{more}."
                yield CHANGED.found(view.name, what, again)


def scaled(view: View, found: Mapping[str, Deployed]) -> set[tuple[str, str]]:
    """The Deployments, by namespace and name, whose number of replicas isn't what Helm made it."""
    return {
        (key[2], key[3])
        for name, release in found.items()
        if not definitions.are(name)
        for key, manifest in release.manifests.items()
        if key[1] == "Deployment"
        and (live := _live(view, manifest, key[2], key[3])[1])
        and any(path == REPLICAS for path in unlike(_completed(view, manifest, live, key[2]), live))
    }


def _objects(
    view: View, release_name: str, release: Deployed
) -> Iterator[tuple[str, Object | None, list[FieldPath], str]]:
    """What a release made: its name, the object now, where it isn't as it was made, and what takes that back."""
    for (group, kind, namespace, name), manifest in release.manifests.items():
        collection, live = _live(view, manifest, namespace, name)
        called = f"{kind} {name}"
        if collection and "/namespaces/" in collection:
            called += f" in namespace {namespace}"
        paths = _paths(view, f"{collection}/{name}", _completed(view, manifest, live, namespace), live) if live else []
        custom = "." in group and not group.endswith(".k8s.io")
        again = view.manifest_again(release_name, release) if live and custom else view.rollback(release_name, release)
        if REPLICAS in paths and manifest["spec"].get("replicas") is None:
            # Helm takes nothing back that its manifest doesn't say.
            scale = view.kubectl(f"scale deployment {name} --replicas=1", namespace)
            again = scale if paths == [REPLICAS] else f"{again} && {scale}"
        yield called, live, paths, again


def _live(view: View, manifest: Object, namespace: str, name: str) -> tuple[str | None, Object | None]:
    """Where an object is, and the object; its like are all asked for at once."""
    version, kind = manifest["apiVersion"], manifest["kind"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    if kind in NAMESPACED:
        collection = f"{root}/namespaces/{namespace}/{NAMESPACED[kind]}"
        listed = view.items(collection, **({"labelSelector": "owner!=helm"} if kind == "Secret" else {}))
    elif kind in CLUSTER_WIDE:
        collection = f"{root}/{CLUSTER_WIDE[kind]}"
        listed = view.items(collection, **HELMS)
    else:
        collection = view.api.collection(version, kind, namespace)
        listed = view.items(collection) if collection else []
    found = next((item for item in listed if item["metadata"]["name"] == name), None)
    if found is None and kind in CLUSTER_WIDE:
        # It may have lost its label.
        found = view.api.get(f"{collection}/{name}")
    # A list leaves out what all its items are.
    return collection, found and {"apiVersion": version, "kind": kind, **found}


def _paths(view: View, path: str, wanted: Object, live: Object) -> list[FieldPath]:
    suspected = [where for where in unlike(wanted, live) if where[0] != "status"]
    if not suspected:
        return []
    try:
        restored = view.api.tried("PUT", path, merged(wanted, wanted, live))
    except Refused:
        # Who looks may not be allowed to write, and some fields can't be written back.
        return suspected
    return [where for where in differences(live, restored) if not written(where).startswith(SERVERS_OWN)]


def _completed(view: View, manifest: Object, live: Object, namespace: str) -> Object:
    """A manifest with what it leaves to a default that people change all the same: a Deployment's one replica."""
    if manifest["kind"] != "Deployment" or manifest["spec"].get("replicas") is not None:
        return manifest
    if AUTOSCALER in writers(live, REPLICAS):
        return manifest
    if live["spec"].get("replicas") != 1:
        # Before Kubernetes 1.22 nobody notes who scales; not everybody may look for autoscalers.
        with suppress(Refused):
            autoscalers = view.items(f"/apis/autoscaling/v1/namespaces/{namespace}/horizontalpodautoscalers")
            targets = [autoscaler["spec"]["scaleTargetRef"] for autoscaler in autoscalers]
            if ("Deployment", manifest["metadata"]["name"]) in {(it["kind"], it["name"]) for it in targets}:
                return manifest
    return {**manifest, "spec": {**manifest["spec"], "replicas": 1}}


def _told(live: Object, path: FieldPath) -> str:
    """A field with who wrote it last, as far as the API server says."""
    by: list[Any] = writers(live, path)
    return f"{written(path)} ({f'by {by[0]}' if by else 'by nobody known' if holds(live, path) else 'removed'})"
