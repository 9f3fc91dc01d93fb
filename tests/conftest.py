"""What the tests of every room share: a lab, and the end of a file whose tests go on from each other."""

import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from lab import plugins
from lab.fleet import Lab
from tests import bounded
from tests.labs import StandingLab

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that need as many workers as the ones before find them running; those without a lab fill the end."""

    def workers(item: pytest.Item) -> int:
        on_clusters = {"engine", "lab"} & {mark.name for mark in item.iter_markers()}
        return _workers(item.module) if on_clusters else -1  # type: ignore[attr-defined]

    items.sort(key=workers, reverse=True)


def pytest_report_header() -> str:
    """Real plugins or stand-ins: a run on stand-ins must not pass for more."""
    return plugins.describe()


@pytest.fixture(scope="session")
def standing_lab() -> Iterator[StandingLab]:
    """What the files of this process hand on."""
    standing = StandingLab()
    try:
        yield standing
    finally:
        standing.take_down()


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest, standing_lab: StandingLab) -> Lab:
    """A lab on which nothing has been done.

    It has two workers, or as many as the module's LAB_WORKERS says.
    """
    return standing_lab.hand(_workers(request.module), request.session.testsfailed)


def _workers(module: object) -> int:
    return getattr(module, "LAB_WORKERS", 2)
