"""A lab for the length of a block; only the tool cache is shared with others."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import LabError
from lab.fleet import Lab


@contextmanager
def fresh_lab(workers: int) -> Iterator[Lab]:
    """A management cluster and this many workers, gone again afterwards."""
    # Not pytest's own folder: its long name would bring socket paths below it to the system's limit.
    with tempfile.TemporaryDirectory(prefix="lab-") as folder:
        lab = Lab(Path(folder) / "lab")
        try:
            lab.up(workers=workers)
            yield lab
        finally:
            lab.down()


def skip_without_engine(lab: Lab) -> None:
    """Skip, and say what is missing, where the lab has no CLI of Pulumi's."""
    try:
        lab.tool("pulumi")
    except LabError:
        pytest.skip("No engine: Pulumi's CLI could be neither downloaded nor built; `python -m lab up` says why.")
