"""What the program relies on for Helm's releases, by plugins or by stand-ins."""

import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pulumi
import pulumi_kubernetes as k8s
import pytest

from lab.cluster import end
from lab.fleet import Lab
from tests.awaiting import awaited
from tests.engine.providers.trial import (
    CLUSTER,
    Connect,
    Core,
    Program,
    Trial,
    config_map,
    from_the_project,
    packed_chart,
)

pytestmark = pytest.mark.engine
LAB_WORKERS = 0


NEVER_READY = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "never"},
    "spec": {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "nobody-provides-this",
        "resources": {"requests": {"storage": "1Gi"}},
    },
}


def records(core: Core, namespace: str) -> list[str]:
    """The status of each of Helm's records in a namespace, oldest first."""
    found = core.list_namespaced_secret(namespace, label_selector="owner=helm").items
    return [item.metadata.labels["status"] for item in sorted(found, key=lambda item: item.metadata.name)]


def test_a_chart_that_cannot_be_loaded_stops_the_run(trial: Trial, connect: Connect, namespace: str) -> None:
    def program() -> None:
        k8s.helm.v3.Release("release", name="r", namespace=namespace, chart="./no-such-chart-1.0.0.tgz", opts=connect())

    assert "no-such-chart-1.0.0.tgz" in trial.failing_up(program)


def test_a_release_hides_its_secret_values_and_is_upgraded_by_version_and_value(
    trial: Trial,
    connect: Connect,
    core: Core,
    namespace: str,
    tmp_path: Path,
    lab: Lab,
) -> None:
    template = config_map("settings", licence="{{ .Values.licence.key }}", size="{{ .Values.size }}")
    chart = packed_chart(tmp_path, "settings", "1.0.0", template)

    def program(size: int = 1, licence: str = "very-secret-licence") -> None:
        release = k8s.helm.v3.Release(
            "release",
            name="settings",
            namespace=namespace,
            chart=chart,
            values={"licence": {"key": pulumi.Output.secret(licence)}, "size": size},
            max_history=2,
            reset_values=True,
            opts=connect(),
        )
        pulumi.export("status", release.status)

    def settings() -> dict[str, str]:
        return core.read_namespaced_config_map("settings", namespace).data

    written = len(lab.audit(CLUSTER))
    assert trial.preview(program)["release"] == "create"
    assert lab.audit(CLUSTER)[written:] == []
    trial.up(program)
    assert settings() == {"licence": "very-secret-licence", "size": "1"}
    assert trial.outputs()["status"].items() >= {"status": "deployed", "version": "1.0.0", "revision": 1}.items()
    assert "very-secret-licence" not in trial.at_rest()
    assert trial.up(program, refresh=True) == {}

    assert trial.up(lambda: program(size=2)) == {"release": "update"}
    assert settings()["size"] == "2"

    packed_chart(tmp_path, "settings", "1.1.0", template)
    assert trial.preview(lambda: program(size=2)) == {"release": "update"}
    trial.up(lambda: program(size=2))
    assert trial.outputs()["status"].items() >= {"version": "1.1.0", "revision": 3}.items()
    assert records(core, namespace) == ["superseded", "deployed"]

    # Somebody upgrades by hand.
    helm(lab, namespace, "upgrade", "settings", chart, "--reuse-values", "--set", "size=7")
    assert settings()["size"] == "7"
    assert trial.up(lambda: program(size=2), refresh=True) == {"release": "update"}
    assert settings()["size"] == "2"

    # Somebody uninstalls it.
    helm(lab, namespace, "uninstall", "settings")
    assert trial.up(lambda: program(size=2), refresh=True)["release"] == "create"
    assert settings()["size"] == "2"

    trial.destroy()
    assert records(core, namespace) == []


