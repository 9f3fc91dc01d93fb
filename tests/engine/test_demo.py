"""`make demo`, in a lab of its own."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.plugins import REPOSITORY

pytestmark = pytest.mark.engine


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """A lab's folder of this test's own; it is taken down whatever happens."""
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        environment = {**os.environ, "GLOO_MESH_LAB": str(Path(folder) / "lab")}
        yield environment
        subprocess.run([sys.executable, "-m", "lab", "down"], cwd=REPOSITORY, env=environment, check=True)


def test_the_demo_deploys_proves_and_changes_nothing_the_second_time(environment: dict[str, str]) -> None:
    tracked = (REPOSITORY / "Pulumi.lab.yaml").read_text()
    demo = [sys.executable, "-m", "lab", "demo"]
    first = subprocess.run(demo, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    again = subprocess.run(demo, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)

    assert first.returncode == 0, first.stdout + first.stderr
    assert again.returncode == 0, again.stdout + again.stderr
    assert "Nothing changed." in again.stdout
    assert first.stdout.count("verified") == 2
    assert len(re.findall(r"relay +connected", first.stdout)) == 2
    assert (REPOSITORY / "Pulumi.lab.yaml").read_text() == tracked
