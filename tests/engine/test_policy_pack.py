"""The policy pack under the engine: on the lab's stack, and on one with faults planted into it."""

import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pulumi
import pulumi_kubernetes as k8s
import pulumi_tls as tls
import pytest
from pulumi import automation

from components import product
from lab import stack
from lab.fleet import Lab
from lab.plugins import REPOSITORY
from operations import program
from tests.apart import apart

pytestmark = pytest.mark.engine
LAB_WORKERS = 1

STACK = "policies"
CANARY = "planted-canary-4711"


@pytest.fixture(scope="module")
def file(lab: Lab) -> Path:
    return stack.prepare(lab, STACK, {"gloo-mesh:protect": True})


def test_the_labs_stack_passes_the_pack_in_a_plain_preview(lab: Lab, file: Path) -> None:
    environment = lab.environment()
    if not shutil.which("pulumi-language-python", path=environment["PATH"]):
        pytest.skip("A plain `pulumi preview` needs pulumi-language-python, which comes with Pulumi's own CLI.")
    options = ["--non-interactive", "--stack", STACK, "--config-file", str(file), "--policy-pack", "policies"]
    done = subprocess.run(
        [lab.tool("pulumi"), "preview", *options],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "gloo-mesh@v" in done.stdout
    assert "can't run policy" not in done.stdout


def test_each_planted_fault_is_refused_by_its_rule(
    lab: Lab, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in lab.environment().items():
        monkeypatch.setenv(name, value)
    _serve_packs(tmp_path, monkeypatch)
    bounds = tmp_path / "bounds.json"
    bounds.write_text(json.dumps({"certificate-lifetimes": {"leafDays": 90}}))

    refused, messages = apart(lambda: _refused(lab, bounds))

    assert refused == {
        "own-provider (mandatory)": {"elsewhere"},
        "authority-keys-on-management (mandatory)": {"planted-key"},
        "no-plaintext-secret (mandatory)": {"elsewhere", "planted-notes", "planted-release"},
        "no-automatic-restarts (mandatory)": {"planted-mesh"},
        "no-insecure-connection (mandatory)": {"planted-release"},
        "no-self-signed-relay (mandatory)": {"planted-release"},
        "exact-charts (mandatory)": {"planted-release"},
        "protected-root (mandatory)": {"planted-root", "planted-root-key"},
        "injection (mandatory)": {"planted-namespace"},
        "certificate-lifetimes (mandatory)": {"planted-root", "relay-server-certificate"},
    }
    told = "\n".join(messages)
    assert "values.licenseKey in plaintext" in told
    assert "values.kept" not in told
    assert CANARY not in told


def _refused(lab: Lab, bounds: Path) -> tuple[dict[str, set[str]], list[str]]:
    """What a preview is refused for: by rule and its level the resources, and what it is told of them."""
    refused: dict[str, set[str]] = defaultdict(set)
    messages: list[str] = []

    def note(event: automation.EngineEvent) -> None:
        if told := event.policy_event:
            refused[f"{told.policy_name} ({told.enforcement_level})"].add(str(told.resource_urn).rpartition("::")[2])
            messages.append(told.message)

    workspace = automation.LocalWorkspace(work_dir=str(lab.root), program=_planting(lab))
    with pytest.raises(automation.CommandError):
        automation.Stack.select(STACK, workspace).preview(
            policy_packs=[str(REPOSITORY / "policies")],
            policy_pack_configs=[str(bounds)],
            on_event=note,
            color="never",
        )
    return refused, messages


def _planting(lab: Lab) -> Callable[[], None]:
    """The program, and what somebody might add to it."""

    def planting() -> None:
        program.run()
        chart = product.MANAGEMENT_CHART
        kubeconfig = lab.kubeconfig.read_text()
        k8s.Provider("elsewhere", kubeconfig=kubeconfig)
        worker = k8s.Provider("another", kubeconfig=pulumi.Output.secret(kubeconfig), context="cluster-1")
        on_worker = pulumi.ResourceOptions(provider=worker)
        tls.SelfSignedCert(
            "planted-root",
            private_key_pem=tls.PrivateKey("planted-root-key", algorithm="ECDSA").private_key_pem,
            allowed_uses=["cert_signing"],
            is_ca_certificate=True,
            validity_period_hours=20 * 365 * 24,
        )
        k8s.core.v1.ConfigMap(
            "planted-notes", metadata={"name": "planted"}, data={"clientSecret": CANARY}, opts=on_worker
        )
        k8s.core.v1.Secret(
            "planted-key",
            metadata={"name": product.RELAY_SIGNING_SECRET},
            string_data={"tls.key": CANARY},
            opts=on_worker,
        )
        k8s.core.v1.NamespacePatch(
            "planted-namespace",
            metadata={"name": "gloo-mesh", "labels": {"istio.io/rev": "1-12"}},
            opts=on_worker,
        )
        k8s.apiextensions.CustomResource(
            "planted-mesh",
            api_version="networking.mesh.gloo.solo.io/v1",
            kind="VirtualMesh",
            metadata={"name": "planted", "namespace": "gloo-mesh"},
            spec={"mtlsConfig": {"autoRestartPods": True}},
            opts=on_worker,
        )
        k8s.helm.v3.Release(
            "planted-release",
            name="planted",
            # The plugin puts what it finds in place of a version's range, but not of the archive's name.
            chart=str(shutil.copy(next((lab.root / "charts").glob(f"{chart}-[0-9]*.tgz")), lab.root / f"{chart}.tgz")),
            namespace="default",
            values={
                "licenseKey": CANARY,
                "global": {"insecure": True},
                "kept": {"token": pulumi.Output.secret(CANARY)},
            },
            opts=on_worker,
        )

    return planting


def _serve_packs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Pulumi's language plugin isn't, the engine starts packs through an analyzer plugin instead."""
    if not shutil.which("pulumi-language-python"):
        plugin = folder / "pulumi-analyzer-policy-python"
        plugin.write_text(f'#!/bin/sh\nexec "{sys.executable}" -u -m pulumi.policy "$1" "$2"\n')
        plugin.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
