"""The short version of `make sweep`: a few of its points, on the same code."""

from collections.abc import Iterator

import pytest

from lab.fleet import Lab
from lab.proxy import Moment, Proxy
from tests.engine.sweep import Point, Run, Sweep

pytestmark = pytest.mark.engine
LAB_WORKERS = 1

POINTS: list[tuple[Run, float, Moment, str]] = [
    ("first", 0.5, "before", "api-server"),
    ("first", 0.9, "after", "cli"),
    ("upgrade", 0.5, "before", "provider"),
]
"""The up, how far into its writes, the moment and whom to kill."""


@pytest.fixture(scope="module")
def swept(lab: Lab) -> Iterator[Sweep]:
    """A fleet of one worker that can be put back to where each up starts."""
    with Proxy(lab) as proxy:
        swept = Sweep(lab, proxy)
        swept.learn()
        yield swept


@pytest.mark.parametrize(("run", "share", "moment", "victim"), POINTS)
def test_whoever_is_killed_recover_and_one_up_converge(
    swept: Sweep, run: Run, share: float, moment: Moment, victim: str
) -> None:
    number = max(1, round(len(swept.writes[run]) * share))

    outcome = swept.outcome(Point(run, number, moment, victim))

    assert outcome.faults == [], outcome.write
