"""What the tests of every room share: a lab of their own, and a look into its clusters."""

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import plugins
from lab.fleet import Lab


def pytest_configure() -> None:
    """A run that is ended politely takes its labs away, as one that is interrupted does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_report_header() -> str:
    """Real plugins or stand-ins: a run on stand-ins must not pass for more."""
    return plugins.describe()


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A fresh lab, gone again after the module; only the tool cache is shared.

    It has two workers, or as many as the module's LAB_WORKERS says.
    """
    # Not pytest's own folder: its long name would bring socket paths below it to the system's limit.
    with tempfile.TemporaryDirectory(prefix="lab-") as folder:
        lab = Lab(Path(folder) / "lab")
        try:
            lab.up(getattr(request.module, "LAB_WORKERS", 2))
            yield lab
        finally:
            lab.down()
