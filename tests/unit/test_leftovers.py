"""What a killed run leaves on this machine."""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from operations import leftovers
from tests.unit.processes import plugin


def test_a_provider_whose_engine_is_gone_is_found_and_ended_and_others_are_let_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as engine:
        engine.bind(("127.0.0.1", 0))
        engine.listen()
        alive = f"127.0.0.1:{engine.getsockname()[1]}"
        with (
            plugin(tmp_path, "127.0.0.1:1") as left,
            plugin(tmp_path, alive) as working,
            plugin(tmp_path, "127.0.0.1:1", folder=tmp_path) as elsewhere,
        ):
            ours = [
                process for process in leftovers.providers() if process.pid in (left.pid, working.pid, elsewhere.pid)
            ]
            found = [finding for finding in leftovers.findings("prod") if finding.kind.code == "provider-left"]
            # Of everything that is left on this machine, no more than this test's.
            monkeypatch.setattr(leftovers, "providers", lambda: ours)
            monkeypatch.setattr(leftovers, "folders", list)
            leftovers.remove()

            assert [process.pid for process in ours] == [left.pid]
            assert left.poll() is not None
            assert working.poll() is None
            assert elsewhere.poll() is None
    assert [f"Process {left.pid}, pulumi-resource-kubernetes" in finding.what for finding in found].count(True) == 1


def test_a_killed_runs_temporary_files_are_found_and_deleted_and_a_living_ones_are_let_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with leftovers.scratch() as living:
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        left = tmp_path / f"gloo-mesh-run-{ended.pid}-x"
        left.mkdir()
        (left / "kubeconfig1").write_text("credentials")

        (finding,) = [found for found in leftovers.findings("prod") if found.kind.code == "credentials-left"]
        monkeypatch.setattr(leftovers, "providers", list)
        leftovers.remove()

        assert str(left) in finding.what
        assert [path.name for path in tmp_path.iterdir()] == [Path(living).name]


@pytest.mark.skipif(os.getuid() != 0, reason="giving a folder to somebody else takes root")
def test_another_users_folder_is_that_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (theirs := tmp_path / f"gloo-mesh-run-{1 << 22}-x").mkdir()
    assert leftovers.folders() == [theirs]

    os.chown(theirs, 4711, -1)

    assert leftovers.folders() == []
