"""The clusters that a state knows."""

from typing import Any

import pytest

from components.settings import Settings
from operations.everywhere import Looked
from operations.preflight import remembered
from operations.state import PROVIDER
from tests.unit.stored import document, entry, on


def test_clusters_that_another_namespace_is_on_are_strangers(config: dict[str, Any]) -> None:
    settings = Settings.parse(config, ("licenseKey",))
    live = {"management": {"uid": "m"}, "cluster-1": {"uid": "another"}, "cluster-2": None}

    class Api:
        def __init__(self, cluster: Any) -> None:
            self.cluster = cluster

        def named(self, path: str) -> Any:
            assert path == "/api/v1/namespaces/gloo-mesh"
            return live[self.cluster.name]

    def look(clusters: Any, at: Any, _seconds: float) -> Looked[Any]:
        return Looked({cluster.name: at(cluster, Api(cluster)) for cluster in clusters}, {})

    made = [
        entry("kubernetes:core/v1:Namespace", f"{name}-namespace")
        | {"id": "gloo-mesh", "provider": on(name), "outputs": {"metadata": {"uid": name[0]}}}
        for name in live
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remembered, "look", look)
        (finding,), unseen = remembered.strangers(document(*made), settings.clusters, "gloo-mesh")

    assert (finding.kind.code, finding.where) == ("another-cluster", "cluster-1")
    assert "has UID another; this stack's has c" in finding.what
    assert not unseen


def test_the_clusters_that_the_state_knows_are_told_by_name_in_whichever_order_they_came_about() -> None:
    resources = [
        {"urn": f"urn:pulumi:test::gloo-mesh::{PROVIDER}::{name}", "type": PROVIDER}
        for name in ("cluster-2", "management", "cluster-1")
    ]

    assert remembered.names({"deployment": {"resources": resources}}) == ["cluster-1", "cluster-2", "management"]


@pytest.mark.parametrize(("variable", "kind"), [("EAST", "env"), ("WEST", "path"), ("SEVERAL", "path")])
def test_a_cluster_that_leaves_is_reached_by_its_variable_where_there_is_no_link_yet(
    variable: str, kind: str, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EAST", config["kubeconfig"])
    monkeypatch.setenv("SEVERAL", f"{config['kubeconfig']}:elsewhere")
    inputs = {"kubeconfig": f".kubeconfigs/prod/{variable}", "context": "cluster-3"}
    settings = Settings.parse(config, ("licenseKey",))

    (left,) = remembered.leaving(document(entry(PROVIDER, "cluster-3", inputs=inputs)), settings)

    assert left.kubeconfig.kind == kind
    assert left.context == "cluster-3"
