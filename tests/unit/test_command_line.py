"""The operations' words and exit codes, without an engine or a cluster."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.main import get_group

from operations.__main__ import VERBS, app
from operations.stack import PROJECT_FOLDER
from tests.unit.conftest import LICENSE
from tests.unit.test_vendored_charts import chart


def operations(lab: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "operations", *arguments],
        cwd=PROJECT_FOLDER,
        env={**os.environ, "GLOO_MESH_LAB": str(lab), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_verb_is_found_in_its_own_module_alone() -> None:
    assert get_group(app()).commands.keys() == VERBS.keys()
    for verb, module in VERBS.items():
        assert verb in get_group(app([module])).commands


def test_a_verb_that_is_none_is_refused_with_the_nearest(tmp_path: Path) -> None:
    done = operations(tmp_path, "preflihgt", "--stack", "lab")

    assert done.returncode == 2
    assert "preflight" in done.stderr


def test_a_stack_nobody_configured_is_refused_with_those_there_are(tmp_path: Path) -> None:
    done = operations(tmp_path, "preview", "--stack", "prodd")

    assert done.returncode == 2
    assert "There is no stack prodd" in done.stderr
    assert "lab, prod" in done.stderr


def test_a_fault_of_the_program_itself_does_not_pass_for_a_finding() -> None:
    crash = "from operations import __main__ as program; program.app = lambda _: lambda: {}[0]; program.main()"
    command = [sys.executable, "-c", crash]
    done = subprocess.run(command, cwd=PROJECT_FOLDER, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "KeyError: 0" in done.stderr
    assert "a fault of this program's own" in done.stderr


@pytest.mark.parametrize("verb", ["preview", "up", "remove", "certificates", "plan", "gather"])
def test_a_wrong_configuration_is_told_whole_without_a_traceback_or_a_secret(verb: str, tmp_path: Path) -> None:
    config = {"gloo-mesh:version": "latest", "gloo-mesh:licenseKey": LICENSE, "gloo-mesh:workers": {"A": {}}}
    (tmp_path / "Pulumi.bad.yaml").write_text(yaml.safe_dump({"config": config}))

    done = operations(tmp_path, verb, "--stack", "bad")

    assert done.returncode == 2
    for part in (
        "gloo-mesh:version",
        "gloo-mesh:licenseKey is in plaintext",
        "gloo-mesh:workers.A",
        "gloo-mesh:management",
    ):
        assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert LICENSE not in done.stderr + done.stdout


@pytest.mark.parametrize("options", [("certificates", "--json", "--prometheus"), ("plan", "--json", "--mermaid")])
def test_two_formats_at_once_are_refused(options: tuple[str, ...], tmp_path: Path) -> None:
    done = operations(tmp_path, *options, "--stack", "prod")

    assert done.returncode == 2
    assert "format" in done.stderr
    assert done.stdout == ""


def test_an_unreadable_chart_file_is_a_sentence(tmp_path: Path) -> None:
    done = operations(tmp_path, "charts", "add", "--charts", str(tmp_path / "charts"), str(tmp_path / "none.tgz"))

    assert done.returncode == 2
    assert "none.tgz can't be read: No such file or directory" in done.stderr


def test_values_of_a_strangers_chart_are_refused(tmp_path: Path) -> None:
    done = operations(tmp_path, "charts", "values", "istiod", "1.2.9")

    assert done.returncode == 2
    assert "gloo-mesh-enterprise or enterprise-agent" in done.stderr


def test_charts_are_listed_for_people_and_for_machines_and_verified(tmp_path: Path) -> None:
    folder = ("--charts", str(tmp_path / "charts"))
    for name in ("gloo-mesh-enterprise", "enterprise-agent"):
        (tmp_path / f"{name}.tgz").write_bytes(chart(name))
        assert operations(tmp_path, "charts", "add", *folder, str(tmp_path / f"{name}.tgz")).returncode == 0

    listed = json.loads(operations(tmp_path, "charts", "list", "--json", *folder).stdout)
    assert {entry["name"] for entry in listed} == {
        "gloo-mesh-enterprise",
        "gloo-mesh-enterprise-crds",
        "enterprise-agent",
        "enterprise-agent-crds",
    }
    assert "enterprise-agent-crds" in operations(tmp_path, "charts", "list", *folder).stdout
    assert operations(tmp_path, "charts", "values", *folder, "enterprise-agent", "1.2.9").stdout == "relay: {}\n"
    assert operations(tmp_path, "charts", "verify", *folder).returncode == 0

    (tmp_path / "charts/enterprise-agent-1.2.9.tgz").write_bytes(b"altered")
    verified = operations(tmp_path, "charts", "verify", *folder)
    assert verified.returncode == 1
    assert "was altered" in verified.stderr


@pytest.mark.parametrize("verb", ["preview", "up", "remove", "certificates", "plan", "gather"])
def test_help_shows_an_example(verb: str, tmp_path: Path) -> None:
    assert f"python -m operations {verb} --stack" in operations(tmp_path, verb, "--help").stdout
