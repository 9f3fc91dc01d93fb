"""The labs that tests run on: a fresh one, and one that goes from file to file."""

import shutil
import tempfile
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

    def hand(self, workers: int) -> Lab:
        """It, with this many workers, which hold nothing of what was done there before."""
        if not self._lab:
            self._lab = self._owned.enter_context(fresh_lab(workers))
        for entry in self._lab.root.iterdir():
            if entry.name not in KEPT:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        self._lab.up(workers)
        with ThreadPoolExecutor() as pool:
            list(pool.map(self._put_back, self._lab.clusters()))
        return self._lab

    def take_down(self) -> None:
        """End it; the next is a fresh one."""
        self._lab = None
        self._snapshots.clear()
        self._owned.close()

    def _put_back(self, cluster: str) -> None:
        assert self._lab
        snapshot = self._snapshots.get(cluster)
        if snapshot and snapshot.fits():
            snapshot.put_back()
        else:
            self._snapshots[cluster] = Snapshot(self._lab, cluster)
