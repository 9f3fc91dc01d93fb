"""What the tests of every room share: a lab of their own, and the end of a file whose tests go on from each other."""

import signal
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from lab import plugins
from lab.fleet import Lab
from tests import bounded

FAILED = pytest.StashKey[dict[Path, str]]()
"""By file, its first failure."""


def pytest_configure(config: pytest.Config) -> None:
    """A run that is ended politely takes its labs away, as one that is interrupted does, and one that hangs."""
    # A shell has what it starts in the background ignore an interruption, and whatever that starts.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    config.pluginmanager.register(bounded)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note the first failure of a file whose tests go on from each other."""
    report = yield
    if report.failed and item.get_closest_marker("lived_in_order"):
        item.session.stash.setdefault(FAILED, {}).setdefault(item.path, item.name)
    return report


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What would go on from a failure says nothing of its own."""
    if failed := item.session.stash.get(FAILED, {}).get(item.path):
        pytest.skip(f"It goes on from {failed}, which failed.")


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
            # The first on a machine builds its tools.
            with bounded.unbounded():
                lab.up(getattr(request.module, "LAB_WORKERS", 2))
            yield lab
        finally:
            lab.down()
