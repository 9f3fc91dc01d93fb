"""One upgrade of a fleet with custom resources on it, from 1.2.0 to 1.2.1, in the order it is lived."""

import base64
import json
from typing import Any

import pytest
from kubernetes import client

from lab import packages
from lab.cluster import Event
from lab.fleet import MANAGEMENT, Lab
from tests.awaiting import awaited
from tests.engine.fleet import Fleet, Report, changed

pytestmark = [pytest.mark.engine, pytest.mark.lived_in_order]

OBSERVED = "xdsconfigs.xds.agent.enterprise.mesh.gloo.solo.io"
LEFTOVERS = {
    MANAGEMENT: "enterprise-networking-test",
    "cluster-1": "enterprise-agent-test",
    "cluster-2": "enterprise-agent-test",
}
RESOURCES = {
    MANAGEMENT: ("networking.mesh.gloo.solo.io", "v1", "accesspolicies", "AccessPolicy", {"allowedPaths": ["/ours"]}),
    "cluster-1": ("xds.agent.enterprise.mesh.gloo.solo.io", "v1beta1", "xdsconfigs", "XdsConfig", {"ttlSeconds": 5}),
    "cluster-2": ("xds.agent.enterprise.mesh.gloo.solo.io", "v1beta1", "xdsconfigs", "XdsConfig", {"types": []}),
}


