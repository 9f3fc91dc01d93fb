"""What is particular to Gloo Mesh Enterprise 1.x: charts, names, keys, API versions.

Nothing here knows Pulumi. Every name is the vendor's, so that `meshctl`, the vendor's guides and a
support engineer find what they expect. A later generation (2.x) would be a second file like this one.
"""

from collections.abc import Mapping

SUPPORTED_MAJOR = "1"

MANAGEMENT_CHART = "gloo-mesh-enterprise"
AGENT_CHART = "enterprise-agent"
CHARTS = (MANAGEMENT_CHART, AGENT_CHART)
CHART_REPOSITORY = "https://storage.googleapis.com/gloo-mesh-enterprise"
"""`<repository>/<chart>/<chart>-<version>.tgz`, the vendor's layout."""

MANAGEMENT_RELEASE = "gloo-mesh-enterprise"
AGENT_RELEASE = "enterprise-agent"
ADDONS_RELEASE = "enterprise-agent-addons"
RELEASE_DESCRIPTION = "Deployed by the Pulumi program gloo-mesh"
"""What Helm's history says of this program's revisions; of others it has words of its own."""

TEST_OBJECTS = {MANAGEMENT_RELEASE: "enterprise-networking-test", AGENT_RELEASE: "enterprise-agent-test"}
"""By release, the Pod and the RoleBinding that `helm test` leaves behind; the vendor's upgrade deletes them."""

ADDONS_NAMESPACE = "gloo-mesh-addons"
INJECTION_LABEL = "istio-injection"
REVISION_LABEL = "istio.io/rev"

RELAY_SERVER_SECRET = "relay-server-tls-secret"
RELAY_SIGNING_SECRET = "relay-tls-signing-secret"
RELAY_ROOT_SECRET = "relay-root-tls-secret"
RELAY_CLIENT_SECRET = "relay-client-tls-secret"
RELAY_TOKEN_SECRET = "relay-identity-token-secret"
RELAY_FORWARDING_TOKEN_SECRET = "relay-forwarding-identity-token-secret"
LICENSE_SECRET, LICENSE_SECRET_KEY = "gloo-mesh-enterprise-license", "key"
"""Made by the management chart from its value `licenseKey`."""

CONTAINERS = (
    "enterprise-networking.enterpriseNetworking",
    "gloo-mesh-ui.dashboard",
    "gloo-mesh-ui.dashboard.sidecars.console",
    "gloo-mesh-ui.dashboard.sidecars.envoy",
    "rbac-webhook.rbacWebhook",
)
"""Where the values of the management chart's own containers lie."""
REDIS_CONTAINER = "gloo-mesh-ui.redis-dashboard.redisDashboard"
PROMETHEUS_IMAGES = {
    "enterprise-networking.prometheus.server": "prometheus",
    "enterprise-networking.prometheus.configmapReload.prometheus": "configmap-reload",
}
"""Of the Prometheus sub-chart, whose `image.repository` holds the registry too."""
FLOATING_USERS = (
    "enterprise-networking.enterpriseNetworking",
    "rbac-webhook.rbacWebhook",
    "gloo-mesh-ui.dashboard",
    REDIS_CONTAINER,
)
"""What runs as whatever user OpenShift gives it."""
DASHBOARD_SECRET = "dashboard"
"""Made by the chart, with the OpenID Connect client's secret."""
REDIS_ADDRESS = "redis-dashboard.{namespace}.svc.{domain}:6379"
ADMIN_ADDRESS = "enterprise-networking-admin.{namespace}.svc.{domain}:11100"

SETTINGS_GROUP = "settings.mesh.gloo.solo.io"
MESH_API_VERSION = "networking.mesh.gloo.solo.io/v1"
ISSUING_API_VERSION = "certificates.mesh.gloo.solo.io/v1"
ISSUING_KINDS = {"IssuedCertificate": "issuedcertificates", "PodBounceDirective": "podbouncedirectives"}
"""What lies on a worker once Gloo Mesh issues Istio's CA certificates, by kind its plural."""
ISTIO_API_VERSION = "networking.istio.io/v1beta1"
"""Served since Istio 1.5; v1 only since 1.22, later than the Istio of this generation."""
ISTIO_GATEWAY = "gloo-mesh-ingress"
"""The Gateway and the VirtualService of the relay; the vendor page's name."""
ISTIO_GATEWAY_PORT = "https"
INGRESS_SERVICE_ACCOUNT = "istio-ingressgateway-service-account"
"""Of the ingress gateway as Istio installs it."""

