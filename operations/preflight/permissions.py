"""What the deploying identity has to be allowed on each cluster.

Owns the list, by role: what the program makes itself, what Helm keeps and installs for it, and what it reads. A
fleet lives by it alone in a test, from its first up to its removal. Apart from it stands what preflight alone reads.
Rules are asked for at once, and what they don't cover right by right, because clouds grant rights that no rule shows.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from components import product
from components.settings import ClusterSettings, Settings, WorkerClusterSettings
from operations.api import Api, Refused
from operations.deadline import started
from operations.findings import Finding, Kind
from operations.preflight import istio
from operations.preflight.clusters import KUBE_SYSTEM

_PAGE = "permissions"
MISSING = Kind("permission-missing", "The up would be refused there, half way.", _PAGE, stops=True)
GRANTING = Kind(
    "granting-not-allowed",
    "The charts bring ClusterRoles; whoever installs one has to hold all of its rights, or the right to grant them.",
    _PAGE,
)

READING = Kind(
    "reading-not-allowed",
    "What is wrong there isn't told, as nobody could look; an up doesn't need it.",
    _PAGE,
    unseen=True,
)

MADE = ("get", "create", "patch", "delete")
OWN = (*MADE, "list", "watch")
"""On what the program makes itself: the plugin waits by a watch until it is gone, and without that for ever."""
HELD_BY_HELM = (*OWN, "update")
RBAC = "rbac.authorization.k8s.io"
REVIEWS = "/apis/authorization.k8s.io/v1"
NOWHERE = "no-such-namespace"
"""The rules in force where no RoleBinding can be are those for the whole cluster."""


@dataclass(frozen=True)
class Need:
    """Verbs on a resource: in a namespace, or where that is empty, in the whole cluster."""

    verbs: tuple[str, ...]
    group: str
    resource: str
    namespace: str = ""
    name: str = ""
    """Of the one object, where it is known: a rule may be for that one alone."""


def needs(settings: Settings, cluster: ClusterSettings) -> Iterator[Need]:
    """Everything that an `up`, a change and a removal ask of a cluster, but for granting."""
    yield from _release(settings.namespace)
    yield from _namespace(cluster, settings.namespace)
    yield from _tested(settings, cluster)
    yield Need(("get", "create", "patch"), "apiextensions.k8s.io", "customresourcedefinitions")
    if isinstance(cluster, WorkerClusterSettings):
        if cluster.addons.enabled:
            yield from _release(product.ADDONS_NAMESPACE)
            yield from _namespace(cluster, product.ADDONS_NAMESPACE)
            if cluster.platform == "openshift":
                group = product.ISTIO_CNI_ATTACHMENT[0].partition("/")[0]
                yield Need(OWN, RBAC, "rolebindings", product.ADDONS_NAMESPACE)
                yield Need(OWN, group, "network-attachment-definitions", product.ADDONS_NAMESPACE)
    else:
        yield from _management(settings)
    for resource in ("clusterroles", "clusterrolebindings"):
        yield Need(MADE, RBAC, resource)


def _namespace(cluster: ClusterSettings, namespace: str) -> Iterator[Need]:
    if cluster.namespaces.create:
        yield Need(("create", "list", "watch"), "", "namespaces")
        yield Need(("get", "patch", "delete"), "", "namespaces", namespace, namespace)
    else:
        yield Need(("get", "patch"), "", "namespaces", namespace, namespace)


def _release(namespace: str) -> Iterator[Need]:
    """What a chart's components are made of, and where Helm keeps its records."""
    yield Need(HELD_BY_HELM, "", "secrets", namespace)
    for resource in ("services", "serviceaccounts"):
        yield Need(MADE, "", resource, namespace)
    yield Need((*MADE, "list"), "apps", "deployments", namespace)
    yield Need(("list",), "apps", "replicasets", namespace)
    yield Need(("list",), "", "pods", namespace)


def _tested(settings: Settings, cluster: ClusterSettings) -> Iterator[Need]:
    """What `helm test` left, which is deleted before another version comes."""
    worker = isinstance(cluster, WorkerClusterSettings)
    name = product.TEST_OBJECTS[product.AGENT_RELEASE if worker else product.MANAGEMENT_RELEASE]
    yield Need(("delete",), "", "pods", settings.namespace, name)
    yield Need(("delete",), RBAC, "rolebindings", settings.namespace, name)


def _management(settings: Settings) -> Iterator[Need]:
    within, relay = settings.namespace, settings.relay
    yield Need(OWN, "", "configmaps", within)
    yield Need(OWN, product.CLUSTER_API_VERSION.partition("/")[0], "kubernetesclusters", within)
    yield Need(MADE, product.SETTINGS_GROUP, "settings", within)
    if settings.dashboard.oidc:
        yield Need(MADE, product.SETTINGS_GROUP, "dashboards", within)
    if settings.rbac:
        yield Need(MADE, "admissionregistration.k8s.io", "validatingwebhookconfigurations")
    if mesh := settings.virtual_mesh:
        kinds = ["virtualmeshes", *(["accesspolicies"] if mesh.global_access_policy == "ENABLED" else [])]
        for resource in kinds:
            yield Need(OWN, product.MESH_API_VERSION.partition("/")[0], resource, within)
    gateway = relay.istio_gateway
    if gateway:
        for resource in ("gateways", "virtualservices"):
            yield Need(OWN, "networking.istio.io", resource, within)
    if relay.address:
        return
    exposed, where = (gateway.service, gateway.namespace) if gateway else (relay.service, within)
    name = gateway.name if gateway else product.RELAY_SERVICE
    if gateway:
        yield Need(("get",), "", "services", where, name)
    else:
        # The plugin waits for the address through these, and without them for ever.
        yield Need(("list", "watch"), "", "services", where)
    if exposed == "NodePort":
        yield Need(("get",), "", "endpoints", where, name)
        yield Need(("get",), "", "nodes")


