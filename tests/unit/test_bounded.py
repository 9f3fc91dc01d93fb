"""A test that hangs ends, and takes down what it was set up with."""

import pytest

from lab.plugins import REPOSITORY

pytest_plugins = ["pytester"]
BOUNDED = """
from tests import bounded

bounded.SECONDS = 1

def pytest_configure(config):
    config.pluginmanager.register(bounded)
"""
HANGING = """
import subprocess
import time
from pathlib import Path
from threading import Event

import pytest

from tests.bounded import unbounded

@pytest.fixture(scope="module")
def lab():
    with unbounded():
        time.sleep(1.5)
    yield
    Path("taken-away").touch()

@pytest.fixture
def hanging(lab):
    Event().wait()

def test_a_command(lab):
    with subprocess.Popen(["sleep", "300"], stdout=subprocess.PIPE) as running:
        running.communicate()

def test_a_fixture(hanging): ...
def test_another(lab): ...
"""


@pytest.mark.parametrize("options", [(), ("-n", "1")])
def test_what_hangs_fails_and_is_taken_down_and_the_next_test_runs(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    pytester.makeconftest(BOUNDED)
    pytester.makepyfile(test_hanging=HANGING)

    done = pytester.runpytest_subprocess("-p", "no:cacheprovider", *options, timeout=120)

    done.assert_outcomes(failed=1, errors=1, passed=1)
    assert "It hangs: it has not ended after 1 s." in done.stdout.str()
    assert (pytester.path / "taken-away").exists()
