"""What the engine tests need beyond clusters: the engine itself."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import LabError
from lab.fleet import Lab


@pytest.fixture(scope="session", autouse=True)
def _time_to_save(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the engine does beside deploying takes a third of its time; `test_canaries.py` has it as users have it.

    The fleets under test are small, so it needn't save memory; and it keeps no log where a file is in a folder's place.
    """
    home = pulumi_home(tmp_path_factory.mktemp("pulumi"))
    (home / "logs").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOGC", "400")
        patch.setenv("PULUMI_HOME", str(home))
        yield


def pulumi_home(folder: Path) -> Path:
    """Make a folder Pulumi's own, with the plugins that are there."""
    plugins = Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi") / "plugins"
    if plugins.exists():
        (folder / "plugins").symlink_to(plugins)
    return folder


@pytest.fixture(scope="module")
def lab(lab: Lab) -> Lab:
    """A fresh lab with Pulumi's CLI, or a skip that says what is missing."""
    try:
        lab.tool("pulumi")
    except LabError:
        pytest.skip("No engine: Pulumi's CLI could be neither downloaded nor built; `python -m lab up` says why.")
    return lab
