"""The stand-in charts, packed as a registry would serve them.

Their content is `lab/charts`, and for an older version the files in its overlay over those; vendoring and
locking a packed chart is the program's own business.
"""

import gzip
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from lab import LabError

CHARTS = Path(__file__).parent / "charts"
VERSION = "1.2.9"
"""What the charts' own files say."""


def pack(helm: Path, folder: Path, environment: Mapping[str, str], version: str = VERSION) -> None:
    """Pack every stand-in chart into a folder, as `version`."""
    folder.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=folder.parent / "tmp") as scratch:
        charts = [_as_version(chart.parent, Path(scratch), version) for chart in CHARTS.glob("*/Chart.yaml")]
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


def _as_version(chart: Path, scratch: Path, version: str) -> Path:
    """A copy of a chart that says it is `version` wherever a chart or a CRD names one."""
    copy = shutil.copytree(chart, scratch / chart.name)
    overlay = CHARTS / "overlays" / version / chart.name
    if overlay.is_dir():
        shutil.copytree(overlay, copy, dirs_exist_ok=True)
    for file in [*copy.rglob("Chart.yaml"), *copy.rglob("crds/*.yaml")]:
        file.write_text(file.read_text().replace(VERSION, version))
    return copy


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
