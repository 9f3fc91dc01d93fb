"""The README's commands, run in its order in a copy of the project; what can't run here says why."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from lab import proof
from lab.fleet import Lab
from lab.plugins import REPOSITORY
from tests.awaiting import awaited

pytestmark = [pytest.mark.engine, pytest.mark.lived_in_order]

NOT_HERE = {
    "make demo": "tests/engine/test_demo.py runs what it runs",
    "make test": "this test is part of it",
    "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt": "the interpreter of this test came from it",
    "source .venv/bin/activate": "the copy's PATH holds that folder",
    "pulumi login": "the lab's environment names its own backend",
    "$EDITOR Pulumi.prod.yaml": "the test edits the copy",
    "python -m operations charts pull 1.2.9": "needs the vendor's repository; the test adds the stand-ins",
}
AS_RUN = {"--secrets-provider=…": "--secrets-provider=passphrase", " --wait 2m": ""}
ENDS_IN_ONE = {
    "python -m operations remove": "The relay's root is protected.",
    "python -m operations forget": "answers",
    # Nothing in the lab accepts a mesh, as the vendor's controller does.
    "python -m operations check": "1 finding.",
}
"""Commands that find or refuse something here, and a part of what they say of it."""


def commands() -> list[str]:
    """Every line of the README's bash blocks, comments cut off."""
    blocks = re.findall(r"```bash\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def project(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, whose prod stack is the lab's clusters."""
    copy = tmp_path_factory.mktemp("readme") / "project"
    own = shutil.ignore_patterns(".git", ".lab", ".venv", ".kubeconfigs", ".hypothesis", "__pycache__", ".*_cache")
    shutil.copytree(REPOSITORY, copy, ignore=own)
    (copy / ".venv").symlink_to(REPOSITORY / ".venv")
    stack = yaml.safe_load((copy / "Pulumi.prod.yaml").read_text())
    stack["config"]["gloo-mesh:kubeconfig"] = str(lab.kubeconfig)
    (copy / "Pulumi.prod.yaml").write_text(yaml.safe_dump(stack))
    (copy / "licence.txt").write_text("a licence\n")
    (copy / "oidc-client-secret.txt").write_text("a client secret\n")
    return copy


def run(lab: Lab, project: Path, command: str) -> subprocess.CompletedProcess[str]:
    environment = lab.environment()
    environment["PATH"] = f"{REPOSITORY / '.venv/bin'}:{environment['PATH']}"
    environment["GLOO_MESH_LAB"] = str(project / ".lab")
    return subprocess.run(
        ["bash", "-c", command], cwd=project, env=environment, input="y\n", capture_output=True, text=True, check=False
    )


def test_every_reason_still_belongs_to_a_command_of_the_readme() -> None:
    assert set(NOT_HERE) <= set(commands())


def test_the_readmes_fleet_can_be_deployed_as_it_says_and_is_protected(lab: Lab, project: Path) -> None:
    added = run(lab, project, f"python -m operations charts add {lab.packages}/*.tgz")
    assert added.returncode == 0, added.stderr

    for command in (command for command in commands() if command not in NOT_HERE):
        for written, here in AS_RUN.items():
            command = command.replace(written, here)
        if command.startswith("python -m operations check"):
            # An agent that is still enrolling would be another finding.
            awaited(lambda: all(fact.holds for fact in proof.facts(lab) if fact.what == "relay"))
        done = run(lab, project, command)
        told = next((told for start, told in ENDS_IN_ONE.items() if command.startswith(start)), None)
        assert done.returncode == (1 if told else 0), f"{command}\n{done.stdout}\n{done.stderr}"
        assert (told or "") in done.stdout + done.stderr, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.skipif(
    not shutil.which("pulumi-language-python"), reason="Pulumi's language plugin for Python is not on PATH"
)
def test_plain_pulumi_agrees_that_nothing_is_left_to_change(lab: Lab, project: Path) -> None:
    plain = run(lab, project, "pulumi preview --stack prod --expect-no-changes --non-interactive")

    assert plain.returncode == 0, plain.stdout + plain.stderr