def test_a_release_installs_what_a_command_makes_of_it_and_fails_with_the_commands_words(
    trial: Trial, connect: Connect, core: Core, namespace: str, tmp_path: Path
) -> None:
    chart = packed_chart(tmp_path, "settings", "1.0.0", config_map("settings", words="as the chart says"))
    for name, command in {
        "edit": "sed 's/the chart says/we say/'",
        "fail": "echo no tolerations here >&2; exit 3",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{command}\n")
        (tmp_path / name).chmod(0o755)
    edit, fail = (from_the_project(tmp_path / name) for name in ("edit", "fail"))

    def program(command: str) -> None:
        k8s.helm.v3.Release(
            "release", name="settings", namespace=namespace, chart=chart, postrender=command, opts=connect()
        )

    assert "no tolerations here" in trial.failing_up(lambda: program(fail))
    assert records(core, namespace) == []

    trial.up(lambda: program(edit))
    assert core.read_namespaced_config_map("settings", namespace).data == {"words": "as we say"}
    assert trial.up(lambda: program(edit), refresh=True) == {}

    assert "no tolerations here" in trial.failing_up(lambda: program(fail))
    assert records(core, namespace) == ["deployed"]


def helm(lab: Lab, namespace: str, *arguments: str) -> None:
    place = ["--kubeconfig", str(lab.kubeconfig), "--kube-context", CLUSTER, "--namespace", namespace]
    subprocess.run([lab.tool("helm"), *arguments, *place], check=True, capture_output=True)


@pytest.fixture
def slow(connect: Connect, namespace: str, tmp_path: Path) -> Callable[..., Program]:
    """Gives programs of one release that never gets ready, which it waits for unless told otherwise."""
    chart = packed_chart(tmp_path, "slow", "1.0.0", NEVER_READY)

    def slow(**settings: Any) -> Program:
        def program() -> None:
            k8s.helm.v3.Release("release", name="slow", namespace=namespace, chart=chart, opts=connect(), **settings)

        return program

    return slow


@contextmanager
def installing(trial: Trial, program: Program, core: Core, namespace: str) -> Iterator[psutil.Process]:
    """While an up waits for its only release: the engine. The up then fails."""
    with ThreadPoolExecutor() as pool:
        running = pool.submit(trial.failing_up, program)
        awaited(lambda: records(core, namespace) == ["pending-install"])
        (engine,) = [process for process in psutil.Process().children(recursive=True) if "up" in process.cmdline()]
        yield engine
        running.result()


def test_a_release_that_failed_is_upgraded_by_the_next_run(
    trial: Trial, slow: Callable[..., Program], core: Core, namespace: str
) -> None:
    assert "context deadline exceeded" in trial.failing_up(slow(timeout=2))
    assert records(core, namespace) == ["failed"]
    assert trial.state()["release"]["initErrors"]
    # It takes what failed for what is there.
    assert "release" not in trial.preview(slow(timeout=2), refresh=True)

    assert trial.up(slow(timeout=2, skip_await=True)) == {"release": "update"}
    assert records(core, namespace)[1:] == ["deployed"]


def test_an_interrupted_release_is_recorded_as_failed_and_upgraded_by_the_next_run(
    trial: Trial, slow: Callable[..., Program], core: Core, namespace: str
) -> None:
    with installing(trial, slow(), core, namespace) as engine:
        engine.send_signal(signal.SIGINT)

    assert records(core, namespace) == ["failed"]
    assert trial.up(slow(skip_await=True)) == {"release": "update"}
    assert records(core, namespace)[1:] == ["deployed"]


def test_a_provider_that_is_killed_leaves_a_pending_record(
    trial: Trial, slow: Callable[..., Program], core: Core, namespace: str
) -> None:
    with installing(trial, slow(), core, namespace) as engine:
        provider = provider_of(engine)
        helpers = provider.children(recursive=True)
        provider.kill()

    assert psutil.wait_procs(helpers, timeout=10)[1] == [], "what the provider ran must not go on without it"
    assert records(core, namespace) == ["pending-install"]


def test_a_provider_whose_engine_is_killed_finishes_what_it_is_at(
    trial: Trial, slow: Callable[..., Program], core: Core, namespace: str
) -> None:
    with installing(trial, slow(), core, namespace) as engine:
        provider = provider_of(engine)
        engine.kill()
    core.patch_namespaced_persistent_volume_claim_status("never", namespace, {"status": {"phase": "Bound"}})

    awaited(lambda: records(core, namespace) == ["deployed"])
    # The real plugin asks every five minutes only whether its engine is still there.
    end([provider])
    trial.stack.cancel()
    assert "release" not in trial.state()


def provider_of(engine: psutil.Process) -> psutil.Process:
    """The engine's provider for Kubernetes, plugin or stand-in."""
    (found,) = [process for process in engine.children() if "pulumi-resource-kubernetes" in " ".join(process.cmdline())]
    return found
