"""What the engine tests need beyond clusters: the engine itself."""

from collections.abc import Iterator

import pytest

from lab import LabError
from lab.fleet import Lab
from lab.plugins import HOME


@pytest.fixture(scope="session", autouse=True)
def _memory_to_spend() -> Iterator[None]:
    """The fleets under test are small, so the engine needn't save memory; `test_canaries.py` has it as users do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOGC", "400")
        yield


@pytest.fixture(scope="module")
def lab(lab: Lab) -> Iterator[Lab]:
    """A lab with Pulumi's CLI, or a skip that says what is missing.

    Its engine keeps no logs, which take time, where a file is in their folder's place; `test_canaries.py` has them.
    """
    (lab.root / HOME / "logs").touch()
    try:
        lab.tool("pulumi")
    except LabError:
        pytest.skip("No engine: Pulumi's CLI could be neither downloaded nor built; `python -m lab up` says why.")
    with pytest.MonkeyPatch.context() as patch:
        # The kubernetes plugin leaves a copy of each kubeconfig, credentials and all, where temporary files go.
        patch.setenv("TMPDIR", str(lab.root / "tmp"))
        yield lab
