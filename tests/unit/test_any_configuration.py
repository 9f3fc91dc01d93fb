"""Real configurations, damaged at any depth: each is deployed or refused in sentences, never a traceback."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pulumi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.settings import ConfigurationError, Settings
from docs import reference
from tests import authority
from tests.unit.conftest import Run

Path = tuple[str | int, ...]
ROOT = authority.root()
PEMS = {
    "rootPem": ROOT.pem,
    "serverPem": (SERVER := ROOT.server()).pem,
    "serverKey": SERVER.key_pem,
    "signingPem": (SIGNING := ROOT.signing()).pem,
    "signingKey": SIGNING.key_pem,
}
SECRETS = {"licenseKey", "oidcClientSecret", "registryLogin", *PEMS}
OIDC = {
    "authentication": "oidc",
    "oidc": {
        "issuerUrl": "https://login.example.com/",
        "clientId": "dashboard",
        "appUrl": "https://gloo-mesh.example.com",
        "session": {"store": "redis", "host": "redis.example.com:6379"},
    },
}
LEAST = {
    "version": "1.2.9",
    "charts": "charts",
    "kubeconfig": "kubeconfig",
    "management": {"context": "mgmt-cluster"},
    "workers": {"cluster-1": {}},
    "dashboard": {"authentication": "none"},
    "licenseKey": "a licence",
}
PRIVATE = {
    "images": {"registry": "registry.example.com", "pullSecret": {"secret": "registryLogin"}, "fips": True},
    "resources": {"requests": {"cpu": "250m"}, "limits": {"memory": "1Gi"}},
    "namespaces": {"create": False, "labels": {"team": "mesh"}},
}
REAL: dict[str, dict[str, Any]] = {
    "the least there can be": LEAST,
    "the vendor's page": LEAST
    | {
        "dashboard": OIDC,
        "oidcClientSecret": "a client secret",
        "virtualMesh": {},
        "relay": {"annotations": {"cloud": "nlb"}},
    },
    "behind a gateway": LEAST
    | {
        "management": {"context": "mgmt-cluster", "clusterDomain": "mgmt.example", "platform": "openshift", **PRIVATE},
        "workers": {
            "cluster-1": {"context": "cluster-1", "istio": {"revision": "1-12", "namespace": "istio"}},
            "cluster-2": None,
        },
        "defaults": {
            "clusterDomain": "worker.example",
            "platform": "openshift",
            "addons": {"nodeSelector": {"pool": "mesh"}, "tolerations": [{"key": "mesh", "operator": "Exists"}]},
            **PRIVATE,
        },
        "relay": {
            "istioGateway": {"namespace": "gateways", "service": "NodePort", "port": 8443},
            "dialFromHere": False,
        },
        "registryLogin": '{"auths": {}}',
        "rbac": {"adminSubjects": [{"kind": "Group", "name": "platform"}]},
        "virtualMesh": {"globalAccessPolicy": "ENABLED", "federation": [{}]},
    },
    "at a fixed address": LEAST
    | {
        "management": {"context": "mgmt-cluster", "prometheus": False, "disallowIntersectingConfig": True},
        "workers": {"cluster-3": {"relayAddress": "10.0.0.1:9900", "addons": {"enabled": False}, "version": "1.2.9"}},
        "relay": {"service": "ClusterIP", "address": "relay.example.com:9900", "readyWithin": "90s"},
        "pki": {"profile": "compat", "clientCertificates": "perWorker"},
        "values": {"management": {"enterprise-networking": {"verbose": True}}, "agent": {"verbose": True}},
        "virtualMesh": {"istioCa": "glooMesh", "sharedTrust": {"rootCertificateAuthority": {"generated": {}}}},
        "namespace": "mesh",
        "protect": False,
    },
}
REAL["a PKI of one's own"] = (
    LEAST
    | PEMS
    | {
        "pki": {
            "source": "supplied",
            "root": {"secret": "rootPem"},
            "server": {"certificate": {"secret": "serverPem"}, "key": {"secret": "serverKey"}},
            "signing": {"certificate": {"secret": "signingPem"}, "key": {"secret": "signingKey"}},
        }
    }
)
REAL["Secrets of others"] = LEAST | {
    "management": {"context": "mgmt-cluster", "namespaces": {"create": False}},
    "pki": {"source": "existing"},
}
ODD = [None, True, 0, -1, 1e9, "", " ", "\n", "a: b", "{", "[]", "~", "/", "\0", "ü", "x" * 300, [], {}, [[]], {"": ""}]


def places(value: object, at: Path = ()) -> Iterator[Path]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in inside:
        yield (*at, key)
        yield from places(inner, (*at, key))


def enumerated(described: object) -> Iterator[object]:
    for key, inner in described.items() if isinstance(described, dict) else ():
        yield from inner if key == "enum" else enumerated(inner)


# What somebody could have meant to write somewhere else.
PLAUSIBLE = [
    *enumerated(reference.schema()["$defs"]),
    "90s",
    "1.2.8",
    "10.0.0.1:9900",
    "cluster-2",
    "a.b",
    {"a": "b"},
    8443,
]


def reach(config: Any, place: Path) -> Any:
    for step in place:
        config = config[step]
    return config


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, Any]:
    config: dict[str, Any] = copy.deepcopy(REAL[draw(st.sampled_from(sorted(REAL)))])
    for _ in range(draw(st.integers(1, 2))):
        there = list(places(config))
        if not there:
            break
        deepest = [place for place in there if not list(places(reach(config, place)))]
        *above, last = draw(st.sampled_from(deepest) | st.sampled_from(there))
        around = reach(config, tuple(above))
        match draw(st.sampled_from(["delete", "change", "replace", "rename", "move", "wrap"])):
            case "delete":
                del around[last]
            case "change":
                around[last] = draw(st.sampled_from(PLAUSIBLE))
            case "replace":
                around[last] = draw(st.sampled_from(ODD) | st.text(max_size=8) | st.integers() | st.floats())
            case "rename" if isinstance(around, dict):
                names = [step for place in there for step in place if isinstance(step, str)]
                around[draw(st.sampled_from(names) | st.text(max_size=8))] = around.pop(last)
            case "wrap":
                around[last] = draw(st.sampled_from([[around[last]], {"secret": "licenseKey"}, {"env": "HOME"}]))
            case _:
                around[last] = copy.deepcopy(reach(config, draw(st.sampled_from(there))))
    return config


def refusal(attempt: Callable[[], object]) -> list[str]:
    try:
        attempt()
    except ConfigurationError as refused:
        return refused.faults
    except pulumi.RunError as refused:
        return getattr(refused.__cause__, "faults", [str(refused)])
    return []


@pytest.mark.usefixtures("config")
@pytest.mark.parametrize("name", REAL)
def test_what_is_damaged_was_whole(deploy: Callable[..., Run], name: str) -> None:
    assert deploy(REAL[name], tuple(SECRETS & REAL[name].keys())).registered


@pytest.mark.usefixtures("config")
@settings(max_examples=150)
@given(damage=damaged())
def test_any_configuration_is_deployed_or_refused_in_sentences(
    deploy: Callable[..., Run], damage: dict[str, Any]
) -> None:
    secret = tuple(SECRETS & damage.keys())

    outside = refusal(lambda: Settings.parse(damage | {key: {"secure": "AAAB"} for key in secret}, secret))
    within = refusal(lambda: deploy(damage, secret))

    for told in outside + within:
        assert told.endswith(".") or "write it with: pulumi config set" in told, told
        assert "gloo-mesh:" in told or "charts" in told, told
        assert "Traceback" not in told
        assert "PRIVATE KEY" not in told
