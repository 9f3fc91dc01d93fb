"""Objects of the API against manifests, and who wrote which field."""

import copy
from typing import Any

import pytest

from operations.objects import differences, unlike, writers, written

MANIFEST = {
    "metadata": {"name": "agent", "labels": {"app.kubernetes.io/name": "agent"}, "creationTimestamp": None},
    "spec": {
        "template": {
            "spec": {
                "containers": [{"name": "agent", "image": "agent:1.2.9", "args": ["--a", "--b"], "env": []}],
                "nodeSelector": {},
            }
        }
    },
}
LIVE = {
    "metadata": {
        "name": "agent",
        "uid": "1",
        "labels": {"app.kubernetes.io/name": "agent", "app.kubernetes.io/managed-by": "Helm"},
    },
    "spec": {
        "replicas": 1,
        "template": {
            "spec": {
                "containers": [
                    {"name": "agent", "image": "agent:1.2.9", "args": ["--a", "--b"], "imagePullPolicy": "Always"},
                    {"name": "istio-proxy", "image": "proxy"},
                ],
                "restartPolicy": "Always",
            }
        },
    },
    "status": {"replicas": 1},
}


CONTAINERS = ("spec", "template", "spec", "containers")


def edited(path: tuple[Any, ...], value: object) -> Any:
    """LIVE with another value at a path; None takes it out."""
    live = copy.deepcopy(LIVE)
    *above, last = path
    at: Any = live
    for step in above:
        at = at[step]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return live


@pytest.mark.parametrize(
    ("where", "value", "told"),
    [
        ((*CONTAINERS, 0, "image"), "evil", "spec.template.spec.containers[agent].image"),
        ((*CONTAINERS, 0, "args"), ["--a"], "spec.template.spec.containers[agent].args"),
        ((*CONTAINERS, 0, "args"), ["--b", "--a"], "spec.template.spec.containers[agent].args"),
        (("metadata", "labels", "app.kubernetes.io/name"), None, "metadata.labels.app.kubernetes.io/name"),
        (CONTAINERS, None, "spec.template.spec.containers"),
    ],
)
def test_what_a_manifest_says_and_an_object_does_not_is_named(where: tuple[Any, ...], value: object, told: str) -> None:
    assert [written(path) for path in unlike(MANIFEST, edited(where, value))] == [told]


@pytest.mark.parametrize(
    ("manifest", "live", "same"),
    [
        ({"limits": {"cpu": "1000m"}}, {"limits": {"cpu": "1001m"}}, False),
        ({"limits": {"cpu": "much"}}, {"limits": {"cpu": "1"}}, False),
        ({"limits": {"cpu": "1"}}, {"limits": None}, False),
        # Elsewhere the form is the value.
        ({"env": [{"name": "x", "value": "1000m"}]}, {"env": [{"name": "x", "value": "1"}]}, False),
        ({"limits": {"cpu": "1000m"}}, {"limits": {"cpu": "1"}}, True),
        ({"requests": {"memory": "1024Mi"}}, {"requests": {"memory": "1Gi"}}, True),
        ({"requests": {"cpu": 0.5}}, {"requests": {"cpu": "500m"}}, True),
        ({"emptyDir": {"sizeLimit": "1024Mi"}}, {"emptyDir": {"sizeLimit": "1Gi"}}, True),
    ],
)
def test_quantities_are_compared_by_value(manifest: Any, live: Any, same: bool) -> None:
    assert (list(unlike(manifest, live)) == []) is same


def test_a_null_says_nothing() -> None:
    assert list(unlike({"metadata": {"creationTimestamp": None}}, {"metadata": {"creationTimestamp": "now"}})) == []


def test_defaults_status_and_what_others_add_do_not_count() -> None:
    assert list(unlike(MANIFEST, LIVE)) == []


def test_a_list_of_unnamed_items_may_gain_defaults_inside_them_but_no_item() -> None:
    rules = {"rules": [{"verbs": ["get"]}]}

    assert list(unlike(rules, {"rules": [{"verbs": ["get"], "apiGroups": [""]}]})) == []
    assert list(unlike(rules, {"rules": [{"verbs": ["get"]}, {"verbs": ["*"]}]})) == [("rules",)]
    assert list(unlike(rules, {"rules": [{"verbs": ["*"]}]})) == [("rules",)]


def test_differences_go_both_ways() -> None:
    assert list(differences({"a": 1, "b": {"c": 1}}, {"b": {"c": 2, "d": 3}})) == [("a",), ("b", "c"), ("b", "d")]


def owned(manager: str, time: str, fields: object) -> dict[str, object]:
    return {"manager": manager, "time": time, "operation": "Update", "fieldsV1": fields}


OWNED = {
    "metadata": {
        "managedFields": [
            owned("helm", "2026-01-01T00:00:00Z", {"f:spec": {"f:ports": {'k:{"port":9900,"protocol":"TCP"}': {}}}}),
            owned("helm", "2026-01-01T00:00:00Z", {"f:metadata": {"f:labels": {"f:app.io/x": {}, "f:y": {}}}}),
            owned("kubectl-label", "2026-01-02T00:00:00Z", {"f:metadata": {"f:labels": {"f:app.io/x": {}}}}),
            owned("colleague", "2026-01-03T00:00:00Z", {"f:spec": {"f:versions": {}}}),
            {"manager": "old", "operation": "Update"},
        ]
    },
    "spec": {"ports": [{"name": "grpc", "port": 9900, "protocol": "TCP"}, {"name": "http", "port": 80}]},
}


def test_a_fields_writers_are_named_the_last_one_first() -> None:
    assert writers(OWNED, ("metadata", "labels", "app.io/x")) == ["kubectl-label", "helm"]
    assert writers(OWNED, ("metadata", "labels", "y")) == ["helm"]


def test_a_list_item_is_found_by_its_keys_and_a_whole_value_by_what_is_above() -> None:
    assert writers(OWNED, ("spec", "ports", "[grpc]", "targetPort")) == ["helm"]
    assert writers(OWNED, ("spec", "ports", "[http]", "port")) == []
    assert writers(OWNED, ("spec", "versions", "[v1]", "served")) == ["colleague"]


def test_a_field_that_nobody_has_any_more_has_no_writer() -> None:
    assert writers(OWNED, ("metadata", "labels", "gone")) == []
    assert writers({"metadata": {}}, ("spec",)) == []
