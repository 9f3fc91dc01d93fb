"""What is said on the way, when nobody listens any more."""

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from operations.console import _Unheard, table
from operations.stack import PROJECT_FOLDER


class Gone(io.StringIO):
    """A stream whose other end is gone."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def write(self, _text: str) -> int:
        raise self.error


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(errno.EIO, "the terminal is closed")])
def test_a_reader_that_is_gone_ends_nothing(error: OSError) -> None:
    console = _Unheard(file=Gone(error))

    console.print("created one")
    console.print("created another")

    assert console.quiet


def test_results_that_cant_be_written_are_told_in_a_sentence() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "operations", "charts", "list"],
            cwd=PROJECT_FOLDER,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert done.returncode == 2
    assert done.stderr == "What was found can't be written: No space left on device.\n"


def test_a_table_keeps_its_values_whole_on_a_narrow_terminal() -> None:
    name = "cluster-" + "1234567890" * 9
    shown = table("cluster", "now")
    shown.add_row(name, "well")
    written = io.StringIO()

    Console(file=written, width=60, soft_wrap=True).print(shown)

    first = [line.split()[0] for line in written.getvalue().splitlines()[1:]]
    assert "".join(first) == name


def test_a_row_that_is_piped_is_one_line_however_long(tmp_path: Path) -> None:
    origin = "the chart of " + "somebody " * 30
    entry = {"file": "f.tgz", "name": "x", "version": "1.2.9", "sha256": "0" * 64, "origin": origin}
    (tmp_path / "charts.lock").write_text(json.dumps({"charts": [entry]}))

    done = subprocess.run(
        [sys.executable, "-m", "operations", "charts", "list", "--charts", str(tmp_path)],
        cwd=PROJECT_FOLDER,
        env=os.environ | {"COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.splitlines()[1].split() == ["x", "1.2.9", "0" * 12, *origin.split()]


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_a_command_runs_without_one_of_its_streams(closed: str) -> None:
    command = f"{sys.executable} -m operations charts list --charts /nowhere {closed}"

    done = subprocess.run(["sh", "-c", command], cwd=PROJECT_FOLDER, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
