"""What the engine tests need beyond clusters: the engine itself."""

import pytest

from lab import LabError
from lab.fleet import Lab


@pytest.fixture(scope="module")
def lab(lab: Lab) -> Lab:
    """A fresh lab with Pulumi's CLI, or a skip that says what is missing."""
    try:
        lab.tool("pulumi")
    except LabError:
        pytest.skip("No engine: Pulumi's CLI could be neither downloaded nor built; `python -m lab up` says why.")
    return lab
