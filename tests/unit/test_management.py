"""The management plane's settings: what contradicts itself, and what each key becomes in the release's values."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from operations.program import is_secret
from tests.unit.conftest import LICENSE, Run, faults, only_fault, unwrapped

CLIENT_SECRET = "client-secret-canary-0815"
OIDC = {
    "issuerUrl": "https://login.example.com/",
    "clientId": "gloo-mesh-dashboard",
    "appUrl": "https://gloo-mesh.example.com",
}
SECRET = ("licenseKey", "oidcClientSecret")
DOCKER = json.dumps({"auths": {"registry.example.com": {"auth": "registry-canary-1234"}}})

Deploy = Callable[..., Run]


def with_oidc(config: dict[str, Any], **session: object) -> dict[str, Any]:
    oidc = OIDC | ({"session": session} if session else {})
    return config | {"dashboard": {"authentication": "oidc", "oidc": oidc}, "oidcClientSecret": CLIENT_SECRET + "\n"}


def values(stack: Run) -> dict[str, Any]:
    """The management release's values, in plain."""
    return plain(stack.named("management-release").inputs["values"])


def plain(value: Any) -> Any:
    value = unwrapped(value)
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def test_oidc_without_a_client_secret_is_refused_with_the_command(config: dict[str, Any]) -> None:
    config = with_oidc(config)
    del config["oidcClientSecret"]

    assert "pulumi config set --secret gloo-mesh:oidcClientSecret --stack STACK < FILE" in only_fault(config)


def test_a_client_secret_in_plaintext_is_refused_without_repeating_it(config: dict[str, Any]) -> None:
    fault = only_fault(with_oidc(config))

    assert "gloo-mesh:oidcClientSecret is in plaintext" in fault
    assert CLIENT_SECRET not in fault


def test_a_client_secret_that_nothing_uses_is_refused(config: dict[str, Any]) -> None:
    fault = only_fault(config | {"oidcClientSecret": CLIENT_SECRET}, SECRET)

    assert "gloo-mesh:oidcClientSecret is given, but gloo-mesh:dashboard.authentication is none" in fault
    assert CLIENT_SECRET not in fault


def test_a_dashboard_open_to_everyone_has_to_be_written_out(config: dict[str, Any]) -> None:
    del config["dashboard"]

    assert "gloo-mesh:dashboard is missing" in only_fault(config)


@pytest.mark.parametrize("key", ["issuerUrl", "appUrl"])
@pytest.mark.parametrize("url", ["login.example.com", "https://", "ftp://x", ""])
def test_an_address_that_is_none_is_refused_by_key(config: dict[str, Any], key: str, url: str) -> None:
    config = with_oidc(config)
    config["dashboard"]["oidc"] |= {key: url}

    assert f'gloo-mesh:dashboard.oidc.{key} is "{url}"; an address is needed' in only_fault(config, SECRET)


def test_a_redis_host_for_cookies_is_refused(config: dict[str, Any]) -> None:
    fault = only_fault(with_oidc(config, host="redis.example.com:6379"), SECRET)

    assert fault.startswith("gloo-mesh:dashboard.oidc.session contradicts itself: host is a redis server's")


def test_a_redis_host_without_a_port_is_refused(config: dict[str, Any]) -> None:
    assert "host:port is needed" in only_fault(with_oidc(config, store="redis", host="redis.example.com"), SECRET)


@pytest.mark.parametrize(
    ("subject", "told"),
    [
        ({"kind": "ServiceAccount", "name": "ci"}, "write its namespace too"),
        ({"kind": "User", "name": "ann", "namespace": "ci"}, "a User belongs to no namespace"),
        ({"kind": "Group", "name": "ops", "namespace": "ci"}, "a Group belongs to no namespace"),
    ],
)
def test_an_admin_subject_that_could_be_nobody_is_refused(
    config: dict[str, Any], subject: dict[str, str], told: str
) -> None:
    fault = only_fault(config | {"rbac": {"adminSubjects": [subject]}})

    assert fault.startswith("gloo-mesh:rbac.adminSubjects.0 contradicts itself: ")
    assert told in fault


def test_a_webhook_without_anybody_who_may_edit_is_refused(config: dict[str, Any]) -> None:
    assert "gloo-mesh:rbac.adminSubjects" in only_fault(config | {"rbac": {"adminSubjects": []}})


