import base64
import datetime
import runpy
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pulumi
import pulumi_policy
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pulumi_policy import ResourceValidationArgs, ResourceValidationPolicy
from pulumi_policy.deserialize import SPECIAL_SECRET_SIG, SPECIAL_SIG_KEY, deserialize_properties
from pulumi_policy.proxy import UNKNOWN_STRING_VALUE, UnknownValueError, unknown_checking_proxy

from operations.stack import PROJECT_FOLDER
from tests.unit.conftest import Run

LICENSE = "licence-canary-4711"
Pack = dict[str, ResourceValidationPolicy]


@dataclass(frozen=True)
class Resource:
    """What the engine would ask the pack about: a resource with its inputs as they travel."""

    type: str
    inputs: Mapping[str, Any]
    name: str = "thing"
    provider: str = "cluster-1"
    parent: str = ""
    """`Component::name`."""
    protect: bool = False

    @property
    def urn(self) -> str:
        return f"urn:pulumi:test::gloo-mesh::{self.type}::{self.name}"

    def args(self, *, remediation: bool = False, config: Mapping[str, Any] | None = None) -> ResourceValidationArgs:
        options = pulumi_policy.PolicyResourceOptions(
            self.protect,
            [],
            None,
            [],
            pulumi_policy.PolicyCustomTimeouts(0, 0, 0),
            [],
            f"urn:pulumi:test::gloo-mesh::gloo-mesh:index:{self.parent}" if self.parent else None,
        )
        provider = pulumi_policy.PolicyProviderResource("pulumi:providers:kubernetes", {}, "", self.provider)
        inputs = unknown_checking_proxy(deserialize_properties(dict(self.inputs), remediation))
        return ResourceValidationArgs(self.type, inputs, self.urn, self.name, options, provider, config)

    def with_inputs(self, **inputs: Any) -> "Resource":
        return replace(self, inputs={**self.inputs, **inputs})


def secret(value: object) -> dict[str, object]:
    """The SDK's secret envelope."""
    return {SPECIAL_SIG_KEY: SPECIAL_SECRET_SIG, "value": value}


def refusals(pack: Pack, rule: str, resource: Resource, **config: Any) -> list[str]:
    """What a rule has against a resource, asked as the engine asks: remediation first."""
    sentences: list[str] = []
    policy = pack[rule]
    if policy.enforcement_level is pulumi_policy.EnforcementLevel.REMEDIATE:
        assert policy.remediate(resource.args(remediation=True)) is None
    policy.validate(resource.args(config=config), lambda message, _urn: sentences.append(message))
    return sentences


def refused(pack: Pack, rule: str, resource: Resource, *words: str, **config: Any) -> bool:
    """Whether a rule has one thing against a resource, and says these words and the resource's name."""
    sentences = refusals(pack, rule, resource, **config)
    return len(sentences) == 1 and all(word in sentences[0] for word in (resource.name, *words))


@pytest.fixture(scope="module")
def pack() -> Pack:
    """The rules that the pack's own `__main__.py` names."""
    given: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", list(sys.path))
        patch.setattr(pulumi_policy, "PolicyPack", lambda *_args, **options: given.append(options))
        runpy.run_path(str(PROJECT_FOLDER / "policies"), run_name="__main__")
    (options,) = given
    assert options["enforcement_level"] is pulumi_policy.EnforcementLevel.MANDATORY
    return {policy.name: policy for policy in options["policies"]}


