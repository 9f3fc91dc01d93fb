"""A stack named after each test, on the only cluster of a lab."""

import secrets
import shutil
from collections.abc import Iterator
from typing import Any

import pulumi
import pulumi_kubernetes as k8s
import pytest
from kubernetes import client, config

from lab.fleet import Lab
from tests.engine.providers.trial import CLUSTER, Connect, Core, Trial


@pytest.fixture(scope="module")
def environment(lab: Lab) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in lab.environment().items():
            patch.setenv(name, value)
        patch.delenv("KUBECONFIG", raising=False)
        yield


@pytest.fixture(scope="module")
def core(lab: Lab) -> Core:
    return client.CoreV1Api(config.new_client_from_config(str(lab.kubeconfig), CLUSTER))


@pytest.fixture
def namespace(core: Core) -> Iterator[str]:
    """A namespace that isn't Pulumi's."""
    name = f"trial-{secrets.token_hex(4)}"
    core.create_namespace({"metadata": {"name": name}})
    yield name
    core.delete_namespace(name)


@pytest.fixture
def trial(environment: None, namespace: str, request: pytest.FixtureRequest) -> Iterator[Trial]:
    """A stack named after the test; what it made in the namespace goes with that."""
    trial = Trial(request.node.name.removeprefix("test_")[:60])
    yield trial
    shutil.rmtree(trial.stack.workspace.work_dir)


@pytest.fixture
def connect(lab: Lab) -> Connect:
    """The options of a resource on the trial's cluster; called within a program."""

    def connect(**settings: Any) -> pulumi.ResourceOptions:
        given: dict[str, Any] = {
            "kubeconfig": str(lab.kubeconfig),
            "context": CLUSTER,
            "cluster_identifier": CLUSTER,
        } | settings
        return pulumi.ResourceOptions(provider=k8s.Provider("cluster", **given))

    return connect
