"""What test files count on when a lab is handed to them."""

import threading
from contextlib import suppress
from typing import Any

import pytest
from kubernetes import client, config

from lab.fleet import MANAGEMENT, Lab
from tests.awaiting import awaited
from tests.snapshot import Snapshot

pytestmark = pytest.mark.lab

LAB_WORKERS = 0


@pytest.fixture(scope="module")
def api(lab: Lab) -> client.ApiClient:
    return config.new_client_from_config(str(lab.kubeconfig), MANAGEMENT)


def test_what_was_made_changed_and_deleted_is_as_before_and_nobody_wrote_it(lab: Lab, api: client.ApiClient) -> None:
    core: Any = client.CoreV1Api(api)
    apps: Any = client.AppsV1Api(api)
    gateway = apps.read_namespaced_deployment("istio-ingressgateway", "istio-system")
    node = core.list_node().items[0]
    snapshot = Snapshot(lab, MANAGEMENT)
    core.create_namespace({"metadata": {"name": "made"}})
    apps.delete_namespaced_deployment("istio-ingressgateway", "istio-system")
    core.patch_node(node.metadata.name, {"metadata": {"labels": {"changed": "yes"}}})
    awaited(lambda: pods(core) == {"istiod"})
    assert lab.audit(MANAGEMENT)

    snapshot.put_back()

    assert lab.audit(MANAGEMENT) == []
    assert "made" not in [item.metadata.name for item in core.list_namespace().items]
    again = apps.read_namespaced_deployment("istio-ingressgateway", "istio-system")
    assert again.metadata.uid == gateway.metadata.uid
    assert again.status.ready_replicas == 1
    assert "changed" not in core.read_node(node.metadata.name).metadata.labels
    assert pods(core) == {"istiod", "istio-ingressgateway"}
    # The controllers know, too, and go on from there.
    core.create_namespace({"metadata": {"name": "made"}})
    awaited(lambda: core.list_namespaced_service_account("made").items)


def test_a_cluster_that_somebody_wont_let_be_is_told_with_what_it_is_about(
    lab: Lab, api: client.ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.snapshot.PATIENCE_SECONDS", 2)
    core: Any = client.CoreV1Api(api)
    snapshot = Snapshot(lab, MANAGEMENT)
    ended = threading.Event()

    def insist() -> None:
        while not ended.wait(0.1):
            with suppress(client.ApiException):
                core.create_namespaced_config_map("default", {"metadata": {"name": "restless"}})

    somebody = threading.Thread(target=insist)
    somebody.start()
    try:
        with pytest.raises(AssertionError, match="still changes: /registry/configmaps/default/restless"):
            snapshot.put_back()
    finally:
        ended.set()
        somebody.join()
    snapshot.put_back()


def pods(core: Any) -> set[str]:
    """Whose pods there are in Istio's namespace."""
    return {item.metadata.labels["app"] for item in core.list_namespaced_pod("istio-system").items}
