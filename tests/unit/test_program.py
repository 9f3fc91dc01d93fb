"""The graph the program registers: order, places, secrecy, protection."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from pulumi.runtime.mocks import MockResourceArgs

from components import product
from operations.program import Registered, is_secret
from tests.unit.conftest import LICENSE, Found, Run, unwrapped

WORKERS = ("cluster-1", "cluster-2")
PAIRS = ("server", "signing")
"""What the root issues for the management cluster."""
Made = Callable[[str], None]


def test_no_kubernetes_resource_falls_back_to_the_ambient_context(stack: Run) -> None:
    ambient = [r.key for r in stack.kubernetes if r.provider not in ("management", *WORKERS)]

    assert stack.kubernetes
    assert ambient == []


def test_the_signing_and_server_keys_reach_only_the_management_cluster(stack: Run) -> None:
    holders = {r.provider for r in stack.kubernetes if "PEM of relay-" in json.dumps(r.inputs) and "-key" in text(r)}

    assert holders == {"management"}


def test_the_root_key_reaches_no_cluster_at_all(stack: Run) -> None:
    assert [r.key for r in stack.kubernetes if "relay-root-key" in text(r)] == []


def test_a_worker_gets_the_root_certificate_and_the_token_and_no_other_secret(stack: Run) -> None:
    for worker in WORKERS:
        secrets = {
            r.inputs["metadata"]["name"]: set(unwrapped(r.inputs["stringData"])) for r in on(stack, worker, "v1:Secret")
        }

        assert secrets == {product.RELAY_ROOT_SECRET: {"ca.crt"}, product.RELAY_TOKEN_SECRET: {"token"}}


def test_nothing_secret_travels_outside_the_secret_envelope(stack: Run) -> None:
    secrets = [LICENSE, "(value of relay-identity-token)", "(value of relay-forwarding-token)"]
    secrets += [f"(PEM of relay-{name}-key)" for name in ("server", "signing")]
    naked = [
        (r.key, secret)
        for r in stack.kubernetes
        for secret in secrets
        if secret in json.dumps([value for value in r.inputs.values() if not is_secret(value)])
    ]

    assert naked == []


def test_every_secret_really_travels(stack: Run) -> None:
    wire = json.dumps([r.inputs for r in stack.kubernetes])

    for secret in (LICENSE, "(value of relay-identity-token)", "(value of relay-forwarding-token)"):
        assert secret in wire


def test_the_fleets_record_holds_no_secret(stack: Run) -> None:
    record = text(stack.named("fleet-record"))

    assert LICENSE not in record
    assert "(value of" not in record
    assert "-key)" not in record


def test_everything_a_worker_gets_but_its_registration_lands_in_its_own_cluster(stack: Run) -> None:
    for worker in WORKERS:
        children = [r for r in stack.kubernetes if r.parent in (worker, f"{worker}-addons")]
        own = [r for r in children if not r.type.endswith(":KubernetesCluster")]

        assert len(own) == 7
        assert {r.provider for r in own} == {worker}


def test_a_registration_lands_on_the_management_cluster_under_the_workers_name(stack: Run) -> None:
    for worker in WORKERS:
        registration = stack.named(f"{worker}-registration")

        assert registration.provider == "management"
        assert registration.inputs["metadata"] == {"name": worker, "namespace": "gloo-mesh"}
        assert registration.inputs["spec"] == {"clusterDomain": "cluster.local"}


def test_only_the_root_is_protected(stack: Run) -> None:
    assert {r.name for r in stack.registered if r.protect} == {"relay-root-key", "relay-root-certificate"}


def test_nothing_is_protected_when_the_configuration_says_so(
    config: dict[str, Any], deploy: Callable[..., Run]
) -> None:
    assert not any(r.protect for r in deploy(config | {"protect": False}).registered)


def test_the_management_release_waits_for_every_secret_and_its_crds(stack: Run) -> None:
    awaited = stack.named("management-release").dependencies
    secrets = {r.key for r in on(stack, "management", "v1:Secret")}

    assert len(secrets) == 5
    assert secrets <= awaited
    assert stack.named("management-crds").key in awaited


def test_an_agent_waits_for_root_token_crds_and_the_relays_address(stack: Run) -> None:
    for worker in WORKERS:
        awaited = stack.named(f"{worker}-agent").dependencies
        names = (f"{worker}-relay-root", f"{worker}-relay-token", f"{worker}-crds", "relay-exposure-service")

        assert {stack.named(name).key for name in names} <= awaited


def test_a_registration_waits_for_its_agent_so_that_it_is_removed_first(stack: Run) -> None:
    for worker in WORKERS:
        awaited = stack.named(f"{worker}-registration").dependencies

        assert {stack.named(f"{worker}-agent").key, stack.named("management-crds").key} <= awaited


def test_the_address_is_read_after_the_release_but_takes_nothing_from_it(stack: Run) -> None:
    patch = stack.named("relay-exposure-service")

    assert patch.dependencies == {stack.named("management-release").key}
    assert set(patch.inputs) <= {"apiVersion", "kind", "metadata"}


def test_addons_wait_for_their_namespace_and_for_the_agent_of_their_cluster(stack: Run) -> None:
    for worker in WORKERS:
        awaited = {stack.named(f"{worker}-{name}").key for name in ("addons-namespace", "agent")}

        assert stack.named(f"{worker}-addons-release").dependencies == awaited


def test_workers_do_not_wait_for_each_other(stack: Run) -> None:
    for worker, other in (WORKERS, WORKERS[::-1]):
        awaited = {key for r in stack.kubernetes if r.provider == worker for key in r.dependencies}

        assert awaited
        assert not [key for key in awaited if f"::{other}" in key]


def test_namespaces_wait_for_nothing(stack: Run) -> None:
    assert {r.dependencies for r in stack.of_type("v1:Namespace")} == {frozenset()}


def test_only_the_addons_namespace_is_injected(stack: Run) -> None:
    labels = {
        (r.provider, r.inputs["metadata"]["name"]): r.inputs["metadata"].get("labels")
        for r in stack.of_type("v1:Namespace")
    }

    assert labels == {
        ("management", "gloo-mesh"): None,
        ("cluster-1", "gloo-mesh"): None,
        ("cluster-2", "gloo-mesh"): None,
        ("cluster-1", "gloo-mesh-addons"): {"istio-injection": "enabled"},
        ("cluster-2", "gloo-mesh-addons"): {"istio-injection": "enabled"},
    }


def test_the_charts_make_no_certificates_or_tokens_of_their_own(stack: Run) -> None:
    values = unwrapped(stack.named("management-release").inputs["values"])

    assert values["enterprise-networking"]["selfSigned"] is False
    assert values["enterprise-networking"]["enterpriseNetworking"]["serviceType"] == "LoadBalancer"


def test_an_agent_dials_the_address_that_was_found_under_its_own_name(stack: Run) -> None:
    values = unwrapped(stack.named("cluster-2-agent").inputs["values"])

    assert values["relay"] == {
        "cluster": "cluster-2",
        "serverAddress": "192.0.2.1:9900",
        "authority": "enterprise-networking.gloo-mesh",
    }


def test_addons_run_without_the_agent(stack: Run) -> None:
    values = unwrapped(stack.named("cluster-1-addons-release").inputs["values"])

    assert values.pop("licenseKey") == LICENSE
    assert values.pop("enterpriseAgent") == {"enabled": False}
    assert {name: values[name]["enabled"] for name in values} == {"rate-limiter": True, "ext-auth-service": True}


def test_every_release_keeps_no_crds_no_old_values_and_few_revisions(stack: Run) -> None:
    releases = stack.of_type(":Release")

    assert len(releases) == 8
    for release in releases:
        assert (release.inputs["skipCrds"], release.inputs["resetValues"], release.inputs["maxHistory"]) == (
            True,
            True,
            10,
        )


def test_every_release_has_the_managements_version(stack: Run) -> None:
    assert {r.inputs["version"] for r in stack.of_type(":Release")} == {"1.2.9"}


def test_charts_are_named_relative_to_the_project(stack: Run) -> None:
    assert {r.inputs["chart"].rpartition("/")[0] for r in stack.of_type(":Release")} == {"./charts"}


def test_a_missing_address_is_told_at_the_release_and_at_the_service(stack: Run) -> None:
    told = {r.name: r.on_error for r in stack.kubernetes if "relay-has-no-address" in r.on_error}

    assert told == {
        "management-release": ("relay-has-no-address",),
        "relay-exposure-service": ("relay-has-no-address",),
    }


def test_ready_within_bounds_the_release_and_the_address(config: dict[str, Any], deploy: Callable[..., Run]) -> None:
    stack = deploy(config | {"relay": {"readyWithin": "90s"}})

    assert stack.named("management-release").inputs["timeout"] == 90
    assert stack.named("relay-exposure-service").timeouts == ("90s", "90s")


def test_providers_are_explicit_about_cluster_and_context(stack: Run, config: dict[str, Any]) -> None:
    contexts = {"management": "mgmt-cluster", "cluster-1": "cluster-1", "cluster-2": "cluster-2"}

    assert {provider.name: provider.inputs for provider in stack.of_type("pulumi:providers:kubernetes")} == {
        name: {
            "kubeconfig": config["kubeconfig"],
            "context": context,
            "clusterIdentifier": name,
            "enableSecretMutable": "true",
            "enableConfigMapMutable": "true",
            "enablePatchForce": "true",
        }
        for name, context in contexts.items()
    }


def test_a_renamed_context_keeps_every_name_in_the_state(config: dict[str, Any], deploy: Callable[..., Run]) -> None:
    before = {r.key for r in deploy(config).registered}
    after = {
        r.key for r in deploy(config | {"workers": {"cluster-1": {"context": "cluster-3"}, "cluster-2": {}}}).registered
    }

    assert after == before


def test_a_removed_middle_worker_changes_no_other_name(config: dict[str, Any], deploy: Callable[..., Run]) -> None:
    three = deploy(config | {"workers": {"cluster-1": {}, "cluster-2": {}, "cluster-3": {}}})
    two = deploy(config | {"workers": {"cluster-1": {}, "cluster-3": {}}})

    gone = {r.key for r in three.registered} - {r.key for r in two.registered}
    assert gone
    assert all("::cluster-2" in key for key in gone)
    assert {r.key for r in two.registered} <= {r.key for r in three.registered}


def test_every_resource_has_a_name_of_its_own(config: dict[str, Any], deploy: Callable[..., Run]) -> None:
    keys = [(r.type, r.name, r.parent) for r in deploy(config).registered]

    assert len(keys) == len(set(keys))


def test_every_resource_belongs_to_a_component(stack: Run) -> None:
    components = {r.name for r in stack.registered if r.type.startswith("gloo-mesh:index:")}
    orphans = [
        r.key
        for r in stack.registered
        if r.type.startswith(("kubernetes:", "tls:", "random:")) and r.parent not in components
    ]

    assert orphans == []


def test_the_management_namespace_moves_names_and_authority_with_it(
    config: dict[str, Any], deploy: Callable[..., Run]
) -> None:
    stack = deploy(config | {"namespace": "relay"})
    management = unwrapped(stack.named("management-release").inputs["values"])

    assert (
        unwrapped(stack.named("cluster-1-agent").inputs["values"])["relay"]["authority"]
        == "enterprise-networking.relay"
    )
    assert management["gloo-mesh-ui"]["relayClientAuthority"] == "enterprise-networking.relay"
    assert "enterprise-networking.relay" in stack.named("relay-server-request").inputs["dnsNames"]
    assert 'gloo-mesh"' not in json.dumps([r.inputs for r in stack.of_type("v1:Secret")])


class TestCertificates:
    """What is asked of the tls provider; the certificates themselves are read in tests/engine."""

    def test_strict_lets_the_signing_authority_issue_clients_only(self, stack: Run) -> None:
        signing = stack.named("relay-signing-certificate").inputs

        assert signing["isCaCertificate"] is True
        assert "client_auth" in signing["allowedUses"]
        assert "server_auth" not in signing["allowedUses"]
        assert "cert_signing" in signing["allowedUses"]

    def test_strict_keys_and_lifetimes_are_those_of_its_profile(self, stack: Run) -> None:
        years = {name: stack.named(f"relay-{name}-certificate").inputs["validityPeriodHours"] for name in PAIRS}

        assert {stack.named(f"relay-{name}-key").inputs["rsaBits"] for name in PAIRS} == {3072}
        assert years == {"server": 365 * 24, "signing": 5 * 365 * 24}
        assert stack.named("relay-root-certificate").inputs["maxPathLength"] == 1

    def test_strict_names_the_server_in_full(self, stack: Run) -> None:
        names = stack.named("relay-server-request").inputs["dnsNames"]

        assert "enterprise-networking.gloo-mesh" in names
        assert not [name for name in names if "*" in name]

    def test_compat_follows_the_vendors_page(self, config: dict[str, Any], deploy: Callable[..., Run]) -> None:
        stack = deploy(config | {"pki": {"profile": "compat"}})

        # The page's keyUsage and extendedKeyUsage, by the provider's names.
        uses = {"digital_signature", "content_commitment", "key_encipherment", "server_auth", "client_auth"}
        assert set(stack.named("relay-server-certificate").inputs["allowedUses"]) == uses
        assert set(stack.named("relay-signing-certificate").inputs["allowedUses"]) == uses | {"cert_signing"}
        assert "*.gloo-mesh" in stack.named("relay-server-request").inputs["dnsNames"]
        assert stack.named("relay-signing-request").inputs["dnsNames"] == ["*.gloo-mesh"]
        assert stack.named("relay-root-key").inputs["rsaBits"] == 4096
        for issued in ("relay-server", "relay-signing"):
            assert stack.named(f"{issued}-key").inputs["rsaBits"] == 2048
        for made in ("relay-root", "relay-server", "relay-signing"):
            assert stack.named(f"{made}-certificate").inputs["validityPeriodHours"] == 3650 * 24

    @pytest.mark.parametrize("profile", ["strict", "compat"])
    def test_every_certificate_has_a_subject_of_its_own(
        self, config: dict[str, Any], deploy: Callable[..., Run], profile: str
    ) -> None:
        stack = deploy(config | {"pki": {"profile": profile}})
        named = [*stack.of_type(":SelfSignedCert"), *stack.of_type(":CertRequest")]

        assert len({certificate.inputs["subject"]["commonName"] for certificate in named}) == 3

    @pytest.mark.parametrize("certificate", ["relay-server-certificate", "relay-signing-certificate"])
    def test_what_the_root_issued_renews_by_itself(self, stack: Run, certificate: str) -> None:
        assert stack.named(certificate).inputs["earlyRenewalHours"] == 30 * 24

    def test_the_root_never_renews_by_itself(self, stack: Run) -> None:
        root = stack.named("relay-root-certificate").inputs

        assert "earlyRenewalHours" not in root
        assert root["validityPeriodHours"] == 10 * 365 * 24

    @pytest.mark.parametrize("trusts", ["relay-root-certificate", "relay-identity-token"])
    def test_a_new_root_or_token_restarts_the_pods_that_trust_it(
        self, stack: Run, config: dict[str, Any], deploy: Callable[..., Run], made: Made, trusts: str
    ) -> None:
        made(trusts)

        assert restarted(stack, deploy(config)) == {"enterprise-networking", "dashboard", "agent"}

    @pytest.mark.parametrize("trusts", ["relay-server-certificate", "relay-signing-certificate"])
    def test_a_renewed_certificate_restarts_the_management_plane_that_mounts_it(
        self, stack: Run, config: dict[str, Any], deploy: Callable[..., Run], made: Made, trusts: str
    ) -> None:
        made(trusts)

        assert restarted(stack, deploy(config)) == {"enterprise-networking", "dashboard"}

    def test_a_new_root_or_signing_key_ends_the_enrolment_of_every_agent(
        self, stack: Run, config: dict[str, Any], deploy: Callable[..., Run], made: Made
    ) -> None:
        for worker in WORKERS:
            assert stack.named(f"{worker}-relay-root").before_update == (f"{worker}-end-of-enrolment",)
            assert stack.named(f"{worker}-relay-root").key in stack.named(f"{worker}-agent").dependencies
            # Else it would end before the relay has that root.
            assert stack.named("management-release").key in stack.named(f"{worker}-relay-root").dependencies
        issuers = {issuer(stack)}
        for name in ("relay-signing-certificate", "relay-signing-key", "relay-root-certificate"):
            made(name)
            issuers.add(issuer(deploy(config)))
        # A renewed signing certificate is for the same key.
        assert len(issuers) == 3

    def test_an_agent_with_a_certificate_of_ours_never_enrolled(
        self, config: dict[str, Any], deploy: Callable[..., Run]
    ) -> None:
        defaults = {"namespaces": {"create": False}}
        stack = deploy(config | {"pki": {"clientCertificates": "perWorker"}, "defaults": defaults})

        assert not [r for r in stack.registered if "enrolment" in " ".join(r.before_create + r.before_update)]

    def test_what_an_earlier_agent_left_ends_before_the_next_starts_where_its_namespace_stayed(
        self, stack: Run, config: dict[str, Any], deploy: Callable[..., Run]
    ) -> None:
        elsewhere = deploy(config | {"defaults": {"namespaces": {"create": False}}})

        for worker in WORKERS:
            assert stack.named(f"{worker}-agent").before_create == ()
            assert elsewhere.named(f"{worker}-agent").before_create == (f"{worker}-start-of-enrolment",)

    @pytest.mark.parametrize(("clients", "secret"), [("relay", "relay-token"), ("perWorker", "relay-client")])
    def test_no_worker_gets_what_the_relay_does_not_know_yet(
        self, config: dict[str, Any], deploy: Callable[..., Run], clients: str, secret: str
    ) -> None:
        stack = deploy(config | {"pki": {"clientCertificates": clients}})

        for worker in WORKERS:
            assert stack.named("management-release").key in stack.named(f"{worker}-{secret}").dependencies


OIDC = {"issuerUrl": "https://login.example.com/", "clientId": "a", "appUrl": "https://gloo-mesh.example.com"}
LOGIN = {"authentication": "oidc", "oidc": OIDC}
OTHER_OIDC = OIDC | {"clientId": "b"}


def test_a_new_licence_restarts_the_pods_that_read_it(
    stack: Run, config: dict[str, Any], deploy: Callable[..., Run]
) -> None:
    rbac = {"rbac": {"adminSubjects": [{"kind": "User", "name": "ann"}]}}
    guarded, renewed = deploy(config | rbac), deploy(config | rbac | {"licenseKey": "another"})

    assert restarted(stack, guarded) == set()
    assert restarted(guarded, renewed) == {
        "enterprise-networking",
        "dashboard",
        "rbac-webhook",
        "rate-limiter",
        "ext-auth-service",
    }


@pytest.mark.parametrize("change", [{"oidcClientSecret": "another"}, {"dashboard": LOGIN | {"oidc": OTHER_OIDC}}])
def test_another_login_restarts_the_dashboard(
    config: dict[str, Any], deploy: Callable[..., Run], change: dict[str, Any]
) -> None:
    config |= {"dashboard": LOGIN, "oidcClientSecret": "one"}
    secret = ("licenseKey", "oidcClientSecret")

    assert restarted(deploy(config, secret), deploy(config | change, secret)) == {"dashboard"}


def test_another_revision_of_istio_restarts_the_addons_that_it_injects(
    stack: Run, config: dict[str, Any], deploy: Callable[..., Run]
) -> None:
    moved = deploy(config | {"defaults": {"istio": {"revision": "1-12"}}})

    assert restarted(stack, moved) == {"rate-limiter", "ext-auth-service"}


def test_no_checksum_of_a_secret_is_shown(stack: Run) -> None:
    checked = {
        release.name: is_secret(release.inputs["values"])
        for release in stack.of_type(":Release")
        if product.CHECKSUM_ANNOTATION in text(release)
    }

    names = ("management-release", *(f"{worker}-{name}" for worker in WORKERS for name in ("agent", "addons-release")))
    assert checked == dict.fromkeys(names, True)
    assert product.CHECKSUM_ANNOTATION in stack.named("fleet-record").inputs["data"]["masked"]


def restarted(before: Run, after: Run) -> set[str]:
    """What gets other pods on some cluster."""
    known = checksums(before)
    return {name for name, checksum in checksums(after).items() if known.get(name, checksum) != checksum}


def checksums(stack: Run) -> dict[str, str]:
    """What each Deployment with a checksum has, cluster-1's of the workers'."""
    management = unwrapped(stack.named("management-release").inputs["values"])
    agent = unwrapped(stack.named("cluster-1-agent").inputs["values"])
    addons = unwrapped(stack.named("cluster-1-addons-release").inputs["values"])
    overridden = {
        "enterprise-networking": management["enterprise-networking"]["enterpriseNetworking"],
        "dashboard": management["gloo-mesh-ui"]["dashboard"],
        "agent": agent["enterpriseAgent"],
    }
    if webhook := management.get("rbac-webhook"):
        overridden["rbac-webhook"] = webhook["rbacWebhook"]
    annotations = {
        name: values["deploymentOverrides"]["spec"]["template"]["metadata"]["annotations"]
        for name, values in overridden.items()
    }
    annotations |= {name: addons[name]["extraTemplateAnnotations"] for name in ("rate-limiter", "ext-auth-service")}
    return {name: found[product.CHECKSUM_ANNOTATION] for name, found in annotations.items()}


def issuer(stack: Run) -> str:
    """What a worker's copy of the root bears."""
    return stack.named("cluster-1-relay-root").inputs["metadata"]["annotations"][product.ISSUER_ANNOTATION]


@pytest.fixture
def made(found: Callable[[Found], None]) -> Made:
    """Have the next deployment make one certificate or token anew."""

    def made(name: str) -> None:
        def anew(args: MockResourceArgs, outputs: dict[str, Any]) -> dict[str, Any]:
            keys = {"certPem", "publicKeyPem", "result"} & outputs.keys() if args.name == name else ()
            return {key: f"another {outputs[key]}" for key in keys}

        found(anew)

    return made


def on(stack: Run, provider: str, suffix: str) -> list[Registered]:
    return [r for r in stack.of_type(suffix) if r.provider == provider]


def text(resource: Registered) -> str:
    return json.dumps(resource.inputs)
