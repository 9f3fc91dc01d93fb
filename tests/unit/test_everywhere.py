"""Looking at several clusters at once, and being stopped in it."""

import signal
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from operations import everywhere


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
