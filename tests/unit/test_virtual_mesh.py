"""The VirtualMesh and the addons' policy: what they say, when they are made, and what is refused."""

import asyncio
from collections.abc import Callable
from typing import Any

import pulumi
import pytest
from pulumi import ErrorHookArgs

from components.virtual_mesh import RETRIES, try_again
from tests.unit.conftest import Run
from tests.unit.test_settings import only_fault

Deploy = Callable[..., Run]


def mesh(stack: Run) -> dict[str, Any]:
    return stack.named("virtual-mesh-mesh").inputs["spec"]


def test_pods_that_restart_by_themselves_are_refused_with_the_reason(config: dict[str, Any]) -> None:
    assert only_fault(config | {"virtualMesh": {"autoRestartPods": True}}) == (
        "gloo-mesh:virtualMesh.autoRestartPods is true; pods would restart whenever Gloo Mesh issues a certificate; "
        "write false, or leave it out."
    )


def test_pods_that_restart_by_themselves_are_no_part_of_shared_trust(config: dict[str, Any]) -> None:
    fault = only_fault(
        config | {"virtualMesh": {"istioCa": "glooMesh", "sharedTrust": {"autoRestartPods": True}}},
    )

    assert "gloo-mesh:virtualMesh.sharedTrust.autoRestartPods is not a setting" in fault


@pytest.mark.parametrize("given", [{"istioCa": "external"}, {}])
def test_shared_trust_and_a_ca_outside_are_refused_together(config: dict[str, Any], given: dict[str, Any]) -> None:
    shared = {"rootCertificateAuthority": {"generated": {}}}
    fault = only_fault(config | {"virtualMesh": {**given, "sharedTrust": shared}})

    assert fault.startswith("gloo-mesh:virtualMesh contradicts itself: sharedTrust ")
    assert "write istioCa: glooMesh" in fault


def test_no_virtual_mesh_is_made_that_nobody_asked_for(stack: Run) -> None:
    assert [r.key for r in stack.of_type(":VirtualMesh")] + [r.key for r in stack.of_type(":AccessPolicy")] == []


def test_istios_own_ca_stays_outside_unless_asked_for(config: dict[str, Any], deploy: Deploy) -> None:
    spec = mesh(deploy(config | {"virtualMesh": {"autoRestartPods": False}}))

    assert spec["mtlsConfig"] == {"autoRestartPods": False}


def test_the_seeds_fleet_is_federated_to_every_mesh(config: dict[str, Any], deploy: Deploy) -> None:
    stack = deploy(config | {"virtualMesh": {}})

    made = stack.named("virtual-mesh-mesh")
    assert made.inputs["metadata"] == {"name": "virtual-mesh", "namespace": "gloo-mesh"}
    assert made.provider == "management"
    assert mesh(stack) == {
        "meshes": [
            {"name": "istiod-istio-system-cluster-1", "namespace": "gloo-mesh"},
            {"name": "istiod-istio-system-cluster-2", "namespace": "gloo-mesh"},
        ],
        "mtlsConfig": {"autoRestartPods": False},
        "federation": {"selectors": [{}]},
        "globalAccessPolicy": "MESH_DEFAULT",
    }


def test_meshes_are_named_by_revision_namespace_and_cluster(config: dict[str, Any], deploy: Deploy) -> None:
    config["workers"] = {
        "cluster-1": {"istio": {"revision": "1-12"}},
        "cluster-2": {"istio": {"revision": "1-12", "namespace": "mesh"}},
    }

    assert mesh(deploy(config | {"virtualMesh": {}, "namespace": "relay"}))["meshes"] == [
        {"name": "istiod-1-12-istio-system-cluster-1", "namespace": "relay"},
        {"name": "istiod-1-12-mesh-cluster-2", "namespace": "relay"},
    ]


