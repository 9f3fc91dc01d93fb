from types import SimpleNamespace
from typing import Any

import pytest

from operations import forget, state
from operations.preflight import remembered
from operations.stack import UsageError
from operations.state import PROVIDER


def test_the_clusters_that_the_state_knows_are_told_by_name_in_whichever_order_they_came_about() -> None:
    resources = [
        {"urn": f"urn:pulumi:test::gloo-mesh::{PROVIDER}::{name}", "type": PROVIDER}
        for name in ("cluster-2", "management", "cluster-1")
    ]

    assert remembered.names({"deployment": {"resources": resources}}) == ["cluster-1", "cluster-2", "management"]


def test_a_registration_stays_where_the_state_could_not_be_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(_stack: str) -> None:
        raise UsageError("incorrect passphrase")

    def entered(*_: Any) -> None:
        pytest.fail("the management cluster was entered")

    deployment: Any = SimpleNamespace(settings=SimpleNamespace(management_cluster=None, namespace="gloo-mesh"))
    monkeypatch.setattr(state, "opened", closed)
    monkeypatch.setattr(forget, "Api", entered)

    with pytest.raises(UsageError, match="incorrect passphrase"):
        forget.forget(deployment, "prod", forget.Farewell(deregistered=["cluster-2"]))
