"""The Istio that is there already: on workers for the addons and the mesh, on management as the relay's gateway.

Owns looking at it. Nothing of Istio's is this program's; an up goes through without it but for the gateway.
"""

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Any

from components import product
from components.settings import ClusterSettings, IstioGatewaySettings, Settings, WorkerClusterSettings
from operations.api import Api, Refused
from operations.findings import Finding, Kind

_PAGE = "istio"
_PLAIN = "The addons run without Istio's proxy, so nothing in the mesh can call them."

MISSING = Kind(
    "istio-missing", "Nothing in a mesh can call the addons there, or be joined with other clusters'.", _PAGE
)
REVISION_MISSING = Kind("istio-revision-missing", _PLAIN, _PAGE)
NOT_INJECTING = Kind("istio-not-injecting", _PLAIN, _PAGE)
CLUSTER_NAME = Kind(
    "istio-cluster-name", "Gloo Mesh and Istio then mean different clusters by one name, and federation fails.", _PAGE
)
ROOTS_DIFFER = Kind("istio-roots-differ", "Workloads of one cluster refuse the certificates of the other's.", _PAGE)
GATEWAY_MISSING = Kind(
    "istio-gateway-missing", "The relay's address is read from that Service, so the up fails there.", _PAGE, stops=True
)
INJECTED = Kind(
    "namespace-injected",
    "Istio's webhook is asked for every pod there, and while it is down neither relay nor agents start.",
    _PAGE,
)
CRDS_MISSING = Kind(
    "istio-crds-missing", "The way through the gateway can't be made, so the up fails there.", _PAGE, stops=True
)

ROOT_CONFIG_MAP = "istio-ca-root-cert"
"""What istiod hands its root out by, in every namespace."""
_DEFAULT_CLUSTER = "Kubernetes"
"""What istiod calls its cluster unless told otherwise."""
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


def worker(cluster: WorkerClusterSettings, api: Api, *, mesh: bool) -> Iterator[Finding]:
    """What a worker with addons, or in a mesh, needs of its Istio; an injector is needed by the addons alone."""
    addons = cluster.addons.enabled
    if not (addons or mesh):
        return
    where = f"in namespace {cluster.istio.namespace} on {cluster.name} (context {cluster.context})"
    kubectl = f"{cluster.kubectl} -n {cluster.istio.namespace}"
    look = f"{kubectl} get deployments -l app=istiod -L istio.io/rev"
    try:
        path = f"/apis/apps/v1/namespaces/{cluster.istio.namespace}/deployments"
        found = (api.get(path, labelSelector="app=istiod") or {"items": []})["items"]
        injectors = _injectors(api) if addons else []
    except Refused:
        return
    if not found:
        disabled = f"gloo-mesh:workers.{cluster.name}.addons: {{enabled: false}}"
        yield MISSING.found(
            cluster.name,
            f"There is no istiod {where}.",
            f"{look}; install Istio there, or name its namespace with istio.namespace"
            + (f", or leave the addons out with {disabled}" if addons else ""),
        )
        return
    revisions = {(istiod["metadata"].get("labels") or {}).get(product.REVISION_LABEL, "default") for istiod in found}
    tags = {tag for injector in injectors if (tag := _labels(injector).get("istio.io/tag"))}
    wanted = cluster.istio.revision if addons else None
    if wanted and wanted not in revisions | tags:
        yield REVISION_MISSING.found(
            cluster.name,
            f"gloo-mesh:workers.{cluster.name}.istio.revision is {wanted}, but istiod {where} is of "
            f"{', '.join(sorted(revisions))}.",
            f"{look}; write one of these as istio.revision, or none for the default",
        )
        return
    label = product.injection(wanted)
    if addons and not any(_takes(injector, label) for injector in injectors):
        named = "=".join(next(iter(label.items())))
        yield NOT_INJECTING.found(
            cluster.name,
            f"No injector on {cluster.name} (context {cluster.context}) takes a namespace labelled {named}; istiod "
            f"{where} is of {', '.join(sorted(revisions))}.",
            f"{cluster.kubectl} get mutatingwebhookconfigurations; where Istio was installed with a "
            "revision, write it as istio.revision",
        )
    named = {name for istiod in found if (name := _cluster_name(istiod))} - {_DEFAULT_CLUSTER, cluster.name}
    if named:
        yield CLUSTER_NAME.found(
            cluster.name,
            f"istiod {where} calls its cluster {', '.join(sorted(named))}; this fleet calls it {cluster.name}.",
            f"Install Istio with values.global.multiCluster.clusterName={cluster.name}, or name the worker as Istio "
            f"does; see with: {look} -o yaml",
        )


def injected(cluster: ClusterSettings, name: str, namespace: Mapping[str, Any] | None) -> Iterator[Finding]:
    """Whether Istio injects the namespace of relay or agent, whose metadata is given."""
    labels: dict[str, str] = (namespace or {}).get("labels") or {}
    if label := product.injected_by(labels):
        yield INJECTED.found(
            cluster.name,
            f"Namespace {name} on {cluster.name} (context {cluster.context}) is labelled {label}={labels[label]}.",
            f"{cluster.kubectl} label namespace {name} {label}-",
        )


