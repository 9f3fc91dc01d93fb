from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client, config

from lab.fleet import MANAGEMENT, Lab

pytestmark = pytest.mark.lab
LAB_WORKERS = 0


@pytest.fixture(scope="module")
def core(lab: Lab) -> Any:
    return client.CoreV1Api(config.new_client_from_config(str(lab.kubeconfig), MANAGEMENT))


@pytest.fixture
def namespace(core: Any, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace with the labels that the test names as its parameter."""
    created = core.create_namespace({"metadata": {"generateName": "inject-", "labels": request.param}})
    yield created.metadata.name
    core.delete_namespace(created.metadata.name)


def containers(core: Any, namespace: str, metadata: dict[str, Any], *names: str) -> list[str]:
    # A namespace's own account appears a moment later, and without an account no pod is admitted.
    core.create_namespaced_service_account(namespace, {"metadata": {"name": "app"}})
    body = {
        "metadata": {"name": "app", **metadata},
        "spec": {
            "serviceAccountName": "app",
            "containers": [{"name": name, "image": "example.com/app"} for name in names],
        },
    }
    return [c.name for c in core.create_namespaced_pod(namespace, body).spec.containers]


ENABLED = {"istio-injection": "enabled"}


@pytest.mark.parametrize(
    "namespace",
    [
        {},
        {"istio-injection": "disabled"},
        {"istio-injection": "disabled", "istio.io/rev": "1-12"},
        {"istio": "enabled"},
    ],
    indirect=True,
)
def test_a_pod_in_a_namespace_without_the_label_stays_alone(core: Any, namespace: str) -> None:
    assert containers(core, namespace, {}, "app") == ["app"]


@pytest.mark.parametrize("namespace", [ENABLED], indirect=True)
@pytest.mark.parametrize("place", ["labels", "annotations"])
def test_a_pod_that_refuses_a_sidecar_stays_alone(core: Any, namespace: str, place: str) -> None:
    assert containers(core, namespace, {place: {"sidecar.istio.io/inject": "false"}}, "app") == ["app"]


@pytest.mark.parametrize("namespace", [ENABLED], indirect=True)
def test_a_pod_that_has_a_sidecar_gets_no_second_one(core: Any, namespace: str) -> None:
    assert containers(core, namespace, {}, "istio-proxy", "app") == ["istio-proxy", "app"]


@pytest.mark.parametrize("namespace", [{}], indirect=True)
def test_a_label_that_comes_later_does_not_reach_the_pods_that_are_there(core: Any, namespace: str) -> None:
    assert containers(core, namespace, {}, "app") == ["app"]

    core.patch_namespace(namespace, {"metadata": {"labels": ENABLED}})

    assert [c.name for c in core.read_namespaced_pod("app", namespace).spec.containers] == ["app"]


@pytest.mark.parametrize("namespace", [ENABLED, {"istio.io/rev": "1-12"}], indirect=True)
def test_a_pod_in_a_labelled_namespace_gets_a_sidecar(core: Any, namespace: str) -> None:
    assert containers(core, namespace, {"labels": {"app": "any"}}, "app") == ["app", "istio-proxy"]
