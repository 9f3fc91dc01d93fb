"""Values that are passed through: what they may not undo, and how secrets get into them."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.settings.values import RULES, Release, filled, secret_keys, undone
from tests.unit.conftest import faults, only_fault


def nested(path: tuple[str, ...], value: object) -> dict[str, Any]:
    return {path[0]: nested(path[1:], value) if path[1:] else value}


RULE_PATHS = [(release, path) for release, rules in RULES.items() for path in rules]


@pytest.mark.parametrize(("release", "path"), RULE_PATHS)
@pytest.mark.parametrize("value", [True, None, {"name": "other"}, {"secret": "licenseKey"}])
def test_no_rule_can_be_undone(release: Release, path: tuple[str, ...], value: object) -> None:
    (fault,) = undone(f"values.{release}", nested(path, value), release)

    assert fault.startswith(f"gloo-mesh:values.{release}.{'.'.join(path)} can't be given: ")


@pytest.mark.parametrize(("release", "path"), RULE_PATHS)
@pytest.mark.parametrize("value", [None, [], "x", {"secret": "licenseKey"}])
def test_nothing_above_a_rule_can_be_replaced_whole(release: Release, path: tuple[str, ...], value: object) -> None:
    for length in range(1, len(path)):
        (fault,) = undone("values", nested(path[:length], value), release)

        assert f"gloo-mesh:values.{'.'.join(path[:length])} can't be given: it would replace " in fault


@pytest.mark.parametrize("release", RULES)
@pytest.mark.parametrize("key", ["insecure", "autoRestartPods", "licenseKey", "sidecar.istio.io/inject"])
@pytest.mark.parametrize("above", [(), ("global",), ("some", "where")])
def test_what_is_never_allowed_is_refused_at_any_depth(release: Release, key: str, above: tuple[str, ...]) -> None:
    told = list(undone("values", nested((*above, key), False), release))
    told += undone("values", {"list": [nested((*above, key), False)]}, release)

    assert len(told) == 2
    assert all(key in fault for fault in told)


@pytest.mark.parametrize(
    ("change", "path", "remedy"),
    [
        ({"values": {"management": {"enterprise-networking": {"selfSigned": True}}}}, "selfSigned", "gloo-mesh:pki"),
        ({"values": {"agent": {"relay": {"cluster": "x"}}}}, "values.agent.relay.cluster", "gloo-mesh:workers"),
        ({"values": {"addons": {"enterpriseAgent": {"enabled": True}}}}, "enterpriseAgent.enabled", "of its own"),
        ({"defaults": {"values": {"agent": {"relay": None}}}}, "defaults.values.agent.relay", "relay.cluster"),
        (
            {"workers": {"cluster-1": {"values": {"agent": {"relay": {"insecure": True}}}}}},
            "gloo-mesh:workers.cluster-1.values.agent.relay.insecure",
            "TLS",
        ),
        ({"values": {"addons": {"licenseKey": "canary"}}}, "values.addons.licenseKey", "gloo-mesh:licenseKey"),
    ],
)
def test_values_are_looked_at_wherever_they_are_given(
    config: dict[str, Any], change: dict[str, Any], path: str, remedy: str
) -> None:
    fault = only_fault(config | change)

    assert path in fault
    assert remedy in fault
    assert "canary" not in fault


def test_every_undone_rule_is_told_at_once(config: dict[str, Any]) -> None:
    networking = {"selfSigned": True, "disableRelayCa": True, "relayTlsSecret": {"name": "x"}}

    assert len(faults(config | {"values": {"management": {"enterprise-networking": networking}}})) == 3


def test_a_secret_key_that_values_name_has_to_be_there_and_secret(config: dict[str, Any]) -> None:
    config["values"] = {"agent": {"enterpriseAgent": {"env": [{"name": "PASSWORD", "value": {"secret": "password"}}]}}}

    assert "gloo-mesh:password is missing" in only_fault(config)
    assert "gloo-mesh:password is in plaintext" in only_fault(config | {"password": "canary"})


def test_a_volume_of_a_secret_is_no_secret_key() -> None:
    volume = {"name": "v", "secret": {"secretName": "x"}}
    environment = {"secret": "x", "optional": True}

    assert list(secret_keys({"volumes": [volume], "environment": environment})) == []
    assert filled({"volumes": [volume]}, lambda key: 1 / 0) == {"volumes": [volume]}


leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just({"secret": "password"})
trees = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc") | st.text(max_size=3), inner),
)


@given(values=st.dictionaries(st.text(max_size=3), trees, max_size=4))
def test_filling_replaces_every_secret_key_and_nothing_else(values: dict[str, Any]) -> None:
    before = copy.deepcopy(values)
    asked: list[str] = []

    assert filled(values, lambda key: asked.append(key) or {"secret": key}) == before
    assert asked == list(secret_keys({"all": values}))
    assert list(secret_keys(filled(values, lambda _: "content"))) == []


ordinary = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["env", "image", "tag", "x"]), inner),
)


@pytest.mark.parametrize("release", RULES)
@given(value=ordinary)
def test_values_beside_the_rules_are_the_users_own(release: Release, value: object) -> None:
    beside = {
        "management": {
            "enterprise-networking": {
                "verbose": value,
                "enterpriseNetworking": {"sidecars": value, "serviceOverrides": {"spec": {"ports": value}}},
            },
            "rbac-webhook": {"createAdminRole": value},
        },
        "agent": {"relay": {"maxGrpcMessageSize": value}, "istiodSidecar": value},
        "addons": {"rate-limiter": {"image": value}, "relay": value},
    }[release]

    assert list(undone("values", beside, release)) == []