@pytest.fixture(autouse=True)
def configured() -> Iterator[Callable[..., None]]:
    """Nothing configured, unless a test says otherwise."""

    def configure(**config: str) -> None:
        pulumi.runtime.set_all_config({f"gloo-mesh:{key}": value for key, value in config.items()})

    configure()
    yield configure
    configure()


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, PEM."""

    certificate: str
    key: str


def issued(*, authority: bool) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test")])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Pair(
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
    )


def namespace(name: str, labels: Mapping[str, str]) -> Resource:
    return Resource("kubernetes:core/v1:Namespace", {"metadata": {"name": name, "labels": labels}})


def kubernetes_secret(name: str, content: object, provider: str = "cluster-1") -> Resource:
    inputs = {"metadata": {"name": name}, "stringData": secret(content)}
    return Resource("kubernetes:core/v1:Secret", inputs, provider=provider)


RELEASE = Resource(
    "kubernetes:helm.sh/v3:Release",
    {
        "chart": "./charts/gloo-mesh-enterprise-1.2.9.tgz",
        "version": "1.2.9",
        "values": {"enterprise-networking": {"selfSigned": False}, "licenseKey": secret(LICENSE)},
    },
)
VIRTUAL_MESH = Resource(
    "kubernetes:networking.mesh.gloo.solo.io/v1:VirtualMesh",
    {"metadata": {"name": "mesh"}, "spec": {"mtlsConfig": {"autoRestartPods": False}}},
)
CONFIG_MAP = Resource("kubernetes:core/v1:ConfigMap", {"metadata": {"name": "notes"}, "data": {}})
ROOT = Resource("tls:index/selfSignedCert:SelfSignedCert", {"isCaCertificate": True, "validityPeriodHours": 87600.0})
LEAF = Resource("tls:index/locallySignedCert:LocallySignedCert", {"validityPeriodHours": 8760.0})


def test_a_kubernetes_resource_without_a_provider_of_its_own_is_refused(pack: Pack) -> None:
    assert refused(pack, "own-provider", replace(CONFIG_MAP, provider="default_4_32_0"), "ConfigMap", "provider of")


@pytest.mark.parametrize(
    ("parent", "provider", "belongs"),
    [
        ("WorkerCluster::cluster-1", "cluster-2", "cluster-1"),
        ("WorkerCluster::cluster-1", "management", "cluster-1"),
        ("Addons::cluster-1-addons", "management", "cluster-1"),
        ("ManagementPlane::management", "cluster-1", "management"),
        ("RelayExposure$gloo-mesh:index:IstioGateway::relay-exposure-istio", "cluster-1", "management"),
        ("Fleet::fleet", "cluster-1", "management"),
        ("RelayPki::relay", "cluster-1", "management"),
    ],
)
def test_a_resource_that_goes_to_another_cluster_than_its_components_is_refused(
    pack: Pack, parent: str, provider: str, belongs: str
) -> None:
    stray = replace(CONFIG_MAP, parent=parent, provider=provider)

    assert refused(pack, "own-provider", stray, f"cluster {belongs}", f"to {provider}")
    assert refusals(pack, "own-provider", replace(stray, provider=belongs)) == []


def test_a_registration_that_stays_on_its_worker_is_refused(pack: Pack) -> None:
    registration = Resource(
        "kubernetes:multicluster.solo.io/v1alpha1:KubernetesCluster", {}, parent="WorkerCluster::cluster-1"
    )

    assert refused(pack, "own-provider", registration, "management")
    assert refusals(pack, "own-provider", replace(registration, provider="management")) == []


def test_a_provider_that_follows_the_current_context_is_refused(pack: Pack) -> None:
    provider = Resource("pulumi:providers:kubernetes", {"kubeconfig": "~/.kube/config"}, name="somewhere")

    assert refused(pack, "own-provider", provider, "no context", "connect()")
    assert refusals(pack, "own-provider", provider.with_inputs(context="cluster-1")) == []
    assert refusals(pack, "own-provider", provider.with_inputs(context=UNKNOWN_STRING_VALUE)) == []


def test_a_default_provider_is_told_of_by_what_uses_it_alone(pack: Pack) -> None:
    assert refusals(pack, "own-provider", Resource("pulumi:providers:kubernetes", {}, name="default_4_32_0")) == []
    assert refusals(pack, "own-provider", Resource("pulumi:providers:kubernetes", {}, name="default-eu")) != []


@pytest.mark.parametrize("name", ["relay-root-tls-secret", "relay-tls-signing-secret", "relay-server-tls-secret"])
def test_a_relay_key_on_a_worker_is_refused_by_its_name_before_it_is_known(pack: Pack, name: str) -> None:
    content = {"tls.key": UNKNOWN_STRING_VALUE, "ca.crt": UNKNOWN_STRING_VALUE}
    planted = kubernetes_secret(name, content)

    assert refused(pack, "authority-keys-on-management", planted, name, "cluster-1", "leave the key out")
    assert refusals(pack, "authority-keys-on-management", replace(planted, provider="management")) == []
    assert refusals(pack, "authority-keys-on-management", kubernetes_secret(name, {"ca.crt": "PEM"})) == []


@pytest.mark.parametrize("combined", [False, True])
def test_any_authoritys_key_on_a_worker_is_refused_by_its_content(pack: Pack, combined: bool) -> None:
    own = issued(authority=True)
    content = {"all.pem": own.certificate + own.key} if combined else {"x": own.key, "y": own.certificate}
    encoded = {key: base64.b64encode(text.encode()).decode() for key, text in content.items()}
    planted = kubernetes_secret("cacerts", content)

    assert refused(pack, "authority-keys-on-management", planted, "cacerts")
    assert refused(
        pack,
        "authority-keys-on-management",
        Resource("kubernetes:core/v1:SecretPatch", {"metadata": {"name": "cacerts"}, "data": secret(encoded)}),
    )
    assert own.key not in refusals(pack, "authority-keys-on-management", planted)[0]
    assert refusals(pack, "authority-keys-on-management", replace(planted, provider="management")) == []


@pytest.mark.parametrize("name", ["relay-root-tls-secret", "cacerts"])
def test_a_key_without_its_certificate_on_a_worker_is_refused_because_it_may_be_any(pack: Pack, name: str) -> None:
    alone = {"root.key": issued(authority=True).key, "other.crt": issued(authority=False).certificate, "empty": ""}

    assert refused(pack, "authority-keys-on-management", kubernetes_secret(name, alone), name)


def test_a_key_whose_certificate_is_about_to_be_made_may_lie_on_its_worker(pack: Pack) -> None:
    renewed = {"tls.key": issued(authority=False).key, "tls.crt": UNKNOWN_STRING_VALUE}

    assert refusals(pack, "authority-keys-on-management", kubernetes_secret("relay-client-tls-secret", renewed)) == []


def test_an_agents_own_pair_beside_the_roots_certificate_may_lie_on_its_worker(pack: Pack) -> None:
    own, root = issued(authority=False), issued(authority=True)
    content = {"tls.key": own.key, "tls.crt": own.certificate, "ca.crt": root.certificate}

    assert refusals(pack, "authority-keys-on-management", kubernetes_secret("relay-client-tls-secret", content)) == []


def test_damaged_pems_are_no_keys_and_no_tracebacks(pack: Pack) -> None:
    damaged = "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----"
    broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"

    assert refusals(pack, "authority-keys-on-management", kubernetes_secret("x", {"a": damaged, "b": broken})) == []


@pytest.mark.parametrize("key", ["licenseKey", "clientSecret", "token", "identityToken", "password"])
def test_a_secret_in_plaintext_among_a_releases_values_is_refused_by_its_name(pack: Pack, key: str) -> None:
    planted = RELEASE.with_inputs(values={"gloo-mesh-ui": {"auth": {key: LICENSE}}})

    assert refused(pack, "no-plaintext-secret", planted, f"values.gloo-mesh-ui.auth.{key}", "pulumi.Output.secret")
    assert LICENSE not in refusals(pack, "no-plaintext-secret", planted)[0]
    for kept in ({key: secret(LICENSE)}, secret({key: LICENSE})):
        assert refusals(pack, "no-plaintext-secret", RELEASE.with_inputs(values={"auth": kept})) == []


@pytest.mark.parametrize("field", ["data", "stringData"])
@pytest.mark.parametrize("kind", ["Secret", "SecretPatch"])
def test_a_secrets_content_in_plaintext_is_refused_whatever_it_is(pack: Pack, kind: str, field: str) -> None:
    planted = Resource(f"kubernetes:core/v1:{kind}", {"metadata": {"name": "x"}, field: {"anything": "text"}})

    assert refused(pack, "no-plaintext-secret", planted, f"{field}.anything")
    assert refusals(pack, "no-plaintext-secret", planted.with_inputs(**{field: secret({"anything": "text"})})) == []


def test_keys_and_tokens_in_plaintext_are_refused_by_what_they_look_like_wherever_they_stand(pack: Pack) -> None:
    key = issued(authority=False).key
    token = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjE3NTAwMDB9.c2lnbmF0dXJl"
    kubeconfig = f"users: [{{user: {{client-key-data: {base64.b64encode(key.encode()).decode()}}}}}]"
    for inputs, path in (
        ({"data": {"notes": f"keep this:\n{key}"}}, "data.notes"),
        ({"data": {"notes": base64.b64encode(key.encode()).decode()}}, "data.notes"),
        ({"metadata": {"annotations": {"licence": token}}}, "metadata.annotations.licence"),
        ({"spec": {"env": [{"name": "LICENCE", "value": token}]}}, "spec.env.0.value"),
        ({"config": kubeconfig}, "config"),
        ({"kubeconfig": "users:\n- user: {token: opaque}"}, "kubeconfig"),
    ):
        planted = replace(CONFIG_MAP, inputs=inputs)

        assert refused(pack, "no-plaintext-secret", planted, path)
        assert token not in refusals(pack, "no-plaintext-secret", planted)[0]


def test_a_path_of_a_kubeconfig_is_no_secret(pack: Pack) -> None:
    assert refusals(pack, "no-plaintext-secret", replace(CONFIG_MAP, inputs={"kubeconfig": "~/.kube/config"})) == []


def test_certificates_and_names_of_secrets_are_no_secrets(pack: Pack) -> None:
    values = {
        "tokenSecret": {"name": "relay-identity-token-secret", "key": "token"},
        "clientSecretRef": {"name": "dashboard"},
        "automountServiceAccountToken": True,
        "licenseKey": "",
        "ca": issued(authority=True).certificate,
        "token": UNKNOWN_STRING_VALUE,
    }

    assert refusals(pack, "no-plaintext-secret", RELEASE.with_inputs(values=values)) == []


def test_secrecy_that_was_not_looked_at_is_not_taken_for_kept(pack: Pack) -> None:
    sentences: list[str] = []
    pack["no-plaintext-secret"].validate(CONFIG_MAP.args(), lambda message, _urn: sentences.append(message))

    assert len(sentences) == 1
    assert "enforcementLevel" in sentences[0]


@pytest.mark.parametrize("on", [True, "true"])
def test_a_mesh_that_restarts_its_pods_by_itself_is_refused(pack: Pack, on: object) -> None:
    planted = VIRTUAL_MESH.with_inputs(spec={"mtlsConfig": {"autoRestartPods": on}, "meshes": UNKNOWN_STRING_VALUE})

    assert refused(pack, "no-automatic-restarts", planted, "spec.mtlsConfig.autoRestartPods", "Write false")
    assert refusals(pack, "no-automatic-restarts", VIRTUAL_MESH) == []


@pytest.mark.parametrize("path", ["global", "relay", "enterprise-networking"])
def test_a_release_without_tls_is_refused(pack: Pack, path: str) -> None:
    planted = RELEASE.with_inputs(values={path: {"insecure": True}, "address": UNKNOWN_STRING_VALUE})

    assert refused(pack, "no-insecure-connection", planted, f"values.{path}.insecure")
    assert refusals(pack, "no-insecure-connection", RELEASE.with_inputs(values={path: {"insecure": False}})) == []


def test_settings_that_drop_tls_are_refused(pack: Pack) -> None:
    servers = [{"address": "x:1", "insecure": True}]
    planted = Resource(
        "kubernetes:settings.mesh.gloo.solo.io/v1:Settings", {"spec": {"networkingExtensionServers": servers}}
    )

    assert refused(pack, "no-insecure-connection", planted, "networkingExtensionServers.0.insecure")


@pytest.mark.parametrize(
    ("values", "has"),
    [({"enterprise-networking": {"selfSigned": True}}, "selfSigned: true"), ({}, "true by default")],
)
def test_a_management_release_that_makes_its_own_certificates_is_refused(
    pack: Pack, values: dict[str, object], has: str
) -> None:
    assert refused(pack, "no-self-signed-relay", RELEASE.with_inputs(values=values), has, "Write false")
    assert refusals(pack, "no-self-signed-relay", RELEASE) == []
    for other in ("gloo-mesh-enterprise-crds-1.2.9.tgz", "enterprise-agent-1.2.9.tgz"):
        assert refusals(pack, "no-self-signed-relay", RELEASE.with_inputs(chart=other, values={})) == []


@pytest.mark.parametrize("version", ["", "1.2", "^1.2.0", ">=1.2.0", "1.x.x", "latest", "v1.2.9", "1.2.0"])
def test_a_release_of_no_exact_version_or_another_than_its_archives_is_refused(pack: Pack, version: str) -> None:
    planted = RELEASE.with_inputs(version=version)

    assert refused(pack, "exact-charts", planted, f"version: {version}", "1.2.9", "operations charts pull")


def test_an_archive_named_after_no_exact_version_is_refused(pack: Pack) -> None:
    planted = RELEASE.with_inputs(version="latest", chart="./charts/enterprise-agent-latest.tgz")

    assert refused(pack, "exact-charts", planted, "version: latest")


@pytest.mark.parametrize(
    "chart",
    ["gloo-mesh-enterprise", "agent.tgz", "https://charts.test/agent-1.2.9.tgz", "oci://charts.test/agent", "./agent"],
)
def test_a_release_of_a_chart_that_is_no_vendored_archive_is_refused(pack: Pack, chart: str) -> None:
    assert refused(pack, "exact-charts", RELEASE.with_inputs(chart=chart), chart, "operations charts pull")


def test_a_release_of_a_repositorys_chart_is_refused(pack: Pack) -> None:
    assert refused(pack, "exact-charts", RELEASE.with_inputs(repositoryOpts={"repo": "https://charts.test"}))


@pytest.mark.parametrize("version", ["1.2.9", "1.3.0-beta1"])
def test_a_vendored_archive_at_an_exact_version_passes(pack: Pack, version: str) -> None:
    release = RELEASE.with_inputs(version=version, chart=f"/srv/charts/enterprise-agent-{version}.tgz")

    assert refusals(pack, "exact-charts", release) == []


def test_a_root_that_anyone_may_delete_is_refused(pack: Pack) -> None:
    key = Resource("tls:index/privateKey:PrivateKey", {}, name="relay-root-key")
    for root in (ROOT, key):
        assert refused(pack, "protected-root", root, "protect=True")
        assert refusals(pack, "protected-root", replace(root, protect=True)) == []
    assert refusals(pack, "protected-root", replace(key, name="relay-server-key")) == []


def test_a_stack_may_write_out_that_its_root_is_not_worth_protecting(
    pack: Pack, configured: Callable[..., None]
) -> None:
    configured(protect="true")
    assert refused(pack, "protected-root", ROOT)
    configured(protect="false")
    assert refusals(pack, "protected-root", ROOT) == []


@pytest.mark.parametrize("labels", [{"istio-injection": "enabled"}, {"istio.io/rev": "1-12"}])
def test_only_the_addons_namespace_is_injected(
    pack: Pack, configured: Callable[..., None], labels: dict[str, str]
) -> None:
    patch = replace(namespace("gloo-mesh", labels), type="kubernetes:core/v1:NamespacePatch")

    assert refused(pack, "injection", namespace("gloo-mesh", labels), "gloo-mesh", "Take istio-injection")
    assert refused(pack, "injection", patch)
    assert refusals(pack, "injection", namespace("gloo-mesh-addons", labels)) == []
    assert refusals(pack, "injection", namespace("somebody-elses", labels)) == []
    configured(namespace="mesh-admin")
    assert refused(pack, "injection", namespace("mesh-admin", labels), "mesh-admin")
    assert refusals(pack, "injection", namespace("gloo-mesh", labels)) == []


@pytest.mark.parametrize(
    "labels", [{}, {"istio-injection": "disabled"}, {"istio-injection": "disabled", "istio.io/rev": "1-12"}]
)
def test_addons_outside_the_mesh_are_refused(pack: Pack, labels: dict[str, str]) -> None:
    addons = namespace("gloo-mesh-addons", labels)

    assert refused(pack, "injection", addons, "istio-injection: enabled", "istio.io/rev")
    assert refused(pack, "injection", replace(addons, type="kubernetes:core/v1:NamespacePatch"))
    assert refusals(pack, "injection", namespace("gloo-mesh", labels)) == []


def test_certificates_that_outlive_their_bound_are_refused(pack: Pack) -> None:
    long = ROOT.with_inputs(validityPeriodHours=87601.0)
    compat = LEAF.with_inputs(validityPeriodHours=87600.0)

    assert refused(pack, "certificate-lifetimes", long, "87601", "87600", "authorityYears")
    assert refused(pack, "certificate-lifetimes", compat, "87600", "8760 ", "leafDays", "strict")
    assert refusals(pack, "certificate-lifetimes", ROOT) == []
    assert refusals(pack, "certificate-lifetimes", LEAF) == []


def test_a_fleet_sets_bounds_of_its_own(pack: Pack) -> None:
    compat = LEAF.with_inputs(validityPeriodHours=87600.0)

    assert refusals(pack, "certificate-lifetimes", compat, leafDays=3650.0) == []
    assert refused(pack, "certificate-lifetimes", LEAF, "720 ", leafDays=30.0)
    assert refused(pack, "certificate-lifetimes", ROOT, "43800 ", authorityYears=5.0)


def test_a_value_that_is_not_known_yet_ends_a_rule_with_a_note_instead_of_a_verdict(pack: Pack) -> None:
    for rule, resource in {
        "no-self-signed-relay": RELEASE.with_inputs(values=UNKNOWN_STRING_VALUE),
        "exact-charts": RELEASE.with_inputs(version=UNKNOWN_STRING_VALUE),
        "injection": namespace("gloo-mesh-addons", {}).with_inputs(metadata=UNKNOWN_STRING_VALUE),
    }.items():
        with pytest.raises(UnknownValueError):
            refusals(pack, rule, resource)


def all_refusals(pack: Pack, run: Run, **config: Any) -> list[str]:
    components = {r.name: r.type.rpartition(":")[2] for r in run.registered if r.type.startswith("gloo-mesh:")}
    return [
        sentence
        for registered in run.registered
        for rule in pack
        for sentence in refusals(
            pack,
            rule,
            Resource(
                registered.type,
                registered.inputs,
                name=registered.name,
                provider=registered.provider,
                parent=f"{components[registered.parent]}::{registered.parent}"
                if registered.parent in components
                else "",
                protect=registered.protect,
            ),
            **config,
        )
    ]


def test_what_the_program_registers_is_refused_nothing(
    pack: Pack, config: dict[str, Any], deploy: Callable[..., Run]
) -> None:
    for change in ({}, {"protect": False}, {"namespace": "mesh-admin"}):
        assert all_refusals(pack, deploy({**config, **change})) == []


def test_the_whole_production_shape_is_refused_nothing(
    pack: Pack, config: dict[str, Any], deploy: Callable[..., Run]
) -> None:
    oidc = {
        "issuerUrl": "https://login.test",
        "clientId": "x",
        "appUrl": "https://x.test",
        "session": {"store": "redis"},
    }
    shape = {
        "dashboard": {"authentication": "oidc", "oidc": oidc},
        "oidcClientSecret": "canary",
        "virtualMesh": {"globalAccessPolicy": "ENABLED"},
        "rbac": {"adminSubjects": [{"kind": "User", "name": "a@b.test"}]},
        "images": {"registry": "registry.test", "pullSecret": "registry"},
        "defaults": {"platform": "openshift", "istio": {"revision": "1-12"}, "namespaces": {"create": False}},
    }

    assert all_refusals(pack, deploy(config | shape, ("licenseKey", "oidcClientSecret"))) == []


def test_the_vendor_pages_long_lived_certificates_are_asked_for_twice(
    pack: Pack, config: dict[str, Any], deploy: Callable[..., Run]
) -> None:
    run = deploy({**config, "pki": {"profile": "compat"}})

    (sentence,) = all_refusals(pack, run)
    assert "relay-server-certificate" in sentence
    assert all_refusals(pack, run, leafDays=3650) == []