def granting(cluster: ClusterSettings) -> Iterator[Need]:
    """What lets somebody install ClusterRoles without holding their rights."""
    yield Need(("escalate", "bind"), RBAC, "clusterroles")
    if isinstance(cluster, WorkerClusterSettings) and cluster.platform == "openshift":
        yield Need(("bind",), RBAC, "clusterroles", "", product.OPENSHIFT_ANY_USER)


def reading(settings: Settings, cluster: ClusterSettings) -> Iterator[Need]:
    """What preflight alone looks at: what cluster it is, and what is there already."""
    yield Need(("get",), "", "namespaces", KUBE_SYSTEM, KUBE_SYSTEM)
    if isinstance(cluster, WorkerClusterSettings):
        within, mesh = cluster.istio.namespace, settings.virtual_mesh
        if cluster.addons.enabled or mesh:
            yield Need(("list",), "apps", "deployments", within)
        if cluster.addons.enabled:
            yield Need(("list",), "admissionregistration.k8s.io", "mutatingwebhookconfigurations")
        if mesh and mesh.istio_ca == "external":
            yield Need(("get",), "", "configmaps", within, istio.ROOT_CONFIG_MAP)
    elif settings.relay.service_type == "LoadBalancer":
        yield Need(("list",), "", "services")


def findings(settings: Settings, cluster: ClusterSettings, api: Api) -> Iterator[Finding]:
    """What is needed and isn't allowed; raises Refused where not even the question is."""
    wanted = {
        MISSING: single(needs(settings, cluster)),
        GRANTING: single(granting(cluster)),
        READING: single(reading(settings, cluster)),
    }
    missing = _missing(api, [need for needed in wanted.values() for need in needed])
    hold, can_i = "Have its ClusterRole there hold them", f"{cluster.kubectl} auth can-i"
    for kind, needed in wanted.items():
        lacking = _told(need for need in missing if need in needed)
        if not lacking:
            continue
        if kind is GRANTING:
            remedy = f"{hold}, or every right of the charts' ClusterRoles; then: {can_i} escalate clusterroles"
        else:
            remedy = f"{hold} (docs/runbooks/permissions.md); then: {can_i} --list --namespace {settings.namespace}"
        yield kind.found(
            cluster.name,
            f"The identity that deploys may not on {cluster.name} (context {cluster.context}): {'; '.join(lacking)}.",
            remedy,
        )


def _missing(api: Api, needed: list[Need]) -> list[Need]:
    """Of each verb by itself, those that neither the rules nor the authorizer itself grants."""
    left = uncovered(_rules(api, NOWHERE), needed)
    for namespace in sorted({need.namespace for need in left} - {""}):
        rules = _rules(api, namespace)
        left = [need for need in left if need.namespace != namespace or uncovered(rules, [need])]
    if not left or _allowed(api, Need(("*",), "*", "*")):
        return []
    answers = started(lambda need: _allowed(api, need), left, 8)
    return [need for need, allowed in zip(left, answers, strict=True) if not allowed.result()]


def single(needed: Iterable[Need]) -> list[Need]:
    """Each verb by itself, once."""
    one_each = (Need((verb,), n.group, n.resource, n.namespace, n.name) for n in needed for verb in n.verbs)
    return list(dict.fromkeys(one_each))


def _rules(api: Api, namespace: str) -> list[dict[str, Any]]:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    try:
        return api.asked(f"{REVIEWS}/selfsubjectrulesreviews", review)["status"].get("resourceRules") or []
    except Refused:
        # Some authorizers can't list; one that says nothing at all is found out by the next question.
        return []


def uncovered(rules: list[dict[str, Any]], needed: list[Need]) -> list[Need]:
    """What of `needed`, a verb each, none of the rules of a rules review grants."""
    return [need for need in needed if not any(_covers(rule, need) for rule in rules)]


def _covers(rule: dict[str, Any], need: Need) -> bool:
    names = rule.get("resourceNames") or []
    return (
        not {"*", *need.verbs}.isdisjoint(rule["verbs"])
        and not {"*", need.group}.isdisjoint(rule.get("apiGroups") or [])
        and not {"*", need.resource}.isdisjoint(rule.get("resources") or [])
        and (not names or need.name in names)
    )


def _allowed(api: Api, need: Need) -> bool:
    attributes = {"verb": need.verbs[0], "group": need.group, "resource": need.resource}
    attributes |= {"namespace": need.namespace, "name": need.name}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}},
    }
    return bool(api.asked(f"{REVIEWS}/selfsubjectaccessreviews", review)["status"]["allowed"])


def _told(needed: Iterable[Need]) -> list[str]:
    """Each resource with its verbs: `create, delete secrets in namespace gloo-mesh`."""
    verbs: dict[tuple[str, str], list[str]] = {}
    for need in needed:
        resource = f"{need.resource}.{need.group}" if need.group else need.resource
        named = f" {need.name}" if need.name else ""
        within = f" in namespace {need.namespace}" if need.namespace and need.resource != "namespaces" else ""
        verbs.setdefault((f"{resource}{named}", within), []).append(need.verbs[0])
    return [f"{', '.join(found)} {resource}{within}" for (resource, within), found in verbs.items()]
