"""Looking at several clusters at once, and being stopped in it."""

import base64
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from operations import everywhere
from operations.stack import PROJECT_FOLDER
from tests.awaiting import awaited


def test_who_is_interrupted_enters_no_other_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(everywhere, "Api", lambda *_: SimpleNamespace(enter=lambda: None))
    entered: list[str] = []
    counting, stopped = threading.Lock(), threading.Event()

    def at(cluster: Any, _api: Any) -> None:
        with counting:
            entered.append(cluster.name)
            last = len(entered) == everywhere.AT_ONCE
        if last:
            # A signal also wakes a thread that waits for an answer.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        stopped.wait(10)

    clusters: Any = [SimpleNamespace(name=f"cluster-{number}") for number in range(100)]
    with pytest.raises(KeyboardInterrupt):
        everywhere.look(clusters, at, 60)
    stopped.set()

    assert len(entered) == everywhere.AT_ONCE


def test_whatever_a_look_ends_in_is_heard_by_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(everywhere, "Api", lambda *_: SimpleNamespace(enter=lambda: None))
    clusters: Any = [SimpleNamespace(name="cluster-1")]

    def at(_cluster: Any, _api: Any) -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        everywhere.look(clusters, at, 60)


def look(folder: Path, kubeconfig: dict[str, Any], variables: dict[str, str]) -> subprocess.Popen[str]:
    """A look at the cluster of each context, in a process that can be interrupted."""
    (folder / "kubeconfig").write_text(json.dumps(kubeconfig))
    names = [context["name"] for context in kubeconfig["contexts"]]
    script = (
        "from types import SimpleNamespace as S; from operations.everywhere import look; "
        "from components.settings.fields import Source; "
        f"kubeconfig = Source('path', '{folder}/kubeconfig'); "
        f"clusters = [S(name=name, context=name, kubeconfig=kubeconfig, kubeconfig_content=None) for name in {names}]; "
        "look(clusters, lambda *_: None, 600)"
    )
    command = [sys.executable, "-c", script]
    environment = os.environ | variables
    return subprocess.Popen(command, cwd=PROJECT_FOLDER, env=environment, stderr=subprocess.PIPE, text=True)


def test_who_is_interrupted_while_keys_are_written_leaves_none(tmp_path: Path) -> None:
    names = [f"cluster-{number}" for number in range(200)]
    keys = {name: base64.b64encode(f"key of {name}".encode()).decode() for name in names}
    kubeconfig = {
        "contexts": [{"name": name, "context": {"cluster": "it", "user": name}} for name in names],
        "clusters": [{"name": "it", "cluster": {"server": "https://127.0.0.1:9"}}],
        "users": [
            {"name": name, "user": {"client-certificate-data": key, "client-key-data": key}}
            for name, key in keys.items()
        ],
    }
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with look(tmp_path, kubeconfig, {"TMPDIR": str(scratch)}) as looking:
        awaited(lambda: any(file.is_file() for file in scratch.rglob("*")), 20)
        looking.send_signal(signal.SIGINT)
        _, complained = looking.communicate(timeout=20)

    assert looking.returncode == -signal.SIGINT
    assert list(scratch.iterdir()) == []
    assert "changed size" not in complained


def test_who_is_interrupted_waits_for_no_cluster_and_leaves_no_login_behind(tmp_path: Path) -> None:
    (tmp_path / "login").write_text(
        f"#!/bin/sh\necho $$ > {tmp_path}/pid.new\nmv {tmp_path}/pid.new {tmp_path}/pid\nexec sleep 4711\n"
    )
    (tmp_path / "login").chmod(0o755)
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(tmp_path / "login")}}
    kubeconfig = {
        "contexts": [{"name": "one", "context": {"cluster": "it", "user": "it"}}],
        "clusters": [{"name": "it", "cluster": {"server": "https://127.0.0.1:9"}}],
        "users": [{"name": "it", "user": user}],
    }
    with look(tmp_path, kubeconfig, {}) as looking:
        awaited((tmp_path / "pid").is_file, 20)
        login = psutil.Process(int((tmp_path / "pid").read_text()))
        looking.send_signal(signal.SIGINT)
        looking.communicate(timeout=20)

    assert looking.returncode == -signal.SIGINT
    awaited(lambda: not login.is_running(), 20)