def gateway(settings: Settings, gateway: IstioGatewaySettings, api: Api) -> Iterator[Finding]:
    """What the relay behind an Istio gateway needs of the management cluster's."""
    cluster = settings.management_cluster
    where = f"{cluster.name} (context {cluster.context})"
    kubectl = cluster.kubectl
    missing = [
        kind
        for kind in ("Gateway", "VirtualService")
        if not api.collection(product.ISTIO_API_VERSION, kind, settings.namespace)
    ]
    if missing:
        yield CRDS_MISSING.found(
            cluster.name,
            f"{where} serves no {' and no '.join(missing)} of {product.ISTIO_API_VERSION}, which "
            "gloo-mesh:relay.istioGateway needs.",
            f"{kubectl} api-resources --api-group networking.istio.io; install Istio there, or expose the relay "
            "otherwise under gloo-mesh:relay",
        )
    if settings.relay.address:
        return
    try:
        service = api.get(f"/api/v1/namespaces/{gateway.namespace}/services/{gateway.name}")
    except Refused:
        return
    ports = [port.get("name") for port in service["spec"].get("ports") or []] if service else []
    if product.ISTIO_GATEWAY_PORT not in ports:
        has = (
            f"has the ports {', '.join(map(str, ports))}, and none named {product.ISTIO_GATEWAY_PORT}"
            if service
            else "isn't there"
        )
        yield GATEWAY_MISSING.found(
            cluster.name,
            f"Service {gateway.name} in namespace {gateway.namespace} on {where} {has}.",
            f"{kubectl} get services -A -l istio=ingressgateway; name it under gloo-mesh:relay.istioGateway, or write "
            "gloo-mesh:relay.address",
        )


def root(cluster: WorkerClusterSettings, api: Api) -> frozenset[str]:
    """The certificates that a worker's Istio trusts; none where they can't be found.

    The ConfigMap is what istiod hands out, and no key is in it; the Secret is where its root comes from.
    """
    below = f"/api/v1/namespaces/{cluster.istio.namespace}"
    for path in (f"{below}/configmaps/{ROOT_CONFIG_MAP}", f"{below}/secrets/cacerts"):
        try:
            found = api.get(path)
        except Refused:
            continue
        if text := ((found or {}).get("data") or {}).get("root-cert.pem"):
            return certificates(text)
    return frozenset()


def certificates(text: str) -> frozenset[str]:
    """The certificates in a PEM, or in one that is encoded as a Secret's."""
    if "-----BEGIN" not in text:
        try:
            text = base64.b64decode(text).decode(errors="replace")
        except ValueError:
            return frozenset()
    return frozenset("".join(body.split()) for body in _CERTIFICATE.findall(text))


def roots(settings: Settings, seen: Mapping[str, frozenset[str]]) -> Iterator[Finding]:
    """Whether the workers' Istios have a root in common, as one mesh whose CA stays outside needs."""
    mesh = settings.virtual_mesh
    if mesh is None or mesh.istio_ca != "external":
        return
    known = [worker for worker in settings.worker_clusters if seen.get(worker.name)]
    agreed: list[WorkerClusterSettings] = []
    common = frozenset[str]()
    for worker in known:
        shared = common & seen[worker.name] if agreed else seen[worker.name]
        if shared:
            agreed.append(worker)
            common = shared
        else:
            others = f" and {len(agreed) - 1} more have in common" if agreed[1:] else " has"
            yield ROOTS_DIFFER.found(
                worker.name,
                f"Istio on {worker.name} (context {worker.context}) trusts no root that {agreed[0].name} "
                f"(context {agreed[0].context}){others}.",
                f"Give all cacerts under one root: {worker.kubectl} -n {worker.istio.namespace} "
                f"get configmap {ROOT_CONFIG_MAP} "
                "-o jsonpath='{.data.root-cert\\.pem}' | openssl x509 -noout -subject -fingerprint",
            )


def _injectors(api: Api) -> list[dict[str, Any]]:
    """Istio's injectors, each as a configuration with webhooks; a policy that does the same counts as one."""
    group = "/apis/admissionregistration.k8s.io"
    webhooks = (api.get(f"{group}/v1/mutatingwebhookconfigurations") or {"items": []})["items"]
    found = [
        configuration
        for configuration in webhooks
        if _labels(configuration).get("app") == "sidecar-injector" or "sidecar-injector" in _name(configuration)
    ]
    if found:
        return found
    policies = (api.get(f"{group}/v1beta1/mutatingadmissionpolicies") or {"items": []})["items"]
    return [
        policy | {"webhooks": [policy["spec"].get("matchConstraints") or {}]}
        for policy in policies
        if "sidecar-injector" in _name(policy)
    ]


def _name(item: dict[str, Any]) -> str:
    return item["metadata"]["name"]


def _labels(item: dict[str, Any]) -> dict[str, str]:
    return item["metadata"].get("labels") or {}


def _takes(injector: dict[str, Any], label: dict[str, str]) -> bool:
    """Whether it has a webhook for pods without labels in a namespace with this label."""
    labels = {**label, "kubernetes.io/metadata.name": product.ADDONS_NAMESPACE}
    return any(
        matches(webhook.get("namespaceSelector") or {}, labels) and matches(webhook.get("objectSelector") or {}, {})
        for webhook in injector.get("webhooks") or []
    )


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """A label selector, as the API server evaluates it."""
    if not (selector.get("matchLabels") or {}).items() <= labels.items():
        return False
    for expression in selector.get("matchExpressions") or []:
        value, values = labels.get(expression["key"]), expression.get("values") or []
        met = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not met[expression["operator"]]:
            return False
    return True


def _cluster_name(istiod: dict[str, Any]) -> str | None:
    """What istiod is told that its cluster is called."""
    containers = istiod["spec"]["template"]["spec"]["containers"]
    variables = [variable for container in containers for variable in container.get("env") or []]
    return next((v.get("value") for v in variables if v["name"] == "CLUSTER_ID"), None)
