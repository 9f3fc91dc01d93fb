"""Which lab a test file is handed: the one of the file before, or another."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import labs
from tests.labs import StandingLab


class Made:
    """A lab of one cluster that isn't there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ended = False
        root.mkdir()

    def up(self, _workers: int) -> None:
        pass

    def clusters(self) -> list[str]:
        return ["mgmt-cluster"]


class Noted:
    """What a cluster held, and whether it comes back to that."""

    own = True
    settles = True

    def __init__(self, *_: Any) -> None:
        pass

    def fits(self) -> bool:
        return self.own

    def put_back(self) -> None:
        assert self.settles, "this still changes: a namespace"


@pytest.fixture
def standing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandingLab:
    """One whose labs and snapshots are made up."""
    made: list[Made] = []

    @contextmanager
    def fresh(_workers: int) -> Iterator[Made]:
        made.append(Made(tmp_path / str(len(made))))
        yield made[-1]
        made[-1].ended = True

    monkeypatch.setattr(labs, "fresh_lab", fresh)
    monkeypatch.setattr(labs, "Snapshot", Noted)
    return StandingLab()


def test_a_lab_in_which_something_failed_is_not_handed_on(standing: StandingLab) -> None:
    first: Any = standing.hand(2, failures=0)

    assert standing.hand(2, failures=1) is not first
    assert first.ended


def test_a_lab_whose_cluster_a_test_made_anew_is_not_handed_on(
    standing: StandingLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    first: Any = standing.hand(2, failures=0)
    monkeypatch.setattr(Noted, "own", False)

    assert standing.hand(2, failures=0) is not first
    assert first.ended


def test_a_lab_that_wont_be_as_it_was_is_not_handed_on_and_told(
    standing: StandingLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    first: Any = standing.hand(2, failures=0)
    monkeypatch.setattr(Noted, "settles", False)

    with pytest.warns(UserWarning, match=r"thrown away.*still changes: a namespace"):
        assert standing.hand(2, failures=0) is not first
    assert first.ended


def test_any_other_lab_is_handed_on_with_its_clusters_and_nothing_that_a_file_left(standing: StandingLab) -> None:
    first: Any = standing.hand(2, failures=1)
    for name in ("kwok", "state"):
        (first.root / name).mkdir()
    (first.root / "Pulumi.lab.yaml").touch()

    assert standing.hand(2, failures=1) is first
    assert [entry.name for entry in first.root.iterdir()] == ["kwok"]