@pytest.fixture(scope="module")
def fleet(lab: Lab) -> Fleet:
    """A fleet at 1.2.0 with a custom resource on every cluster, and with what `helm test` left behind."""
    for version in ("1.2.0", "1.2.1"):
        packages.pack(lab.tool("helm"), lab.packages, lab.environment(), version)
    fleet = Fleet(lab, "upgrade", {"gloo-mesh:version": "1.2.0"})
    fleet.settle()
    for cluster, name in LEFTOVERS.items():
        metadata = {"metadata": {"name": name}}
        pod = {"spec": {"containers": [{"name": "check", "image": "check"}]}}
        role = {"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}}
        core: Any = fleet.core(cluster)
        core.create_namespaced_pod("gloo-mesh", metadata | pod)
        rbac(fleet, cluster).create_namespaced_role_binding("gloo-mesh", metadata | role)
        group, version, plural, kind, spec = RESOURCES[cluster]
        custom = metadata | {"apiVersion": f"{group}/{version}", "kind": kind, "spec": spec}
        client.CustomObjectsApi(fleet.api(cluster)).create_namespaced_custom_object(
            group, version, "gloo-mesh", plural, custom
        )
        # Until then it is written to.
        awaited(lambda core=core, name=name: core.read_namespaced_pod(name, "gloo-mesh").status.phase == "Running")
    return fleet


@pytest.fixture(scope="module")
def half(fleet: Fleet) -> Report:
    """The upgrade while cluster-2 is down, and what each cluster had seen before it."""
    before = {cluster: len(events) for cluster, events in fleet.writes().items()}
    identities = {cluster: identity(fleet, cluster) for cluster in RESOURCES}
    fleet.configure("version", "1.2.1")
    fleet.lab.stop("cluster-2")
    looked = fleet.run("diff", "--to", "1.2.1", "--json")
    done = fleet.run("up", "--yes", "--json")
    return {"before": before, "identities": identities, "diff": looked, "up": done}


def test_a_diff_flags_what_an_upgrade_would_take_away_and_writes_nothing(fleet: Fleet) -> None:
    crds = client.ApiextensionsV1Api(fleet.api("cluster-1"))
    crds.patch_custom_resource_definition_status(OBSERVED, {"status": {"storedVersions": ["v1beta1", "v1alpha1"]}})
    fleet.core("cluster-1").delete_namespaced_service("enterprise-agent", "gloo-mesh")
    writes, versions = fleet.writes(), fleet.versions()

    done = fleet.run("diff", "--to", "1.2.1", "--json")

    assert (fleet.writes(), fleet.versions()) == (writes, versions)
    assert done.returncode == 1, done.stderr
    clusters = json.loads(done.stdout)["clusters"]
    assert {cluster["error"] for cluster in clusters.values()} == {None}
    seen = {name: {c["object"]: c for c in cluster["changes"]} for name, cluster in clusters.items()}
    crd = seen["cluster-1"][f"CustomResourceDefinition {OBSERVED}"]
    assert crd["what"] == "refused"
    assert crd["flagged"][:2] == ["- version v1alpha1", "- v1beta1 spec.ttlSeconds: integer"]
    assert "objects may be stored as v1alpha1" in crd["flagged"][2]
    assert "storedVersions" in crd["flagged"][3]
    assert seen["cluster-2"][f"CustomResourceDefinition {OBSERVED}"]["what"] == "changed"
    registered = seen["management"]["CustomResourceDefinition kubernetesclusters.multicluster.solo.io"]
    assert "+ v1alpha1 spec.providerInfo.eks.arn: string" in registered["details"]
    assert registered["flagged"] == []
    assert seen["cluster-1"]["Service enterprise-agent"]["what"] == "added"
    assert seen["cluster-1"]["Service enterprise-agent-metrics"]["what"] == "removed"
    agent = seen["cluster-2"]["Deployment enterprise-agent"]
    assert agent["details"] == ["spec.template.spec.containers[enterprise-agent].image"]
    assert "Secret gloo-mesh-enterprise-license" not in seen["management"]
    licence = base64.b64decode(fleet.secret(MANAGEMENT, "gloo-mesh-enterprise-license")["key"]).decode()
    assert licence not in done.stdout + done.stderr
    crds.patch_custom_resource_definition_status(OBSERVED, {"status": {"storedVersions": ["v1beta1"]}})


def test_a_diff_tells_of_the_clusters_that_answer_though_one_is_down(half: Report) -> None:
    found = json.loads(half["diff"].stdout)["clusters"]

    assert half["diff"].returncode == 2
    assert "cluster-2 could not be looked at" in half["diff"].stderr
    assert [cluster for cluster, looked in found.items() if looked["error"]] == ["cluster-2"]
    assert found["cluster-1"]["changes"]


def test_a_dead_worker_holds_up_itself_alone(fleet: Fleet, half: Report) -> None:
    report = json.loads(half["up"].stdout)

    assert half["up"].returncode == 1
    assert set(report["unreachable"]) == {"cluster-2"}
    assert "cluster-2 doesn't answer" in half["up"].stderr
    assert report["errors"] == []
    assert report["clusters"]["cluster-2"]["changed"] == {}
    assert {"management", "cluster-1"} <= set(changed(report))
    assert image(fleet, MANAGEMENT, "enterprise-networking").endswith(":1.2.1")
    assert image(fleet, "cluster-1", "enterprise-agent").endswith(":1.2.1")
    assert "Traceback" not in half["up"].stderr


def test_crds_go_first_then_management_then_agents_then_addons(fleet: Fleet, half: Report) -> None:
    writes = {cluster: fleet.lab.audit(cluster)[half["before"][cluster] :] for cluster in (MANAGEMENT, "cluster-1")}
    first = {cluster: of(events, "customresourcedefinitions") for cluster, events in writes.items()}
    then = {
        MANAGEMENT: of(writes[MANAGEMENT], "deployments", "gloo-mesh"),
        "cluster-1": of(writes["cluster-1"], "deployments", "gloo-mesh"),
    }

    for cluster in writes:
        assert len(first[cluster]) >= 4
        assert end(first[cluster]) < start(then[cluster]), cluster
    assert end(then[MANAGEMENT]) < start(then["cluster-1"])
    # Helm's record: the addons' own manifests are the same in both versions.
    assert end(then["cluster-1"]) < start(of(writes["cluster-1"], "secrets", "gloo-mesh-addons"))


def test_what_helms_tests_left_is_removed_before_the_release_that_left_it(fleet: Fleet, half: Report) -> None:
    for cluster in (MANAGEMENT, "cluster-1"):
        writes = fleet.lab.audit(cluster)[half["before"][cluster] :]
        gone = [event for event in writes if event["objectRef"].get("name") == LEFTOVERS[cluster]]

        assert {(event["verb"], event["objectRef"]["resource"]) for event in gone} == {
            ("delete", "pods"),
            ("delete", "rolebindings"),
        }
        assert end(gone) < start(of(writes, "deployments", "gloo-mesh"))
        assert leftovers(fleet, cluster) == []


def test_the_worker_that_was_down_follows_with_the_next_up_and_no_other_cluster_moves(
    fleet: Fleet, half: Report
) -> None:
    fleet.lab.start("cluster-2")

    report = fleet.up()

    assert set(changed(report)) <= {"cluster-2", "management"}
    assert set(changed(report).get("management", {})) <= {"fleet-record", "cluster-2-registration"}
    assert {"cluster-2-agent", "cluster-2-crds"} <= set(changed(report)["cluster-2"])
    assert image(fleet, "cluster-2", "enterprise-agent").endswith(":1.2.1")
    assert leftovers(fleet, "cluster-2") == []
    assert fleet.preview()["changes"] == {}
    record: Any = fleet.core(MANAGEMENT).read_namespaced_config_map("gloo-mesh-fleet", "gloo-mesh")
    assert set(json.loads(record.data["versions"]).values()) == {"1.2.1"}


def test_no_custom_resource_is_lost_on_the_way(fleet: Fleet, half: Report) -> None:
    assert {cluster: identity(fleet, cluster) for cluster in RESOURCES} == half["identities"]
    assert set(fleet.registrations()) == {"cluster-1", "cluster-2"}


def test_a_diff_of_what_is_deployed_finds_nothing(fleet: Fleet, half: Report) -> None:
    report = fleet.report("diff", "--to", "1.2.1")

    assert {cluster: looked["changes"] for cluster, looked in report["clusters"].items()} == {
        "management": [],
        "cluster-1": [],
        "cluster-2": [],
    }
    assert all(looked["unchanged"] > 10 for looked in report["clusters"].values())


def test_a_downgrade_is_refused_with_the_reason_before_anything_is_written(fleet: Fleet, half: Report) -> None:
    writes = fleet.writes()
    fleet.configure("version", "1.2.0")

    refused = fleet.run("up", "--yes")

    assert refused.returncode == 1
    assert "is at 1.2.1; 1.2.0 would be a downgrade" in refused.stderr
    assert "Traceback" not in refused.stdout + refused.stderr
    assert fleet.writes() == writes


def rbac(fleet: Fleet, cluster: str) -> Any:
    return client.RbacAuthorizationV1Api(fleet.api(cluster))


def leftovers(fleet: Fleet, cluster: str) -> list[str]:
    listed: list[Any] = [
        fleet.core(cluster).list_namespaced_pod("gloo-mesh"),
        rbac(fleet, cluster).list_namespaced_role_binding("gloo-mesh"),
    ]
    return [item.metadata.name for found in listed for item in found.items if item.metadata.name.endswith("-test")]


def identity(fleet: Fleet, cluster: str) -> tuple[str, int]:
    """The custom resource's UID and generation: the same object, and nobody edited it."""
    group, version, plural, _, _ = RESOURCES[cluster]
    found: Any = client.CustomObjectsApi(fleet.api(cluster)).get_namespaced_custom_object(
        group, version, "gloo-mesh", plural, LEFTOVERS[cluster]
    )
    return found["metadata"]["uid"], found["metadata"]["generation"]


def image(fleet: Fleet, cluster: str, deployment: str) -> str:
    found: Any = fleet.apps(cluster).read_namespaced_deployment(deployment, "gloo-mesh")
    return found.spec.template.spec.containers[0].image


def of(events: list[Event], resource: str, namespace: str | None = None) -> list[Event]:
    found = [event for event in events if event["objectRef"]["resource"] == resource]
    return [event for event in found if event["objectRef"].get("namespace") == namespace]


def start(events: list[Event]) -> str:
    return min(event["requestReceivedTimestamp"] for event in events)


def end(events: list[Event]) -> str:
    return max(event["stageTimestamp"] for event in events)
