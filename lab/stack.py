"""The lab's stack: a working copy of a stack's file, the charts it names, and the backend's entry for it.

The tracked file is only read. The copy lies in the lab's folder, where the operations commands look first,
and keeps its encryption salt and licence from one preparation to the next.
"""

import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lab import LabError
from lab.fleet import MANAGEMENT, Lab
from lab.plugins import REPOSITORY

LICENSE = "gloo-mesh:licenseKey"


def prepare(lab: Lab, name: str = "lab", changes: Mapping[str, object] | None = None) -> Path:
    """Make the stack ready to deploy on this lab, `changes` by full key over `Pulumi.lab.yaml`; the copy's path."""
    shutil.copy(REPOSITORY / "Pulumi.yaml", lab.root)
    copy = lab.root / f"Pulumi.{name}.yaml"
    before: dict[str, Any] = yaml.safe_load(copy.read_text()) if copy.exists() else {}
    config: dict[str, Any] = yaml.safe_load((REPOSITORY / "Pulumi.lab.yaml").read_text())["config"]
    config["gloo-mesh:charts"] = _configured(lab.root / "charts")
    config["gloo-mesh:kubeconfig"] = _configured(lab.kubeconfig)
    config["gloo-mesh:workers"] = {cluster: {} for cluster in lab.clusters() if cluster != MANAGEMENT}
    config |= {key: value for key, value in before.get("config", {}).items() if key == LICENSE}
    config |= changes or {}
    copy.write_text(yaml.safe_dump({**before, "config": config}, sort_keys=False))

    # A stand-in that was edited is another chart under the same version, which the lock refuses.
    shutil.rmtree(lab.root / "charts", ignore_errors=True)
    archives = map(str, sorted(lab.packages.glob("*.tgz")))
    _run(lab, sys.executable, "-m", "operations", "charts", "add", "--charts", str(lab.root / "charts"), *archives)
    pulumi = (str(lab.tool("pulumi")), "-C", str(lab.root), "--non-interactive")
    if not (lab.root / f"state/.pulumi/stacks/gloo-mesh/{name}.json").exists():
        _run(lab, *pulumi, "stack", "init", name, "--no-select")
    if LICENSE not in config:
        _run(lab, *pulumi, "config", "set", "--stack", name, "--secret", LICENSE, given=secrets.token_hex(16))
    return copy


def _configured(path: Path) -> str:
    """A path as a stack file names it: relative to the project where it can be."""
    return str(path.relative_to(REPOSITORY)) if path.is_relative_to(REPOSITORY) else str(path)


def _run(lab: Lab, *command: str, given: str = "") -> None:
    done = subprocess.run(
        command, cwd=REPOSITORY, env=lab.environment(), input=given, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise LabError(f"{Path(command[0]).name} {command[-1]} failed: {(done.stderr or done.stdout).strip()}")
