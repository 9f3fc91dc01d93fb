from operations.preflight import remembered
from operations.state import PROVIDER


def test_the_clusters_that_the_state_knows_are_told_by_name_in_whichever_order_they_came_about() -> None:
    resources = [
        {"urn": f"urn:pulumi:test::gloo-mesh::{PROVIDER}::{name}", "type": PROVIDER}
        for name in ("cluster-2", "management", "cluster-1")
    ]

    assert remembered.names({"deployment": {"resources": resources}}) == ["cluster-1", "cluster-2", "management"]
