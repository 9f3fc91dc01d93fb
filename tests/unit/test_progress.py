"""What the engine's events come to, where a cluster stops answering in the middle."""

from types import SimpleNamespace
from typing import Any

import pytest
from pulumi.automation.events import OpType
from rich.console import Console

from operations.progress import Progress

PROVIDER = "urn:pulumi:prod::gloo-mesh::pulumi:providers:kubernetes::{}::id"
URN = "urn:pulumi:prod::gloo-mesh::kubernetes:core/v1:Namespace::{}"


def begun(progress: Progress, cluster: str, name: str, operation: OpType) -> None:
    progress.event(_event(resource_pre_event=_step(cluster, name, operation)))


def ended(progress: Progress, cluster: str, name: str, operation: OpType, **told: Any) -> None:
    progress.event(_event(res_outputs_event=_step(cluster, name, operation, **told)))


def complained(progress: Progress, name: str, message: str) -> None:
    said = SimpleNamespace(urn=URN.format(name), message=message, severity="error", ephemeral=False)
    progress.event(_event(diagnostic_event=said))


def state(**differences: Any) -> Any:
    return SimpleNamespace(**{"custom": True, "inputs": {}, "outputs": {"a": 1}, "init_errors": None} | differences)


def _step(cluster: str, name: str, operation: OpType, **told: Any) -> Any:
    told = {"new": state(), "old": state(), "diffs": None} | told
    provider = PROVIDER.format(cluster)
    step = {"urn": URN.format(name), "type": "kubernetes:core/v1:Namespace", "op": operation, "provider": provider}
    return SimpleNamespace(metadata=SimpleNamespace(**step, **told))


def _event(**content: Any) -> Any:
    kinds = ("resource_pre_event", "res_outputs_event", "res_op_failed_event", "diagnostic_event")
    return SimpleNamespace(**{kind: content.get(kind) for kind in kinds})


def followed() -> Progress:
    return Progress(Console(quiet=True), ["management", "cluster-1", "cluster-2"], dry=True)


def test_a_refresh_that_fails_names_its_cluster() -> None:
    progress = followed()
    for cluster in ("cluster-1", "cluster-2"):
        begun(progress, cluster, f"{cluster}-namespace", OpType.REFRESH)

    # Of what fails in a preview the engine says no more.
    complained(progress, "cluster-1-namespace", "Preview failed: connection refused")

    assert progress.unrefreshed == {"cluster-1"}
    assert progress.clusters["cluster-1"].failed == ["cluster-1-namespace"]
    assert progress.clusters["cluster-2"].failed == []


def test_a_comparison_that_fails_after_its_refresh_is_no_failed_refresh() -> None:
    progress = followed()
    begun(progress, "cluster-1", "cluster-1-namespace", OpType.REFRESH)
    ended(progress, "cluster-1", "cluster-1-namespace", OpType.REFRESH)

    complained(progress, "cluster-1-namespace", "unable to replace what is protected")

    assert progress.unrefreshed == set()
    assert progress.errors == ["cluster-1-namespace: unable to replace what is protected"]


def test_an_update_that_fails_after_its_refresh_is_no_failed_refresh() -> None:
    progress = followed()
    begun(progress, "cluster-1", "cluster-1-namespace", OpType.REFRESH)
    ended(progress, "cluster-1", "cluster-1-namespace", OpType.REFRESH)
    begun(progress, "cluster-1", "cluster-1-namespace", OpType.UPDATE)

    complained(progress, "cluster-1-namespace", "forbidden")
    complained(progress, "somebody-elses", "forbidden too")

    assert progress.unrefreshed == set()
    assert progress.clusters["cluster-1"].failed == ["cluster-1-namespace"]
    assert progress.errors == ["cluster-1-namespace: forbidden", "somebody-elses: forbidden too"]


@pytest.mark.parametrize(
    ("operation", "told", "drifted"),
    [
        (OpType.REFRESH, {}, False),
        (OpType.UPDATE, {"new": state(outputs={"a": 2})}, False),
        (OpType.REFRESH, {"new": None}, True),
        (OpType.REFRESH, {"new": state(outputs={"a": 2})}, True),
        (OpType.REFRESH, {"new": state(init_errors=["not ready"])}, True),
        (OpType.REFRESH, {"diffs": ["data"]}, True),
    ],
)
def test_what_is_other_than_the_state_says_is_drift(operation: OpType, told: dict[str, Any], drifted: bool) -> None:
    progress = followed()

    ended(progress, "cluster-1", "cluster-1-namespace", operation, **told)

    assert progress.drifted is drifted


CUT_OFF = """\
Detected that /plugins/pulumi-resource-kubernetes exited prematurely. \n\
       This is *always* a bug in the provider. Please report the issue to the provider author as appropriate.
       To assist with debugging we have dumped the STDOUT and STDERR streams of the plugin:"""
"""What the engine says of every plugin that it hadn't ended five seconds after it began to."""


def test_a_plugin_that_is_slow_to_end_fails_nothing() -> None:
    progress = followed()

    complained(progress, "", CUT_OFF + "\n")

    assert (progress.errors, progress.warnings) == ([], [])


def test_the_last_words_of_a_plugin_are_told() -> None:
    progress = followed()

    complained(progress, "", CUT_OFF + "panic: assignment to entry in nil map\n")

    assert progress.errors == []
    assert ["panic" in warning for warning in progress.warnings] == [True]


@pytest.mark.parametrize(
    ("dry", "operation", "new", "kept"),
    [
        (False, OpType.SAME, {"relayAddress": "192.0.2.1:9900"}, {"relayAddress": "192.0.2.1:9900"}),
        (False, OpType.REFRESH, {"relayAddress": "192.0.2.1:9900"}, {}),
        (False, OpType.DELETE, None, {}),
        # Nobody knows yet, and the engine has a word of its own for that.
        (True, OpType.CREATE, {"relayAddress": "04da6b54"}, {}),
    ],
)
def test_what_a_run_said_of_the_whole_is_kept(
    dry: bool, operation: OpType, new: dict[str, str] | None, kept: dict[str, str]
) -> None:
    progress = Progress(Console(quiet=True), ["management"], dry=dry)
    stack = SimpleNamespace(
        urn="urn:pulumi:prod::gloo-mesh::pulumi:pulumi:Stack::gloo-mesh-prod",
        type="pulumi:pulumi:Stack",
        op=operation,
        provider="",
        new=state(custom=False, outputs=new) if new else None,
        old=state(custom=False),
    )

    progress.event(_event(res_outputs_event=SimpleNamespace(metadata=stack)))

    assert progress.report()["outputs"] == kept
