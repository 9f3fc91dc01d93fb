"""The stand-in charts, packed as a registry would serve them.

Their content is `lab/charts`; vendoring and locking a packed chart is the program's own business.
"""

import gzip
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from lab import LabError

CHARTS = Path(__file__).parent / "charts"


def pack(helm: Path, folder: Path, environment: Mapping[str, str]) -> None:
    """Pack every stand-in chart into a folder."""
    folder.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=folder.parent / "tmp") as scratch:
        charts = [str(chart.parent) for chart in CHARTS.glob("*/Chart.yaml")]
        done = subprocess.run(
            [helm, "package", "--destination", scratch, *charts],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise LabError(f"helm can't pack the charts in {CHARTS}: {done.stderr.strip()}")
        for archive in Path(scratch).glob("*.tgz"):
            _settle(archive, folder / archive.name)


def _settle(archive: Path, target: Path) -> None:
    """Repack without times, so that one content has one digest and a lock made from it keeps holding."""
    with (
        tarfile.open(archive) as source,
        target.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as settled,
    ):
        for member in source:
            member.mtime = 0
            settled.addfile(member, source.extractfile(member))
