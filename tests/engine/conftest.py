"""What the engine tests need beyond clusters: the engine itself."""

from collections.abc import Iterator

import pytest

from lab import LabError
from lab.fleet import Lab


@pytest.fixture(scope="session", autouse=True)
def _memory_to_spare() -> Iterator[None]:
    """The fleets under test are small: what operations save in the engine's memory costs a quarter of its time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOGC", "400")
        yield


@pytest.fixture(scope="module")
def lab(lab: Lab) -> Lab:
    """A fresh lab with Pulumi's CLI, or a skip that says what is missing."""
    try:
        lab.tool("pulumi")
    except LabError:
        pytest.skip("No engine: Pulumi's CLI could be neither downloaded nor built; `python -m lab up` says why.")
    return lab
