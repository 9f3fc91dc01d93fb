"""Looking at several clusters at once, and being stopped in it."""

import _thread
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from operations import everywhere


def test_who_is_interrupted_enters_no_other_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(everywhere, "Api", lambda *_: SimpleNamespace(enter=lambda: None))
    entered: list[str] = []
    stopped = threading.Event()

    def at(cluster: Any, _api: Any) -> None:
        entered.append(cluster.name)
        if len(entered) == everywhere.AT_ONCE:
            _thread.interrupt_main()
        stopped.wait(10)

    clusters: Any = [SimpleNamespace(name=f"cluster-{number}") for number in range(100)]
    with pytest.raises(KeyboardInterrupt):
        everywhere.look(clusters, at, 60)
    stopped.set()

    assert len(entered) == everywhere.AT_ONCE