PULL_SECRET = "gloo-mesh-registry"
"""Made from a secret of the configuration, for pods to pull their images with; this program's own name."""

MANAGEMENT_DEPLOYMENT = "enterprise-networking"
AGENT_DEPLOYMENT = "enterprise-agent"
METRICS_PORT = 9091
METRICS_SERVICE = "enterprise-networking-admin:http"
"""The Service, and its port, through which an API server's proxy reaches the same metrics."""
CONNECTED_GAUGES = {"pull": "relay_pull_clients_connected", "push": "relay_push_clients_connected"}
"""How many clients of each cluster the relay has, by the label `cluster`."""

RELAY_SERVICE = "enterprise-networking"
RELAY_PORT = 9900
RELAY_PORT_NAME = "grpc"

OPENSHIFT_ANY_USER = "system:openshift:scc:anyuid"
"""The ClusterRole behind `oc adm policy add-scc-to-group anyuid`."""
ISTIO_CNI_ATTACHMENT = ("k8s.cni.cncf.io/v1", "NetworkAttachmentDefinition", "istio-cni")
"""apiVersion, kind and name of what OpenShift's network needs in an injected namespace."""

CLUSTER_API_VERSION = "multicluster.solo.io/v1alpha1"
CLUSTER_KIND = "KubernetesCluster"
CLUSTER_PLURAL = "kubernetesclusters"
CRD_HASH_ANNOTATION = "crd.solo.io/specHash"

FLEET_CONFIG_MAP = "gloo-mesh-fleet"
CHECKSUM_ANNOTATION = "gloo-mesh.fleet/checksum"
"""On a pod template: of what its pods read only as they start, so that a change of it restarts them."""
ISSUER_ANNOTATION = "gloo-mesh.fleet/trust-anchor"
"""On a worker's copy of the root: what the relay issues by, which tells another root or key from a repair."""

BALANCER_ANNOTATION = "gloo-mesh.fleet/balancer"
"""On the relay's Service: of the annotations that a cloud's controller reads there, so that its address is read again
when they change."""
PLACEMENT_ANNOTATION = "gloo-mesh.fleet/placement"
"""On the addons' pod templates, for the post-renderer: where they may run and where their images come from."""
POST_RENDERER = "./components/place-addons"
ADDONS = ("rate-limiter", "ext-auth-service", "redis")
"""The addons' Deployments; their sub-charts have no values for what the post-renderer sets."""


def crds_chart(chart: str) -> str:
    """The chart, and its release, that holds nothing but the CRDs of `chart`."""
    return f"{chart}-crds"


def injection(revision: str | None) -> dict[str, str]:
    """The label of a namespace that Istio, or one revision of it, injects."""
    return {REVISION_LABEL: revision} if revision else {INJECTION_LABEL: "enabled"}


def injected_by(labels: Mapping[str, str]) -> str | None:
    """The label by which Istio injects a namespace; where both are there, it goes by the first."""
    # As a set, because a policy's labels may have values that can't be looked at yet.
    there = set(labels)
    if INJECTION_LABEL in there:
        return INJECTION_LABEL if labels[INJECTION_LABEL] == "enabled" else None
    return REVISION_LABEL if REVISION_LABEL in there else None


def mesh(cluster: str, istio_namespace: str, revision: str | None) -> str:
    """What the Mesh of a cluster's istiod is called once it is discovered."""
    return "-".join(["istiod", *([revision] if revision else []), istio_namespace, cluster])


def relay_authority(namespace: str) -> str:
    """The server name agents ask for and verify; the relay server's certificate must carry it."""
    return f"{RELAY_SERVICE}.{namespace}"
