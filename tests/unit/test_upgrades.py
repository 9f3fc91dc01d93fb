"""From one version to another: what is refused, in which order it goes, what each cluster is given."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pulumi
import pytest

from components import product
from components.charts import read_lock, write_lock
from components.settings import Settings
from components.upgrade import before_upgrade
from operations import charts, program
from tests.unit.conftest import Run, faults, only_fault, vendor


@pytest.fixture
def lagging(config: dict[str, Any]) -> dict[str, Any]:
    """A fleet in the middle of an upgrade: cluster-1's agent is a patch behind."""
    vendor(Path("charts"), "1.2.8")
    return config | {"workers": {"cluster-1": {"version": "1.2.8"}, "cluster-2": {}}}


@pytest.mark.parametrize("version", ["1.2.10", "1.3.0"])
def test_an_agent_that_leads_is_refused_with_what_to_write(config: dict[str, Any], version: str) -> None:
    vendor(Path("charts"), version)

    assert only_fault(config | {"workers": {"cluster-1": {"version": version}}}) == (
        f"gloo-mesh:workers.cluster-1.version gives cluster-1 the version {version}; an agent may lag behind the "
        "management plane, which is 1.2.9, but never lead it, so write 1.2.9, an earlier one of 1.2, or nothing."
    )


def test_an_agent_of_an_earlier_minor_version_is_refused(config: dict[str, Any]) -> None:
    vendor(Path("charts"), "1.1.20")

    assert "by patches alone" in only_fault(config | {"workers": {"cluster-1": {"version": "1.1.20"}}})


def test_a_default_that_leads_is_refused_for_the_workers_that_take_it(lagging: dict[str, Any]) -> None:
    vendor(Path("charts"), "1.2.10")

    fault = only_fault(lagging | {"defaults": {"version": "1.2.10"}})

    assert "gloo-mesh:defaults.version gives cluster-2 the version 1.2.10" in fault


@pytest.mark.parametrize("version", ["1.2", "v1.2.8", "^1.2.0", "latest", "1.02.8", "1.2.8-beta..1", "1.2.8+build"])
def test_a_version_that_pins_nothing_is_refused_for_the_fleet_and_for_a_worker(
    config: dict[str, Any], version: str
) -> None:
    told = faults(config | {"version": version, "workers": {"cluster-1": {"version": version}}})

    for key in ("gloo-mesh:version", "gloo-mesh:workers.cluster-1.version"):
        assert any(fault.startswith(f'{key} is "{version}"; an exact version is needed') for fault in told)


def test_a_lagging_agents_charts_must_be_vendored_and_no_others_of_its_version(lagging: dict[str, Any]) -> None:
    assert Settings.parse(lagging, ("licenseKey",))
    agents = [chart for chart in read_lock(Path("charts")) if "agent" in chart.name or chart.version == "1.2.9"]
    write_lock(Path("charts"), agents)
    assert Settings.parse(lagging, ("licenseKey",))
    assert charts.verify(Path("charts")) == []
    write_lock(Path("charts"), [chart for chart in agents if "agent" in chart.name])
    assert [fault for fault in charts.verify(Path("charts")) if "has no gloo-mesh-enterprise" in fault]
    write_lock(Path("charts"), agents)

    kept = [
        chart for chart in read_lock(Path("charts")) if (chart.name, chart.version) != ("enterprise-agent", "1.2.8")
    ]
    write_lock(Path("charts"), kept)

    assert "has no enterprise-agent of version 1.2.8" in only_fault(lagging)
    write_lock(Path("charts"), [chart for chart in kept if chart.version == "1.2.9"])
    (fault,) = faults(lagging)
    assert "has no enterprise-agent, enterprise-agent-crds of version 1.2.8" in fault
    assert "charts pull 1.2.8" in fault


def test_a_lagging_agents_altered_chart_is_refused(lagging: dict[str, Any]) -> None:
    Path("charts/enterprise-agent-1.2.8.tgz").write_bytes(b"altered")

    assert "enterprise-agent-1.2.8.tgz was altered" in only_fault(lagging)


def test_a_lagging_worker_has_its_own_version_of_everything_and_no_other_cluster_has(
    lagging: dict[str, Any], deploy: Callable[..., Run]
) -> None:
    stack = deploy(lagging)
    given = {(r.provider, r.inputs["version"]) for r in stack.of_type(":Release")}

    assert given == {("management", "1.2.9"), ("cluster-1", "1.2.8"), ("cluster-2", "1.2.9")}
    for release in stack.of_type(":Release"):
        assert release.inputs["chart"].endswith(f"-{release.inputs['version']}.tgz")


def test_the_fleets_record_holds_each_clusters_version_and_every_charts_digest(
    lagging: dict[str, Any], deploy: Callable[..., Run]
) -> None:
    record = deploy(lagging).named("fleet-record").inputs["data"]

    assert json.loads(record["versions"]) == {"management": "1.2.9", "cluster-1": "1.2.8", "cluster-2": "1.2.9"}
    assert set(json.loads(record["charts"])) == {"1.2.8", "1.2.9"}


