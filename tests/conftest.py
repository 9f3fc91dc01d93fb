"""What the tests of every room share: a lab of their own, and a look into its clusters."""

from collections.abc import Iterator

import pytest

from lab import plugins
from lab.fleet import Lab
from tests.fresh_lab import fresh_lab


def pytest_report_header() -> str:
    """Real plugins or stand-ins: a run on stand-ins must not pass for more."""
    return plugins.describe()


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A fresh lab, gone again after the module; only the tool cache is shared.

    It has two workers, or as many as the module's LAB_WORKERS says.
    """
    with fresh_lab(getattr(request.module, "LAB_WORKERS", 2)) as lab:
        yield lab
