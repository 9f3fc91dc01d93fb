"""What the engine tests need beyond clusters: the engine itself."""

import pytest

from lab.fleet import Lab
from tests.fresh_lab import skip_without_engine


@pytest.fixture(scope="module")
def lab(lab: Lab) -> Lab:
    """A fresh lab with Pulumi's CLI, or a skip that says what is missing."""
    skip_without_engine(lab)
    return lab