def test_every_release_asks_its_own_clusters_hook_before_an_upgrade(stack: Run) -> None:
    assert {(release.provider, release.before_update) for release in stack.of_type(":Release")} == {
        (cluster, (f"{cluster}-before-upgrade",)) for cluster in ("management", "cluster-1", "cluster-2")
    }


def change(stack: Run, before: dict[str, Any], after: dict[str, Any]) -> None:
    """What the engine does before it updates a release of cluster-1."""
    inputs = {"name": "enterprise-agent", "namespace": "gloo-mesh"}
    hook = stack.hooks["cluster-1-before-upgrade"]
    asked: Any = hook(
        pulumi.ResourceHookArgs("urn", "id", "cluster-1-agent", "type", {**inputs, **after}, {**inputs, **before})
    )
    asyncio.run(asked)


@pytest.mark.parametrize("wanted", ["1.2.8", "1.1.20", "1.2.9-beta1"])
def test_a_downgrade_is_refused_with_what_is_deployed_and_what_to_write(stack: Run, wanted: str) -> None:
    with pytest.raises(pulumi.RunError) as refused:
        change(stack, {"version": "1.2.9"}, {"version": wanted})

    for part in ("enterprise-agent on cluster cluster-1 is at 1.2.9", wanted, "Write 1.2.9 or later"):
        assert part in str(refused.value)


@pytest.mark.parametrize("before", [{"version": "1.2.9"}, {}])
def test_a_change_of_anything_but_the_version_looks_at_no_cluster(
    stack: Run, before: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.removal.connected", lambda _: pytest.fail("the cluster was asked"))

    change(stack, before, {"version": "1.2.9"})


def test_a_preview_of_an_upgrade_looks_at_no_cluster(stack: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.removal.connected", lambda _: pytest.fail("the cluster was asked"))

    change(stack, {"version": "1.2.8"}, {"version": "1.2.9"})


def test_a_cluster_that_cant_be_asked_for_leftovers_is_a_warning_and_no_failure(
    stack: Run, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr("pulumi.log.warn", warnings.append)
    monkeypatch.setattr("pulumi.runtime.is_dry_run", lambda: False)
    cluster = Settings.parse(config, ("licenseKey",)).worker_clusters[0]

    def hook_alone() -> None:
        before_upgrade(cluster)

    with program.recording("test", {}, []) as recorder:
        program.drained(hook_alone)
    stack.hooks.update(recorder.hooks)

    # The test's kubeconfig leads nowhere.
    change(stack, {"version": "1.2.8"}, {"version": "1.2.9"})

    (warning,) = warnings
    assert "cluster cluster-1 could not be removed" in warning
    assert "delete pod/enterprise-agent-test rolebinding/enterprise-agent-test" in warning


def test_a_cluster_where_an_agents_certificate_cant_be_removed_keeps_the_root_it_has(stack: Run) -> None:
    # The test's kubeconfig leads nowhere.
    with pytest.raises(pulumi.RunError, match="The agent on cluster cluster-1 would keep a certificate") as refusal:
        rooted(stack.hooks["cluster-1-end-of-enrolment"], "another", "this")

    assert "-n gloo-mesh delete secret/relay-client-tls-secret" in str(refusal.value)


def test_an_agent_starts_on_no_cluster_where_an_earlier_ones_certificate_cant_be_removed(
    config: dict[str, Any], deploy: Callable[..., Run]
) -> None:
    stack = deploy(config | {"defaults": {"namespaces": {"create": False}}})
    asked: Any = stack.hooks["cluster-1-start-of-enrolment"](
        pulumi.ResourceHookArgs("urn", "id", "cluster-1-agent", "type", {}, None)
    )

    # The test's kubeconfig leads nowhere.
    with pytest.raises(pulumi.RunError, match="What an earlier agent may have left on cluster cluster-1 can't be"):
        asyncio.run(asked)


def test_another_signing_key_under_the_same_root_ends_an_enrolment_too(stack: Run) -> None:
    with pytest.raises(pulumi.RunError, match="would keep a certificate"):
        rooted(stack.hooks["cluster-1-end-of-enrolment"], "this/key", "this/another")


@pytest.mark.parametrize("before", ["this", "this/key", None])
def test_a_copy_of_the_root_that_is_repaired_or_taken_in_ends_no_enrolment(
    stack: Run, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    monkeypatch.setattr("components.removal.connected", lambda _: pytest.fail("the cluster was asked"))

    rooted(stack.hooks["cluster-1-end-of-enrolment"], before, "this")
    rooted(stack.hooks["cluster-1-end-of-enrolment"], before, "this/key")


def rooted(hook: Any, before: str | None, after: str) -> None:
    """What the engine does before it updates a worker's copy of the root."""
    old, new = (
        {"metadata": {"annotations": {product.ISSUER_ANNOTATION: root}} if root else {"name": "x"}}
        for root in (before, after)
    )
    asked: Any = hook(pulumi.ResourceHookArgs("urn", "id", "cluster-1-relay-root", "type", new, old))
    asyncio.run(asked)
