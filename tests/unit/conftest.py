"""A stack to run the program on: real files for kubeconfig and charts, a recorder for the engine."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.charts import Chart, digest, read_lock, required, write_lock
from operations import program
from operations.program import Recorder, Registered

LICENSE = "licence-canary-4711"
CONTEXTS = ("mgmt-cluster", "cluster-1", "cluster-2", "cluster-3")


class Run:
    """What one run of the program registered."""

    def __init__(self, recorder: Recorder) -> None:
        self.registered = recorder.registered
        self.hooks = recorder.hooks

    def named(self, name: str, of_type: str = "") -> Registered:
        found = [r for r in self.registered if r.name == name and r.type.endswith(of_type)]
        assert len(found) == 1, f"{len(found)} resources are named {name}: {[r.key for r in self.registered]}"
        return found[0]

    def of_type(self, suffix: str) -> list[Registered]:
        return [r for r in self.registered if r.type.endswith(suffix)]

    @property
    def kubernetes(self) -> list[Registered]:
        return [r for r in self.registered if r.type.startswith("kubernetes:")]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The seeds' fleet, in plain values; change it before `deploy`."""
    monkeypatch.chdir(tmp_path)
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump({"contexts": [{"name": name, "context": {}} for name in CONTEXTS]}))
    vendor(tmp_path / "charts", "1.2.9")
    return {
        "version": "1.2.9",
        "charts": "charts",
        "kubeconfig": str(kubeconfig),
        "management": {"context": "mgmt-cluster"},
        "workers": {"cluster-1": {}, "cluster-2": {}},
        "dashboard": {"authentication": "none"},
        "licenseKey": LICENSE,
    }


def vendor(folder: Path, version: str) -> None:
    """Archives with a lock; the program never opens them, the engine does."""
    folder.mkdir(exist_ok=True)
    charts = read_lock(folder)
    for name in required():
        path = folder / f"{name}-{version}.tgz"
        path.write_bytes(f"{name} {version}".encode())
        charts.append(Chart(file=path.name, name=name, version=version, sha256=digest(path), origin="a test"))
    write_lock(folder, charts)


@pytest.fixture
def deploy() -> Callable[..., Run]:
    """Run the real `__main__.py` on a configuration, to the end of everything it started."""

    def deploy(config: Mapping[str, Any], secret: tuple[str, ...] = ("licenseKey",)) -> Run:
        given = {
            f"gloo-mesh:{key}": value if isinstance(value, str) else json.dumps(value) for key, value in config.items()
        }
        with program.recording("test", given, [f"gloo-mesh:{key}" for key in secret]) as recorder:
            program.drained(program.run)
        return Run(recorder)

    return deploy


@pytest.fixture
def stack(config: dict[str, Any], deploy: Callable[..., Run]) -> Run:
    """The seeds' fleet, run once."""
    return deploy(config)
