"""The labs that tests run on: a fresh one, and one that goes from file to file."""

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lab.cluster import ADDRESS
from lab.fleet import Lab
from tests import bounded
from tests.snapshot import Snapshot

KEPT = {"kwok", "bin", ADDRESS}
"""What of a lab's folder goes from file to file: the clusters, the tools and where load balancers are."""


@contextmanager
def fresh_lab(workers: int) -> Iterator[Lab]:
    """A lab of one's own, gone again afterwards; only the tool cache is shared."""
    # Not pytest's own folder: its long name would bring socket paths below it to the system's limit.
    with tempfile.TemporaryDirectory(prefix="lab-") as folder:
        lab = Lab(Path(folder) / "lab")
        try:
            # The first on a machine builds its tools.
            with bounded.unbounded():
                lab.up(workers)
            yield lab
        finally:
            lab.down()


class StandingLab:
    """A lab that is handed from one file to the next as it was at first, because to make one takes ten seconds."""

    def __init__(self) -> None:
        """None yet."""
        self._owned = ExitStack()
        self._lab: Lab | None = None
        self._snapshots: dict[str, Snapshot] = {}
        self._failures = 0

    def hand(self, workers: int, failures: int) -> Lab:
        """It, with this many workers, which hold nothing of what was done there before.

        Another, where more tests have failed by now than when it was handed out last, or where somebody won't have it
        be as it was.
        """
        if self._lab and (failures > self._failures or not self._knows(self._lab.clusters()[: workers + 1])):
            self.take_down()
        self._failures = failures
        if self._lab:
            for entry in self._lab.root.iterdir():
                if entry.name not in KEPT and entry.is_dir():
                    shutil.rmtree(entry)
                elif entry.name not in KEPT:
                    entry.unlink()
            self._lab.up(workers)
            try:
                return self._put_back(self._lab)
            except AssertionError as unsettled:
                warnings.warn(f"A lab was thrown away. {unsettled}", stacklevel=1)
                self.take_down()
        self._lab = self._owned.enter_context(fresh_lab(workers))
        return self._put_back(self._lab)

    def take_down(self) -> None:
        """End it; the next is a fresh one."""
        self._lab = None
        self._snapshots.clear()
        self._owned.close()

    def _knows(self, clusters: list[str]) -> bool:
        """Whether it is known how each was at first; not where a test made one, or made it anew."""
        return all(name in self._snapshots and self._snapshots[name].fits() for name in clusters)

    def _put_back(self, lab: Lab) -> Lab:
        def put_back(cluster: str) -> None:
            if self._knows([cluster]):
                self._snapshots[cluster].put_back()
            else:
                self._snapshots[cluster] = Snapshot(lab, cluster)

        with ThreadPoolExecutor() as pool:
            list(pool.map(put_back, lab.clusters()))
        return lab
