"""`make demo`, on a lab that is up already; `test_lab.py` brings labs up from nothing."""

import os
import re
import subprocess
import sys

import pytest

from lab.fleet import Lab
from lab.plugins import REPOSITORY

pytestmark = pytest.mark.engine


def test_the_demo_deploys_proves_and_changes_nothing_the_second_time(lab: Lab) -> None:
    environment = {**os.environ, "GLOO_MESH_LAB": str(lab.root)}
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