@pytest.mark.parametrize("content", ["a password", "{}", '{"credsStore": "desktop"}'])
def test_a_pull_secret_that_holds_no_registry_is_refused_without_repeating_it(
    config: dict[str, Any], content: str
) -> None:
    config |= {
        "images": {"pullSecret": {"secret": "registry"}},
        "registry": json.loads(content or "0") if "{" in content else content,
    }
    fault = only_fault(config, (*SECRET, "registry"))

    assert "gloo-mesh:registry isn't a registry's .dockerconfigjson" in fault
    assert "password" not in fault


def test_a_pull_secret_stays_opaque_outside_a_deployment(config: dict[str, Any]) -> None:
    from components.settings import Settings

    config |= {"images": {"pullSecret": {"secret": "registry"}}, "registry": {"secure": "AAAB"}}

    assert Settings.parse(config, ("licenseKey", "registry")).management_cluster.images.pull_secret


def test_every_contradiction_is_told_at_once(config: dict[str, Any]) -> None:
    config = with_oidc(config, host="redis.example.com:6379")
    config |= {"rbac": {"adminSubjects": [{"kind": "ServiceAccount", "name": "ci"}]}}
    config |= {"virtualMesh": {"sharedTrust": {}, "autoRestartPods": True}}

    assert len(faults(config, SECRET)) == 3


def test_nothing_is_written_that_nobody_configured(stack: Run) -> None:
    given = values(stack)
    networking = given["enterprise-networking"]

    assert set(given) == {"licenseKey", "enterprise-networking", "gloo-mesh-ui"}
    assert set(networking) == {"selfSigned", "glooMeshOperatorArgs", "enterpriseNetworking"}
    assert set(networking["enterpriseNetworking"]) == {"serviceType", "deploymentOverrides"}
    assert set(given["gloo-mesh-ui"]) == {"relayClientAuthority", "networkingAdminAddress", "dashboard"}
    assert set(given["gloo-mesh-ui"]["dashboard"]) == {"deploymentOverrides"}


def test_a_dashboard_asks_for_a_login_and_keeps_its_secret_secret(config: dict[str, Any], deploy: Deploy) -> None:
    stack = deploy(with_oidc(config), SECRET)
    naked = [
        r.key
        for r in stack.kubernetes
        for v in r.inputs.values()
        if CLIENT_SECRET in json.dumps(v) and not is_secret(v)
    ]

    assert naked == []
    assert CLIENT_SECRET not in json.dumps(stack.named("fleet-record").inputs)
    assert values(stack)["gloo-mesh-ui"]["auth"] == {
        "enabled": True,
        "backend": "oidc",
        "oidc": {
            **OIDC,
            "clientSecret": CLIENT_SECRET,
            "clientSecretRef": {"name": "dashboard", "namespace": "gloo-mesh"},
            "session": {"backend": "cookie"},
        },
    }


def test_sessions_in_redis_start_the_charts_own_in_the_fleets_namespace_and_domain(
    config: dict[str, Any], deploy: Deploy
) -> None:
    config |= {"namespace": "relay", "management": {"context": "mgmt-cluster", "clusterDomain": "mgmt.example"}}
    ui = values(deploy(with_oidc(config, store="redis"), SECRET))["gloo-mesh-ui"]

    assert ui["redis"] == {"enabled": True}
    assert ui["auth"]["oidc"]["clientSecretRef"]["namespace"] == "relay"
    assert ui["auth"]["oidc"]["session"] == {
        "backend": "redis",
        "redis": {"host": "redis-dashboard.relay.svc.mgmt.example:6379"},
    }
    assert ui["networkingAdminAddress"] == "enterprise-networking-admin.relay.svc.mgmt.example:11100"


def test_sessions_in_a_redis_of_ones_own_start_none(config: dict[str, Any], deploy: Deploy) -> None:
    ui = values(deploy(with_oidc(config, store="redis", host="redis.example.com:6379"), SECRET))["gloo-mesh-ui"]

    assert "redis" not in ui
    assert ui["auth"]["oidc"]["session"] == {"backend": "redis", "redis": {"host": "redis.example.com:6379"}}


def test_admin_subjects_reach_the_webhook_as_they_are_written(config: dict[str, Any], deploy: Deploy) -> None:
    subjects = [{"kind": "User", "name": "ann"}, {"kind": "ServiceAccount", "name": "ci", "namespace": "build"}]
    given = values(deploy(config | {"rbac": {"adminSubjects": subjects}}))

    assert (given["rbac-webhook"]["enabled"], given["rbac-webhook"]["adminSubjects"]) == (True, subjects)