def test_the_virtual_mesh_waits_for_every_registration_and_for_its_webhook(
    config: dict[str, Any], deploy: Deploy
) -> None:
    stack = deploy(config | {"virtualMesh": {"globalAccessPolicy": "ENABLED"}})
    made, policy = stack.named("virtual-mesh-mesh"), stack.named("virtual-mesh-addons-access")
    awaited = {
        stack.named(name).key
        for name in ("cluster-1-registration", "cluster-2-registration", "management-release", "management-crds")
    }

    assert awaited <= made.dependencies
    # Denied by default a moment later, the addons would be out of reach.
    assert policy.key in made.dependencies
    assert made.on_error == policy.on_error == ("webhook-not-ready",)
    assert stack.named("cluster-1-registration").on_error == ("webhook-not-ready",)


def test_gateways_and_addons_reach_the_addons_where_access_is_denied(config: dict[str, Any], deploy: Deploy) -> None:
    config["workers"] = {"cluster-1": {"istio": {"namespace": "mesh"}}, "cluster-2": {"addons": {"enabled": False}}}
    policy = deploy(config | {"virtualMesh": {"globalAccessPolicy": "ENABLED"}}).named("virtual-mesh-addons-access")
    addons = {"namespaces": ["gloo-mesh-addons"], "clusters": ["cluster-1"]}

    assert policy.inputs["metadata"] == {"name": "gloo-mesh-addons", "namespace": "gloo-mesh"}
    assert policy.inputs["spec"] == {
        "sourceSelector": [
            {
                "kubeServiceAccountRefs": {
                    "serviceAccounts": [
                        {
                            "name": "istio-ingressgateway-service-account",
                            "namespace": "mesh",
                            "clusterName": "cluster-1",
                        }
                    ]
                }
            },
            {"kubeIdentityMatcher": addons},
        ],
        "destinationSelector": [{"kubeServiceMatcher": addons}],
    }


@pytest.mark.parametrize(
    "change",
    [
        {"virtualMesh": {"globalAccessPolicy": "DISABLED"}},
        {"virtualMesh": {}},
        {"virtualMesh": {"globalAccessPolicy": "ENABLED"}, "defaults": {"addons": {"enabled": False}}},
    ],
)
def test_no_policy_is_made_without_denial_or_without_addons(
    config: dict[str, Any], deploy: Deploy, change: dict[str, Any]
) -> None:
    assert deploy(config | change).of_type(":AccessPolicy") == []


@pytest.mark.parametrize(
    ("given", "shared"),
    [
        ({}, {"rootCertificateAuthority": {"generated": {}}}),
        (
            {"sharedTrust": {"rootCertificateAuthority": {"secret": {"name": "root", "namespace": "gloo-mesh"}}}},
            {"rootCertificateAuthority": {"secret": {"name": "root", "namespace": "gloo-mesh"}}},
        ),
    ],
)
def test_istios_ca_by_gloo_mesh_is_made_with_the_vendors_warning(
    config: dict[str, Any],
    deploy: Deploy,
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, Any],
    shared: dict[str, Any],
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", lambda message, *_: warnings.append(message))

    spec = mesh(deploy(config | {"virtualMesh": {"istioCa": "glooMesh", **given}}))

    assert spec["mtlsConfig"] == {"autoRestartPods": False, "shared": shared}
    assert len(warnings) == 1
    assert "recommends against that in production" in warnings[0]


NOT_READY = 'Internal error occurred: failed calling webhook "x": Post "https://x.y.svc": no endpoints available'


@pytest.mark.parametrize(
    ("errors", "again"),
    [
        ([NOT_READY], True),
        ([NOT_READY] * RETRIES, True),
        ([NOT_READY] * (RETRIES + 1), False),
        (['admission webhook "x" denied the request: not an admin subject'], False),
        (["the server could not find the requested resource", NOT_READY], False),
    ],
)
def test_a_webhook_that_isnt_ready_is_asked_again_for_a_while_and_a_denial_isnt(
    errors: list[str], again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def at_once(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", at_once)
    monkeypatch.setattr(pulumi.log, "info", lambda _: None)

    assert asyncio.run(try_again(ErrorHookArgs("urn", "", "virtual-mesh-mesh", "kind", errors=errors))) is again
    assert len(pauses) == again
