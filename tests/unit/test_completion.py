"""What is still registered when something fails, while the engine goes on: everything that doesn't need it."""

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pulumi
import pytest
from pulumi.runtime import mocks
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.stack import ResourceRegistrationFailed

from operations import program
from tests.awaiting import awaited
from tests.unit.conftest import Run


@pytest.fixture
def config(config: dict[str, Any]) -> dict[str, Any]:
    """A fleet with a mesh, which needs every worker."""
    return config | {"virtualMesh": {}}


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[set[str]]:
    """The names of what the engine says has failed."""
    names: set[str] = set()
    register = mocks.MockMonitor.RegisterResource

    def registered(monitor: Any, request: Any) -> Any:
        response = register(monitor, request)
        if request.name in names:
            response.result = resource_pb2.Result.FAIL
        elif names:
            # What fails does so while others are under way.
            time.sleep(0.02)
        return response

    monkeypatch.setattr(mocks.MockMonitor, "RegisterResource", registered)
    with caplog.at_level(logging.CRITICAL, "asyncio"):
        yield names
        # What nobody waited for complains as it goes, but where the SDK runs programs.
        gc.collect()


def run(config: dict[str, Any]) -> Run:
    """What is registered by a run that must fail."""
    recording = program.recording("test", program.given(config), ["gloo-mesh:licenseKey"])
    with recording as recorder, pytest.raises(ResourceRegistrationFailed):
        program.drained(program.run)
    return Run(recorder)


def keys(stack: Run) -> set[str]:
    return {registered.key for registered in stack.registered}


def test_a_dead_worker_of_a_first_up_holds_up_itself_alone(
    config: dict[str, Any], stack: Run, failing: set[str]
) -> None:
    failing |= {"cluster-2-namespace", "cluster-2-addons-namespace"}

    done = run(config)

    missing = [registered for registered in stack.registered if registered.key in keys(stack) - keys(done)]
    assert "cluster-2-agent" in {registered.name for registered in missing}
    of_others = [r.name for r in missing if "cluster-2" not in (r.provider, r.name.removesuffix("-registration"))]
    assert sorted(of_others) == ["fleet-record", "virtual-mesh-mesh"]


def test_why_a_program_failed_is_told_though_a_thread_of_the_sdks_is_still_at_work() -> None:
    at_work = asyncio.new_event_loop()
    thread = threading.Thread(target=at_work.run_forever, daemon=True)
    thread.start()

    def failing() -> None:
        with program.recording("test", {}, []) as recorder:
            program.drained(lambda: None)
            awaited(at_work.is_running)
            recorder.loops.append(at_work)
            raise pulumi.RunError("no address")

    with pytest.raises(pulumi.RunError, match="no address"):
        failing()
    at_work.call_soon_threadsafe(at_work.stop)
    thread.join()
