import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from components.settings import Settings
from components.virtual_mesh import addons_access, virtual_mesh
from lab.fleet import Lab
from lab.packages import CHARTS
from lab.plugins import REPOSITORY

pytestmark = pytest.mark.lab
LAB_WORKERS = 1

MANAGEMENT = "gloo-mesh-enterprise"
AGENT = "enterprise-agent"
VERSION = "1.2.9"
LICENCE = {"licenseKey": "a-licence"}
REGISTERED = {"relay": {"cluster": "cluster-1", "serverAddress": "relay.example.com:9900"}}
ADDONS = {
    **LICENCE,
    "enterpriseAgent": {"enabled": False},
    "rate-limiter": {"enabled": True},
    "ext-auth-service": {"enabled": True},
}
OWN_TRUST = {**LICENCE, "enterprise-networking": {"selfSigned": False}}
PAIR = {"tls.key": "key", "tls.crt": "certificate", "ca.crt": "root"}
TRUST = {
    "relay-server-tls-secret": PAIR,
    "relay-tls-signing-secret": PAIR,
    "relay-identity-token-secret": {"token": "t"},
    "relay-forwarding-identity-token-secret": {"token": "t"},
}
AGENT_TRUST = {"relay-root-tls-secret": {"ca.crt": "root"}, "relay-identity-token-secret": {"token": "t"}}

Manifests = dict[tuple[str, str], dict[str, Any]]