def test_every_container_is_the_fips_build_from_the_private_registry(config: dict[str, Any], deploy: Deploy) -> None:
    images = {"registry": "registry.example.com/mesh", "fips": True, "pullSecret": {"secret": "registry"}}
    stack = deploy(config | {"images": images, "registry": DOCKER}, (*SECRET, "registry"))
    given = values(stack)
    own = {"registry": "registry.example.com/mesh", "tag": "1.2.9-fips", "pullSecret": "gloo-mesh-registry"}
    ui = given["gloo-mesh-ui"]

    assert given["enterprise-networking"]["enterpriseNetworking"]["image"] == own
    assert given["rbac-webhook"]["rbacWebhook"]["image"] == own
    assert ui["dashboard"]["image"] == own
    assert {name: sidecar["image"] for name, sidecar in ui["dashboard"]["sidecars"].items()} == {
        "console": own,
        "envoy": own,
    }
    assert ui["redis-dashboard"]["redisDashboard"]["image"] == {key: own[key] for key in ("registry", "pullSecret")}
    prometheus = given["enterprise-networking"]["prometheus"]
    assert prometheus["server"]["image"]["repository"] == "registry.example.com/mesh/prometheus"
    assert prometheus["imagePullSecrets"] == [{"name": "gloo-mesh-registry"}]

    secret = stack.named("management-pull-secret")
    assert (secret.inputs["type"], secret.inputs["metadata"]["name"]) == (
        "kubernetes.io/dockerconfigjson",
        "gloo-mesh-registry",
    )
    assert is_secret(secret.inputs["stringData"])
    assert plain(secret.inputs["stringData"]) == {".dockerconfigjson": DOCKER}
    assert secret.key in stack.named("management-release").dependencies


def test_a_pull_secret_that_is_there_already_is_only_named(config: dict[str, Any], deploy: Deploy) -> None:
    stack = deploy(config | {"management": {"context": "mgmt-cluster", "images": {"pullSecret": "ours"}}})

    assert [r for r in stack.registered if r.name.endswith("pull-secret")] == []
    assert values(stack)["gloo-mesh-ui"]["dashboard"]["image"] == {"pullSecret": "ours"}


def test_openshift_chooses_every_user_id(config: dict[str, Any], deploy: Deploy) -> None:
    given = values(deploy(config | {"management": {"context": "mgmt-cluster", "platform": "openshift"}}))
    networking, ui = given["enterprise-networking"], given["gloo-mesh-ui"]

    assert networking["enterpriseNetworking"]["floatingUserId"] is True
    assert given["rbac-webhook"]["rbacWebhook"]["floatingUserId"] is True
    assert ui["dashboard"]["floatingUserId"] is True
    assert ui["redis-dashboard"]["redisDashboard"]["floatingUserId"] is True
    assert networking["prometheus"]["server"]["securityContext"] is False


def test_what_the_management_section_says_reaches_the_relay_server(config: dict[str, Any], deploy: Deploy) -> None:
    resources = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}
    management = {"disallowIntersectingConfig": True, "prometheus": False, "resources": resources}
    networking = values(deploy(config | {"management": {"context": "mgmt-cluster", **management}}))[
        "enterprise-networking"
    ]

    assert networking["disallowIntersectingConfig"] is True
    assert networking["metricsBackend"] == {"prometheus": {"enabled": False}}
    assert networking["enterpriseNetworking"]["resources"] == resources


def test_passed_values_come_last_with_their_secrets_kept(config: dict[str, Any], deploy: Deploy) -> None:
    passed = {
        "enterprise-networking": {
            "verbose": True,
            "enterpriseNetworking": {
                "resources": {"limits": {"memory": "4Gi"}},
                "env": [{"name": "PASSWORD", "value": {"secret": "password"}}],
            },
        }
    }
    config |= {"management": {"context": "mgmt-cluster", "resources": {"limits": {"cpu": "1", "memory": "2Gi"}}}}
    stack = deploy(config | {"values": {"management": passed}, "password": "password-canary"}, (*SECRET, "password"))
    networking = values(stack)["enterprise-networking"]

    assert networking["selfSigned"] is False
    assert networking["verbose"] is True
    assert networking["enterpriseNetworking"]["resources"] == {"limits": {"cpu": "1", "memory": "4Gi"}}
    assert networking["enterpriseNetworking"]["env"] == [{"name": "PASSWORD", "value": "password-canary"}]
    assert is_secret(stack.named("management-release").inputs["values"])
    assert "password-canary" not in json.dumps(stack.named("fleet-record").inputs)
    assert LICENSE not in json.dumps(stack.named("fleet-record").inputs)
