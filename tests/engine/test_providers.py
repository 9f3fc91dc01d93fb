"""What the program relies on in Pulumi's providers, whichever are in force: real plugins or the lab's stand-ins."""

import base64
import json
import os
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pulumi
import pulumi_kubernetes as k8s
import pulumi_random as random
import pulumi_tls as tls
import pytest
import yaml
from cryptography import x509
from kubernetes import client, config
from pulumi import automation as auto

from lab.fleet import Lab

pytestmark = pytest.mark.engine

CLUSTER = "cluster-1"
PENDING = {"status.phase": "never"}
Program = Callable[[], None]


class Trial:
    """A stack of its own, and what a run of it did."""

    def __init__(self, name: str) -> None:
        self.stack = auto.create_or_select_stack(name, "providers", lambda: None)

    def preview(self, program: Program, **options: Any) -> dict[str, str]:
        """The planned operation for each resource, by name, the unchanged left out."""
        self.stack.workspace.program = program
        events: list[auto.EngineEvent] = []
        self.stack.preview(on_event=events.append, **options)
        return _operations(event.resource_pre_event for event in events)

    def up(self, program: Program, **options: Any) -> dict[str, str]:
        """The operation carried out for each resource, by name, the unchanged left out."""
        self.stack.workspace.program = program
        events: list[auto.EngineEvent] = []
        self.stack.up(on_event=events.append, **options)
        return _operations(event.resource_pre_event for event in events)

    def failing_up(self, program: Program) -> str:
        """What an update that must fail says."""
        with pytest.raises(auto.CommandError) as failure:
            self.up(program)
        return str(failure.value)

    def outputs(self) -> dict[str, Any]:
        return {name: output.value for name, output in self.stack.outputs().items()}

    def state(self) -> dict[str, Any]:
        """Every resource in the state, by name; secrets stay encrypted."""
        resources = self.stack.export_stack().deployment["resources"]
        return {resource["urn"].rpartition("::")[2]: resource for resource in resources}

    def edit(self, name: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Change one resource in the state, as time would."""
        deployment = self.stack.export_stack()
        for resource in deployment.deployment["resources"]:
            if resource["urn"].endswith(f"::{name}"):
                change(resource)
        self.stack.import_stack(deployment)


def _operations(events: Any) -> dict[str, str]:
    steps = [event.metadata for event in events if event is not None]
    return {
        step.urn.rpartition("::")[2]: str(getattr(step.op, "value", step.op))
        for step in steps
        if str(getattr(step.op, "value", step.op)) not in ("same", "read")
        and not step.type.startswith("pulumi:pulumi:")
    }


@pytest.fixture(scope="module")
def environment(lab: Lab) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in lab.environment().items():
            patch.setenv(name, value)
        patch.delenv("KUBECONFIG", raising=False)
        yield


@pytest.fixture
def trial(environment: None, request: pytest.FixtureRequest) -> Iterator[Trial]:
    """A stack named after the test; what it made is removed, whatever became of the test."""
    trial = Trial(request.node.name.removeprefix("test_")[:60])
    yield trial
    trial.stack.destroy()


@pytest.fixture(scope="module")
def core(lab: Lab) -> client.CoreV1Api:
    return client.CoreV1Api(config.new_client_from_config(str(lab.kubeconfig), CLUSTER))


@pytest.fixture
def namespace(core: client.CoreV1Api, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace that isn't Pulumi's."""
    name = f"ns-{abs(hash(request.node.name)) % 10**8}"
    core.create_namespace({"metadata": {"name": name}})
    yield name
    core.delete_namespace(name)


@pytest.fixture
def connect(lab: Lab) -> Callable[..., pulumi.ResourceOptions]:
    def connect(**settings: Any) -> pulumi.ResourceOptions:
        given = {"kubeconfig": str(lab.kubeconfig), "context": CLUSTER, "cluster_identifier": CLUSTER} | settings
        return pulumi.ResourceOptions(provider=k8s.Provider("cluster", **given))

    return connect
