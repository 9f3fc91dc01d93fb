"""The backend's lock: whose it is, whether it was left, and what each kind of backend says of it."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from operations import lock, state
from operations.lock import Lock
from operations.stack import UsageError
from tests.unit.processes import pulumi
from tests.unit.stored import NOW, locked


@pytest.fixture
def stranger() -> Any:
    """A process that isn't Pulumi."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_a_lock_of_a_process_that_ended_is_left() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()

    assert locked(pid=ended.pid).finding("prod").kind.code == "lock-left"


def test_a_number_that_somebody_else_has_by_now_doesnt_count(stranger: subprocess.Popen[bytes]) -> None:
    assert locked(pid=stranger.pid).running is False


def test_a_pulumi_that_started_after_the_lock_was_taken_doesnt_hold_it(tmp_path: Path) -> None:
    with pulumi(tmp_path) as process:
        assert locked(pid=process.pid, since=NOW - timedelta(days=1)).running is False
        assert locked(pid=process.pid, since=datetime.now(UTC)).running is True
        assert locked(pid=process.pid, since=datetime.now(UTC)).finding("prod").kind.code == "lock-held"


def test_a_lock_of_another_machine_is_never_taken_for_left() -> None:
    finding = locked(host="ci-runner-7").finding("prod")

    assert finding.kind.code == "lock-held"
    assert "anna on ci-runner-7, process 1" in finding.what
    assert "--force" in finding.remedy


def test_a_backend_that_says_no_more_than_that_it_is_busy_is_told_so() -> None:
    assert "doesn't say whose" in Lock("", "", 0, NOW).finding("prod").what


def test_a_file_backends_locks_are_read_with_gos_nanoseconds(tmp_path: Path) -> None:
    folder = tmp_path / ".pulumi/locks/organization/gloo-mesh/prod"
    folder.mkdir(parents=True)
    written = {"pid": 7, "username": "anna", "hostname": "h", "timestamp": "2026-11-26T10:00:00.123456789+01:00"}
    (folder / "a.json").write_text(json.dumps(written))

    (found,) = lock._files(tmp_path, "prod")

    assert (found.user, found.host, found.pid) == ("anna", "h", 7)
    assert found.since == datetime(2026, 11, 26, 9, 0, 0, 123456, UTC)
    assert list(lock._files(tmp_path, "other")) == []


def test_a_lock_that_was_cut_off_while_it_was_written_is_left(tmp_path: Path) -> None:
    folder = tmp_path / ".pulumi/locks/organization/gloo-mesh/prod"
    folder.mkdir(parents=True)
    (folder / "a.json").write_text('{"pid": 7, "user')

    (found,) = lock._files(tmp_path, "prod")

    assert found.finding("prod").kind.code == "lock-left"


LOCKED = """\
error: the stack is currently locked by 1 lock(s). Either wait for the other process(es) to end or delete the \
lock file with `pulumi cancel`.
  s3://bucket/.pulumi/locks/organization/gloo-mesh/prod/8a.json: \
created by anna@ci-runner-7 (pid 4711) at 2026-11-26T10:00:00Z
"""


def bucket(folder: Path, monkeypatch: pytest.MonkeyPatch, complaint: str) -> None:
    """A CLI whose backend is a bucket, and what it says when it is to make the stack."""
    (folder / "complaint").write_text(complaint)
    command_line(
        folder,
        monkeypatch,
        f"""\
test "$1" = whoami && echo '{{"url": "s3://bucket"}}' && exit
test "$2" = init && test -f Pulumi.prod.yaml && echo 'error: incorrect passphrase' >&2 && exit 255
test "$2" = init && test -z "$PULUMI_CONFIG_PASSPHRASE" && echo 'error: passphrase must be set' >&2 && exit 255
cat '{folder}/complaint' >&2; exit 255
""",
    )


def command_line(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A CLI of Pulumi's that is a script."""
    (folder / "pulumi").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "pulumi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_a_bucket_that_cant_be_asked_is_no_bucket_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket(tmp_path, monkeypatch, "error: AccessDenied: not yours")

    with pytest.raises(UsageError, match="can't see who holds prod: AccessDenied: not yours"):
        lock.locks("prod")


def test_a_stack_of_a_bucket_that_nobody_holds_has_no_lock_whatever_its_secrets_provider(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE", raising=False)
    bucket(tmp_path, monkeypatch, "error: stack 'organization/gloo-mesh/prod' already exists")

    assert lock.locks("prod") == []


def test_a_bucket_is_not_asked_by_who_only_looks_and_a_backend_that_fails_lists_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket(tmp_path, monkeypatch, LOCKED)
    assert lock.listed("prod") == []

    command_line(tmp_path, monkeypatch, "echo 'error: not logged in' >&2; exit 255")
    assert lock.listed("prod") == []


def test_locks_of_other_backends_are_read_from_what_the_cli_complains_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket(tmp_path, monkeypatch, LOCKED)

    (found,) = lock.locks("prod")

    assert (found.user, found.host, found.pid) == ("anna", "ci-runner-7", 4711)
    assert found.since == datetime(2026, 11, 26, 10, tzinfo=UTC)


@pytest.mark.parametrize("console", ["https://app.pulumi.com/anna", ""])
def test_an_update_that_a_service_knows_of_is_told_whether_or_not_it_has_a_console(
    console: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stacks = [{"name": "anna/gloo-mesh/prod", "updateInProgress": True}, {"name": "anna/gloo-mesh/lab"}]
    answers = {"whoami": {"url": console}, "stack": stacks}
    for command, answer in answers.items():
        (tmp_path / command).write_text(json.dumps(answer))
    command_line(tmp_path, monkeypatch, f"cat '{tmp_path}'/$1")

    (found,) = lock.locks("prod")

    assert found.finding("prod").kind.code == "lock-held"
    assert lock.locks("lab") == []
    assert [len(lock.listed(stack)) for stack in ("prod", "lab")] == [1, 0]


def test_a_state_isnt_put_back_while_somebody_holds_the_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket(tmp_path, monkeypatch, LOCKED)

    with pytest.raises(UsageError, match="Another update of prod runs, or left its lock"):
        state.put_back("prod", {})