def helm(lab: Lab, verb: str, chart: str, values: dict[str, Any], *arguments: str) -> subprocess.CompletedProcess[str]:
    archive = lab.packages / f"{chart}-{VERSION}.tgz"
    return subprocess.run(
        [lab.tool("helm"), verb, chart, archive, "--kubeconfig", lab.kubeconfig, "--values", "-", *arguments],
        input=yaml.safe_dump(values),
        env=lab.environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def render(lab: Lab, chart: str, values: dict[str, Any], namespace: str = "gloo-mesh") -> Manifests:
    done = helm(lab, "template", chart, values, "--namespace", namespace)
    assert done.returncode == 0, done.stderr
    manifests = [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]
    return {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in manifests}


def ports(service: dict[str, Any]) -> dict[str, int]:
    return {port["name"]: port["port"] for port in service["spec"]["ports"]}


def pod(deployment: dict[str, Any]) -> dict[str, Any]:
    return deployment["spec"]["template"]["spec"]


def nested(path: str, value: object) -> dict[str, Any]:
    for key in reversed(path.split(".")):
        value = {key: value}
    assert isinstance(value, dict)
    return value


def core(lab: Lab, context: str) -> Any:
    return client.CoreV1Api(config.new_client_from_config(str(lab.kubeconfig), context))


@pytest.fixture
def namespace(lab: Lab, request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """A context and a namespace in it that is this test's own."""
    context = "cluster-1" if "agent" in request.node.name else "mgmt-cluster"
    name = "test-" + hashlib.sha256(request.node.name.encode()).hexdigest()[:8]
    core(lab, context).create_namespace({"metadata": {"name": name}})
    yield context, name
    core(lab, context).delete_namespace(name)


def create_secrets(lab: Lab, context: str, namespace: str, secrets: dict[str, dict[str, str]]) -> None:
    for name, data in secrets.items():
        core(lab, context).create_namespaced_secret(namespace, {"metadata": {"name": name}, "stringData": data})


def releases(lab: Lab, context: str, namespace: str) -> list[str]:
    secrets = core(lab, context).list_namespaced_secret(namespace, label_selector="owner=helm")
    return [secret.metadata.name for secret in secrets.items]


@pytest.mark.parametrize(
    ("chart", "path"),
    [
        (MANAGEMENT, "relayClientAuthority"),
        (MANAGEMENT, "global.secure"),
        (MANAGEMENT, "enterprise-networking.enterpriseNetworking.servicetype"),
        (MANAGEMENT, "enterprise-networking.relayTlsSecret.key"),
        (MANAGEMENT, "gloo-mesh-ui.dashboard.ports.healthCheck"),
        (MANAGEMENT, "gloo-mesh-ui.auth.oidc.clientID"),
        (MANAGEMENT, "rbac-webhook.rbacWebhook.ports.https"),
        (AGENT, "serverAddress"),
        (AGENT, "relay.serverAdress"),
        (AGENT, "enterpriseAgent.image.version"),
        (AGENT, "rate-limiter.deploymentOverrides"),
    ],
)
def test_a_value_the_reference_does_not_list_is_refused_by_name(lab: Lab, chart: str, path: str) -> None:
    done = helm(lab, "template", chart, nested(path, "anything"))

    assert done.returncode != 0
    assert path.split(".")[-1] in done.stderr
    assert "values don't meet the specifications of the schema" in done.stderr


@pytest.mark.parametrize(
    ("chart", "path", "value"),
    [
        (MANAGEMENT, "enterprise-networking.selfSigned", "no"),
        (MANAGEMENT, "enterprise-networking.enterpriseNetworking.serviceType", "Loadbalancer"),
        (MANAGEMENT, "enterprise-networking.maxGrpcMessageSize", 4294967295),
        (MANAGEMENT, "rbac-webhook.adminSubjects", [{"kind": "Person", "name": "ann"}]),
        (AGENT, "enterpriseAgent.ports.grpc", 99770),
    ],
)
def test_an_ill_typed_value_is_refused_by_name(lab: Lab, chart: str, path: str, value: object) -> None:
    done = helm(lab, "template", chart, nested(path, value))

    assert done.returncode != 0
    assert path.split(".")[-1] in done.stderr


@pytest.mark.parametrize("add_on", ["rate-limiter", "ext-auth-service"])
def test_addons_need_a_licence(lab: Lab, add_on: str) -> None:
    done = helm(lab, "template", AGENT, {**REGISTERED, add_on: {"enabled": True}})

    assert "licenseKey is required with rate-limiter or ext-auth-service" in done.stderr


def test_the_management_chart_needs_a_licence(lab: Lab) -> None:
    assert "licenseKey is required" in helm(lab, "template", MANAGEMENT, {}).stderr


def test_the_agent_alone_needs_no_licence(lab: Lab) -> None:
    assert ("Secret", "gloo-mesh-enterprise-license") not in render(lab, AGENT, REGISTERED)


@pytest.mark.parametrize("address", ["", ":9900", "relay.example.com", "relay.example.com:", "re lay:9900"])
def test_an_agent_with_a_relay_address_lacking_host_or_port_is_refused(lab: Lab, address: str) -> None:
    done = helm(lab, "template", AGENT, {"relay": {"cluster": "cluster-1", "serverAddress": address}})

    assert f'relay.serverAddress is "{address}"' in done.stderr


@pytest.mark.parametrize("address", ["relay.example.com:9900", "10.0.0.1:443", "[2001:db8::1]:9900"])
def test_an_agent_takes_a_name_or_an_ip_of_either_kind(lab: Lab, address: str) -> None:
    manifests = render(lab, AGENT, {"relay": {"cluster": "cluster-1", "serverAddress": address}})

    [container] = pod(manifests["Deployment", "enterprise-agent"])["containers"]
    assert f"--relay-address={address}" in container["args"]


def test_an_agent_without_a_cluster_name_is_refused(lab: Lab) -> None:
    done = helm(lab, "template", AGENT, {"relay": {"serverAddress": "relay.example.com:9900"}})

    assert "relay.cluster is required" in done.stderr


@pytest.mark.parametrize("missing", AGENT_TRUST)
def test_the_agent_is_not_installed_without_its_secrets(lab: Lab, namespace: tuple[str, str], missing: str) -> None:
    context, name = namespace
    create_secrets(lab, *namespace, {key: data for key, data in AGENT_TRUST.items() if key != missing})

    done = helm(lab, "install", AGENT, REGISTERED, "--namespace", name, "--kube-context", context)

    assert f"secret {name}/{missing} with a key" in done.stderr
    assert releases(lab, *namespace) == []


def test_the_agent_is_not_installed_with_a_root_secret_of_another_key(lab: Lab, namespace: tuple[str, str]) -> None:
    context, name = namespace
    create_secrets(lab, *namespace, {**AGENT_TRUST, "relay-root-tls-secret": {"tls.crt": "root"}})

    done = helm(lab, "install", AGENT, REGISTERED, "--namespace", name, "--kube-context", context)

    assert f"secret {name}/relay-root-tls-secret with a key ca.crt is needed" in done.stderr


def test_an_agent_with_a_client_certificate_needs_neither_root_nor_token(lab: Lab, namespace: tuple[str, str]) -> None:
    context, name = namespace
    create_secrets(lab, *namespace, {"relay-client-tls-secret": PAIR})

    done = helm(lab, "install", AGENT, REGISTERED, "--namespace", name, "--kube-context", context, "--dry-run=server")

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("missing", TRUST)
def test_a_management_plane_with_its_own_trust_is_not_installed_without_it(
    lab: Lab, namespace: tuple[str, str], missing: str
) -> None:
    context, name = namespace
    create_secrets(lab, *namespace, {key: data for key, data in TRUST.items() if key != missing})

    done = helm(lab, "install", MANAGEMENT, OWN_TRUST, "--namespace", name, "--kube-context", context)

    assert f"secret {name}/{missing} with a key" in done.stderr
    assert releases(lab, *namespace) == []


def test_own_client_certificates_spare_the_signing_secret_and_the_identity_token(
    lab: Lab, namespace: tuple[str, str]
) -> None:
    context, name = namespace
    spared = {"relay-tls-signing-secret", "relay-identity-token-secret"}
    create_secrets(lab, *namespace, {key: data for key, data in TRUST.items() if key not in spared})
    values = {**LICENCE, "enterprise-networking": {"selfSigned": False, "disableRelayCa": True}}
    install_crds(lab, context, MANAGEMENT)

    done = helm(lab, "install", MANAGEMENT, values, "--namespace", name, "--kube-context", context, "--dry-run=server")

    assert done.returncode == 0, done.stderr


def test_self_signed_trust_survives_an_upgrade(lab: Lab, namespace: tuple[str, str]) -> None:
    context, name = namespace
    read = core(lab, context).read_namespaced_secret
    where = ("--namespace", name, "--kube-context", context)

    assert helm(lab, "install", MANAGEMENT, LICENCE, *where).returncode == 0
    before = {secret: read(secret, name).data for secret in TRUST}
    upgraded = helm(lab, "upgrade", MANAGEMENT, LICENCE, *where)

    assert upgraded.returncode == 0, upgraded.stderr
    assert {secret: read(secret, name).data for secret in TRUST} == before
    assert set(before["relay-server-tls-secret"]) == set(PAIR)
    assert set(read("relay-root-tls-secret", name).data) == {"ca.crt"}


def test_the_management_chart_holds_what_the_inventory_lists(lab: Lab) -> None:
    manifests = render(lab, MANAGEMENT, OWN_TRUST)

    deployments = {name for kind, name in manifests if kind == "Deployment"}
    services = {name: ports(service) for (kind, name), service in manifests.items() if kind == "Service"}
    assert deployments == {"enterprise-networking", "dashboard", "prometheus-server"}
    assert services == {
        "enterprise-networking": {"grpc": 9900, "healthcheck": 8090},
        "enterprise-networking-admin": {"admin": 11100, "http": 9091},
        "dashboard": {"console": 8090, "grpc": 10101, "healthcheck": 8081},
        "prometheus-server": {"http": 80},
    }
    assert manifests["Service", "enterprise-networking"]["spec"]["type"] == "LoadBalancer"
    assert manifests["Service", "enterprise-networking"]["spec"]["selector"] == {"app": "enterprise-networking"}
    assert [c["name"] for c in pod(manifests["Deployment", "dashboard"])["containers"]] == [
        "apiserver",
        "console",
        "envoy",
    ]
    assert ("Pod", "enterprise-networking-test") in manifests
    assert ("RoleBinding", "enterprise-networking-test") in manifests
    assert manifests["Settings", "settings"]["spec"]["mtls"] == {"istio": {"tlsMode": "ISTIO_MUTUAL"}}
    assert {name for kind, name in manifests if kind == "Secret"} == {"gloo-mesh-enterprise-license"}
    for name in ("enterprise-networking", "dashboard"):
        assert {kind for kind, of in manifests if of == name} >= {"ServiceAccount", "ClusterRole", "ClusterRoleBinding"}


def test_the_parts_that_are_off_by_default_appear_when_switched_on(lab: Lab) -> None:
    values = {
        **OWN_TRUST,
        "rbac-webhook": {"enabled": True, "adminSubjects": [{"kind": "User", "name": "ann"}]},
        "gloo-mesh-ui": {
            "redis": {"enabled": True},
            "auth": {
                "enabled": True,
                "oidc": {
                    "clientId": "dashboard",
                    "clientSecret": "hidden",
                    "issuerUrl": "https://issuer.example.com",
                    "appUrl": "https://dashboard.example.com",
                    "session": {"backend": "redis", "redis": {"host": "redis-dashboard:6379"}},
                },
            },
        },
    }

    manifests = render(lab, MANAGEMENT, values)

    assert ports(manifests["Service", "rbac-webhook"]) == {"webhook": 8443}
    assert ("ValidatingWebhookConfiguration", "rbac-webhook") in manifests
    assert ports(manifests["Service", "redis-dashboard"]) == {"redis": 6379}
    assert manifests["Secret", "dashboard"]["data"] == {"oidc-client-secret": "aGlkZGVu"}
    assert manifests["Dashboard", "settings"]["spec"]["auth"]["oidc"] == {
        "clientId": "dashboard",
        "clientSecret": {"name": "dashboard", "namespace": "gloo-mesh"},
        "issuerUrl": "https://issuer.example.com",
        "appUrl": "https://dashboard.example.com",
        "session": {"redis": {"host": "redis-dashboard:6379"}},
    }


def test_metrics_can_do_without_a_prometheus(lab: Lab) -> None:
    values = {**LICENCE, "enterprise-networking": {"metricsBackend": {"prometheus": {"enabled": False}}}}

    assert not any(name == "prometheus-server" for _, name in render(lab, MANAGEMENT, values))


def test_the_agent_chart_holds_what_the_inventory_lists(lab: Lab) -> None:
    manifests = render(lab, AGENT, REGISTERED)

    assert {name for kind, name in manifests if kind == "Deployment"} == {"enterprise-agent"}
    assert ports(manifests["Service", "enterprise-agent"]) == {"grpc": 9977, "http": 9988}
    assert ("Pod", "enterprise-agent-test") in manifests
    assert ("RoleBinding", "enterprise-agent-test") in manifests
    [container] = pod(manifests["Deployment", "enterprise-agent"])["containers"]
    assert {
        "--cluster=cluster-1",
        "--relay-address=relay.example.com:9900",
        "--relay-authority=enterprise-networking.gloo-mesh",
        "--relay-client-cert-secret-name=relay-client-tls-secret",
        "--relay-root-cert-secret-name=relay-root-tls-secret",
        "--relay-identity-token-secret-name=relay-identity-token-secret",
        "--relay-identity-token-secret-key=token",
    } <= set(container["args"])


def test_the_addons_stand_alone_and_let_a_sidecar_in(lab: Lab) -> None:
    manifests = render(lab, AGENT, ADDONS, "gloo-mesh-addons")

    services = {name: ports(service) for (kind, name), service in manifests.items() if kind == "Service"}
    assert services == {"rate-limiter": {"grpc": 18081}, "ext-auth-service": {"grpc": 8083}, "redis": {"redis": 6379}}
    assert {name for kind, name in manifests if kind == "Deployment"} == set(services)
    for name in services:
        template = manifests["Deployment", name]["spec"]["template"]["metadata"]
        assert template["annotations"] == {"proxy.istio.io/config": '{ "holdApplicationUntilProxyStarts": true }'}


@pytest.mark.parametrize(
    ("path", "deployment"),
    [
        ("enterprise-networking.enterpriseNetworking", "enterprise-networking"),
        ("gloo-mesh-ui.dashboard", "dashboard"),
        ("gloo-mesh-ui.redis-dashboard.redisDashboard", "redis-dashboard"),
        ("rbac-webhook.rbacWebhook", "rbac-webhook"),
    ],
)
def test_openshift_may_choose_the_user_of_every_pod(lab: Lab, path: str, deployment: str) -> None:
    values: dict[str, Any] = {**LICENCE, **nested(f"{path}.floatingUserId", True)}
    values.setdefault("rbac-webhook", {})["enabled"] = True
    values.setdefault("gloo-mesh-ui", {})["redis"] = {"enabled": True}

    manifests = render(lab, MANAGEMENT, values)

    users = {
        name: pod(m)["securityContext"].get("runAsUser")
        for (kind, name), m in manifests.items()
        if kind == "Deployment"
    }
    assert [name for name, user in users.items() if user is None] == [deployment]


def test_overrides_are_laid_over_what_the_chart_renders(lab: Lab) -> None:
    annotation = {"service.beta.kubernetes.io/aws-load-balancer-type": "nlb"}
    overrides = {
        "serviceOverrides": {"metadata": {"annotations": annotation}},
        "deploymentOverrides": {"spec": {"template": {"metadata": {"annotations": {"restarted": "1"}}}}},
    }

    manifests = render(lab, MANAGEMENT, {**LICENCE, "enterprise-networking": {"enterpriseNetworking": overrides}})

    service = manifests["Service", "enterprise-networking"]
    template = manifests["Deployment", "enterprise-networking"]["spec"]["template"]["metadata"]
    assert service["metadata"]["annotations"].items() >= annotation.items()
    assert ports(service)["grpc"] == 9900
    assert template["annotations"].items() >= {"restarted": "1", "sidecar.istio.io/inject": "false"}.items()


def crd_files(chart: str) -> list[Path]:
    return sorted((CHARTS / chart).rglob("crds/*.yaml"))


def crds(chart: str) -> list[dict[str, Any]]:
    return [crd for file in crd_files(chart) for crd in yaml.safe_load_all(file.read_text())]


def install_crds(lab: Lab, context: str, chart: str) -> None:
    """As `helm install` would, and wait until they are served."""
    kubectl = [lab.tool("kubectl"), "--kubeconfig", lab.kubeconfig, "--context", context]
    files = [argument for file in crd_files(chart) for argument in ("--filename", str(file))]
    names = [f"crd/{crd['metadata']['name']}" for crd in crds(chart)]
    subprocess.run([*kubectl, "apply", "--server-side", *files], check=True, capture_output=True)
    subprocess.run([*kubectl, "wait", "--for=condition=Established", *names], check=True, capture_output=True)


def test_the_crds_lie_where_the_vendor_keeps_them() -> None:
    management = CHARTS / MANAGEMENT / "charts/enterprise-networking/charts/gloo-mesh-crds/crds"

    assert {file.parent for file in crd_files(MANAGEMENT)} == {management}
    assert {crd["spec"]["names"]["kind"] for crd in crds(MANAGEMENT)} == {
        "KubernetesCluster",
        "VirtualMesh",
        "AccessPolicy",
        "TrafficPolicy",
        "Settings",
        "Dashboard",
        "Mesh",
        "Workload",
        "Destination",
    }
    assert {crd["spec"]["names"]["kind"] for crd in crds(AGENT)} == {
        "IssuedCertificate",
        "CertificateRequest",
        "PodBounceDirective",
        "XdsConfig",
    }


@pytest.mark.parametrize("crd", [*crds(MANAGEMENT), *crds(AGENT)], ids=lambda crd: crd["metadata"]["name"])
def test_a_changed_crd_has_a_changed_hash(crd: dict[str, Any]) -> None:
    digest = hashlib.sha256(json.dumps(crd["spec"], sort_keys=True).encode()).hexdigest()

    assert crd["metadata"]["annotations"] == {
        "crd.solo.io/specHash": digest[:16],
        "crd.solo.io/version": VERSION,
    }


def test_some_crd_has_braces_that_a_template_would_stumble_over() -> None:
    assert any("{{" in file.read_text() for file in crd_files(MANAGEMENT))


REFERENCE = {"name": "istiod-istio-system-cluster-1", "namespace": "gloo-mesh"}
ACCEPTED = [
    ("multicluster.solo.io/v1alpha1", "KubernetesCluster", {"clusterDomain": "cluster.local"}),
    (
        "networking.mesh.gloo.solo.io/v1",
        "VirtualMesh",
        {
            "meshes": [REFERENCE],
            "mtlsConfig": {"autoRestartPods": False},
            "federation": {"selectors": [{}]},
            "globalAccessPolicy": "ENABLED",
        },
    ),
    (
        "networking.mesh.gloo.solo.io/v1",
        "AccessPolicy",
        {
            "sourceSelector": [{"kubeIdentityMatcher": {"namespaces": ["gloo-mesh-addons"]}}],
            "destinationSelector": [{"kubeServiceMatcher": {"namespaces": ["gloo-mesh-addons"]}}],
        },
    ),
    ("networking.mesh.gloo.solo.io/v1", "TrafficPolicy", {"policy": {"requestTimeout": "2s"}}),
    ("settings.mesh.gloo.solo.io/v1", "Settings", {"mtls": {"istio": {"tlsMode": "DISABLE"}}}),
    (
        "settings.mesh.gloo.solo.io/v1",
        "Dashboard",
        {
            "auth": {
                "oidc": {
                    "clientId": "dashboard",
                    "clientSecret": {"name": "dashboard", "namespace": "gloo-mesh"},
                    "issuerUrl": "https://issuer.example.com",
                    "appUrl": "https://dashboard.example.com",
                    "session": {"cookie": {}},
                }
            }
        },
    ),
    (
        "discovery.mesh.gloo.solo.io/v1",
        "Mesh",
        {"istio": {"installation": {"cluster": "cluster-1", "namespace": "istio-system"}}},
    ),
    ("discovery.mesh.gloo.solo.io/v1", "Workload", {"mesh": REFERENCE}),
    ("discovery.mesh.gloo.solo.io/v1", "Destination", {"mesh": REFERENCE}),
    ("certificates.mesh.gloo.solo.io/v1", "IssuedCertificate", {"hosts": ["spiffe://cluster.local"]}),
    ("certificates.mesh.gloo.solo.io/v1", "CertificateRequest", {"certificateSigningRequest": "Y3Ny"}),
    ("certificates.mesh.gloo.solo.io/v1", "PodBounceDirective", {"podsToBounce": [{"namespace": "default"}]}),
    ("xds.agent.enterprise.mesh.gloo.solo.io/v1beta1", "XdsConfig", {"workloads": [REFERENCE]}),
]
REFUSED = [
    ("multicluster.solo.io/v1alpha1", "KubernetesCluster", {"clusterdomain": "cluster.local"}, "clusterdomain"),
    ("multicluster.solo.io/v1alpha1", "KubernetesCluster", {}, "spec.clusterDomain"),
    ("networking.mesh.gloo.solo.io/v1", "VirtualMesh", {"meshes": [{"name": "a"}]}, "spec.meshes[0].namespace"),
    (
        "networking.mesh.gloo.solo.io/v1",
        "VirtualMesh",
        {"meshes": [], "mtlsConfig": {"shared": {}, "limited": {}}},
        "spec.mtlsConfig",
    ),
    ("networking.mesh.gloo.solo.io/v1", "VirtualMesh", {"meshes": [], "globalAccessPolicy": "ON"}, "ENABLED"),
    ("networking.mesh.gloo.solo.io/v1", "AccessPolicy", {"allowedPorts": ["https"]}, "spec.allowedPorts[0]"),
    ("networking.mesh.gloo.solo.io/v1", "TrafficPolicy", {"policy": {"retry": {}}}, "spec.policy.retry"),
    ("settings.mesh.gloo.solo.io/v1", "Settings", {"mtls": {"istio": {"tlsMode": "OFF"}}}, "spec.mtls.istio.tlsMode"),
    ("settings.mesh.gloo.solo.io/v1", "Dashboard", {"auth": {"oidc": {}}}, "spec.auth.oidc.clientId"),
    ("discovery.mesh.gloo.solo.io/v1", "Mesh", {"istio": {"cluster": "cluster-1"}}, "spec.istio.cluster"),
    ("certificates.mesh.gloo.solo.io/v1", "IssuedCertificate", {"hosts": "one"}, "spec.hosts"),
    ("certificates.mesh.gloo.solo.io/v1", "PodBounceDirective", {"pods": []}, "spec.pods"),
    ("xds.agent.enterprise.mesh.gloo.solo.io/v1beta1", "XdsConfig", {"types": [{}]}, "spec.types[0].typeUrl"),
]


@pytest.fixture(scope="module")
def served(lab: Lab) -> Lab:
    """The lab with every CRD on one cluster, which no chart does."""
    for chart in (MANAGEMENT, AGENT):
        install_crds(lab, "mgmt-cluster", chart)
    return lab


def try_to_create(lab: Lab, api_version: str, kind: str, spec: dict[str, Any], context: str = "mgmt-cluster") -> None:
    group, version = api_version.split("/")
    [plural] = [
        crd["spec"]["names"]["plural"]
        for crd in (*crds(MANAGEMENT), *crds(AGENT))
        if crd["spec"]["names"]["kind"] == kind
    ]
    client.CustomObjectsApi(
        config.new_client_from_config(str(lab.kubeconfig), context)
    ).create_namespaced_custom_object(
        group,
        version,
        "default",
        plural,
        {"apiVersion": api_version, "kind": kind, "metadata": {"name": "tried"}, "spec": spec},
        dry_run="All",
        field_validation="Strict",
    )


@pytest.mark.parametrize(("api_version", "kind", "spec", "named"), REFUSED)
def test_an_unknown_or_ill_typed_field_is_refused_by_the_api_server(
    served: Lab, api_version: str, kind: str, spec: dict[str, Any], named: str
) -> None:
    with pytest.raises(ApiException) as refused:
        try_to_create(served, api_version, kind, spec)

    assert named in json.loads(refused.value.body or "{}")["message"]


@pytest.mark.parametrize(("api_version", "kind", "spec"), ACCEPTED)
def test_what_the_product_writes_and_reads_is_accepted(
    served: Lab, api_version: str, kind: str, spec: dict[str, Any]
) -> None:
    try_to_create(served, api_version, kind, spec)


REAL_CRDS = REPOSITORY.parent / "shared/crds/gloo-mesh/networking.mesh.gloo.solo.io_v1_crds.yaml"
MESHES = [
    {},
    {"globalAccessPolicy": "ENABLED", "federation": []},
    {"federation": [{"destinationSelectors": [{"kubeServiceMatcher": {"namespaces": ["shop"]}}]}]},
    {"istioCa": "glooMesh"},
    {
        "istioCa": "glooMesh",
        "sharedTrust": {
            "rootCertificateAuthority": {"secret": {"name": "root", "namespace": "gloo-mesh"}},
            "intermediateCertOptions": {"ttlDays": 30},
        },
    },
]


@pytest.mark.skipif(not REAL_CRDS.is_file(), reason="the vendor's own CRDs aren't beside the repository")
def test_the_vendors_own_crds_accept_what_this_program_makes(lab: Lab) -> None:
    kubectl = [lab.tool("kubectl"), "--kubeconfig", lab.kubeconfig, "--context", "cluster-1"]
    subprocess.run([*kubectl, "apply", "--server-side", "--filename", REAL_CRDS], check=True, capture_output=True)
    wait = [*kubectl, "wait", "--for=condition=Established", "--filename", REAL_CRDS]
    subprocess.run(wait, check=True, capture_output=True)
    api_version = "networking.mesh.gloo.solo.io/v1"

    with pytest.raises(ApiException, match="autoRestart"):
        try_to_create(lab, api_version, "VirtualMesh", {"mtlsConfig": {"autoRestart": False}}, "cluster-1")
    for mesh in MESHES:
        configured = Settings.model_validate(
            {
                "version": VERSION,
                "management": {"context": "mgmt-cluster"},
                "workers": {"cluster-1": {}, "cluster-2": {"istio": {"revision": "1-12"}}},
                "dashboard": {"authentication": "none"},
                "virtualMesh": mesh,
            }
        )
        assert configured.virtual_mesh
        workers = configured.worker_clusters
        spec = virtual_mesh(configured.virtual_mesh, configured.namespace, workers)
        try_to_create(lab, api_version, "VirtualMesh", spec, "cluster-1")
        try_to_create(lab, api_version, "AccessPolicy", addons_access(workers), "cluster-1")
