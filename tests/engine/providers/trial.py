"""A stack of its own for each thing that is tried out with the providers, and what its programs are made of."""

import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi import automation as auto
from pulumi.automation._stack import StackInitMode

from lab.fleet import MANAGEMENT
from operations.engine import QuietStack
from tests.apart import apart

CLUSTER = MANAGEMENT
Program = Callable[[], None]
Connect = Callable[..., pulumi.ResourceOptions]
Core = Any  # the client takes dictionaries, its types don't say so


class Trial:
    """A stack of its own, and what a run of it did."""

    def __init__(self, name: str) -> None:
        project = auto.ProjectSettings(name="providers", runtime="python", main=str(Path.cwd()))
        workspace = auto.LocalWorkspace(program=lambda: None, project_settings=project)
        self.stack = QuietStack(name, workspace, StackInitMode.CREATE)

    def preview(self, program: Program, **options: Any) -> dict[str, str]:
        """The planned operation for each resource, by name, the unchanged left out."""
        return self._run(self.stack.preview, program, options)

    def up(self, program: Program, **options: Any) -> dict[str, str]:
        """The operation carried out for each resource, by name, the unchanged left out."""
        return self._run(self.stack.up, program, options)

    def _run(self, operation: Callable[..., Any], program: Program, options: Any) -> dict[str, str]:
        def run() -> dict[str, str]:
            self.stack.workspace.program = program
            events: list[auto.EngineEvent] = []
            operation(on_event=events.append, **options)
            return _operations(events)

        return apart(run)

    def destroy(self) -> None:
        """Take away whatever it made."""

        def run() -> None:
            self.stack.destroy()

        apart(run)

    def failing_up(self, program: Program) -> str:
        """What an update that must fail says."""
        with pytest.raises(auto.CommandError) as failure:
            self.up(program)
        return str(failure.value)

    def outputs(self) -> dict[str, Any]:
        """The last successful update's outputs, decrypted."""
        return {name: output.value for name, output in self._stored().items()}

    def secret_outputs(self) -> set[str]:
        """Which of them are marked as secret."""
        return {name for name, output in self._stored().items() if output.secret}

    def _stored(self) -> auto.OutputMap:
        return self.stack.workspace.stack_outputs(self.stack.name)

    def deployment(self) -> dict[str, Any]:
        """The state, decrypted."""
        return dict(self.stack.export_stack().deployment or {})

    def at_rest(self) -> str:
        """Everything the backend keeps of every stack, as it lies on the disk."""
        folder = Path(os.environ["PULUMI_BACKEND_URL"].removeprefix("file://"))
        return "".join(path.read_text() for path in folder.rglob("*") if path.is_file())

    def state(self) -> dict[str, Any]:
        """Every resource in the state, by name."""
        resources = self.deployment()["resources"]
        return {resource["urn"].rpartition("::")[2]: resource for resource in resources}

    def edit(self, name: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Change one resource in the state, as time would."""
        deployment = self.deployment()
        for resource in deployment["resources"]:
            if resource["urn"].endswith(f"::{name}"):
                change(resource)
        self.stack.import_stack(auto.Deployment(version=3, deployment=deployment))


def _operations(events: list[auto.EngineEvent]) -> dict[str, str]:
    """What happens to each resource; the steps of a replacement count as one."""
    steps = [event.resource_pre_event.metadata for event in events if event.resource_pre_event]
    operations = {
        step.urn.rpartition("::")[2]: "replace" if "replace" in step.op.value else step.op.value
        for step in steps
        if not step.type.startswith("pulumi:pulumi:")
    }
    return {name: operation for name, operation in operations.items() if operation not in ("same", "refresh")}


def from_the_project(path: Path) -> str:
    """A relative path, from where Pulumi starts the plugins of an inline program."""
    return os.path.relpath(path, Path.cwd())


def packed_chart(folder: Path, name: str, version: str, *templates: dict[str, Any]) -> str:
    """A chart with these objects, as a .tgz named without its version, so that its path stays the same."""
    source = folder / name
    (source / "templates").mkdir(parents=True, exist_ok=True)
    (source / "Chart.yaml").write_text(json.dumps({"apiVersion": "v2", "name": name, "version": version}))
    (source / "templates/all.yaml").write_text("\n---\n".join(map(json.dumps, templates)))
    with tarfile.open(folder / f"{name}.tgz", "w:gz") as archive:
        archive.add(source, arcname=name)
    return str(folder / f"{name}.tgz")


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
