"""The vendored charts and their lock: which archives a deployment installs, proven unaltered.

Owns reading and checking the folder; `operations charts` fills it. Nothing is ever downloaded here.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from components import product

LOCK = "charts.lock"


class LockError(Exception):
    """The lock is there and can't be read."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One vendored archive, as the lock records it."""

    file: str
    name: str
    version: str
    sha256: str
    origin: str

    def unaltered(self, folder: Path) -> bool:
        """Whether it lies in `folder` as it was locked; raises OSError where a file that is there can't be read."""
        path = folder / self.file
        return path.exists() and digest(path) == self.sha256


@dataclass(frozen=True)
class Charts:
    """The archives of one version: two charts, or the agents' alone where they lag, and the CRDs of each."""

    folder: Path
    version: str
    by_name: dict[str, Chart]

    @classmethod
    def load(cls, folder: Path, version: str) -> "Charts":
        """The charts of `version`; their faults must have been looked at before."""
        return cls(folder, version, {chart.name: chart for chart in read_lock(folder) if chart.version == version})

    def at(self, version: str) -> "Charts":
        """The charts of another version in the same folder."""
        return self if version == self.version else Charts.load(self.folder, version)

    @staticmethod
    def faults(folder: Path, version: str, charts: Iterable[str] = product.CHARTS) -> Iterator[str]:
        """A sentence for all archives of `version` that the lock lacks, and for each that isn't as locked."""
        names = required(charts)
        remedy = f"bring it with: python -m operations charts pull {version} --charts {folder}"
        try:
            locked = {(chart.name, chart.version): chart for chart in read_lock(folder)}
        except LockError:
            yield f"{folder / LOCK}, the list of vendored charts, can't be read; restore it, or remove it and {remedy}."
            return
        if not locked:
            yield f"There are no vendored charts in {folder}; {remedy}."
            return
        lacking = [name for name in names if (name, version) not in locked]
        if lacking:
            versions = ", ".join(sorted({locked_version for _, locked_version in locked}))
            yield f"{folder / LOCK} has no {', '.join(lacking)} of version {version} (it has {versions}); {remedy}."
        for chart in (locked[name, version] for name in names if name not in lacking):
            path = folder / chart.file
            try:
                if not path.exists():
                    yield f"The chart {path} is in the lock but not in the folder; {remedy}."
                elif not chart.unaltered(folder):
                    yield f"The chart {path} was altered since it was locked; {remedy}."
            except OSError as error:
                yield f"The chart {path} can't be read ({error.strerror}); {remedy}."

    def path(self, name: str) -> str:
        """Relative to the project with a leading `./`, so that every machine's state says the same."""
        path = self.folder / self.by_name[name].file
        return str(path) if path.is_absolute() else f"./{path.as_posix()}"

    @property
    def digests(self) -> dict[str, str]:
        """sha256 by chart name."""
        return {name: chart.sha256 for name, chart in sorted(self.by_name.items())}


def required(charts: Iterable[str] = product.CHARTS) -> list[str]:
    """The names of the archives that these of the vendor's charts are installed by."""
    return [name for chart in charts for name in (chart, product.crds_chart(chart))]


def digest(archive: Path) -> str:
    """The sha256 of a file, in hex."""
    return hashlib.sha256(archive.read_bytes()).hexdigest()


def read_lock(folder: Path) -> list[Chart]:
    """What the lock lists, nothing when there is none; raises LockError when it can't be read."""
    try:
        document: Any = yaml.safe_load((folder / LOCK).read_text())
        return [Chart(**{key: str(value) for key, value in entry.items()}) for entry in document["charts"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        raise LockError(str(folder / LOCK)) from None


def write_lock(folder: Path, charts: list[Chart]) -> None:
    """Replace the lock, in a stable order so that a repository's diff shows only what changed."""
    entries = [asdict(chart) for chart in sorted(charts, key=lambda chart: (chart.name, chart.version))]
    temporary = folder / f"{LOCK}.new"
    temporary.write_text(
        "# Written by `python -m operations charts`; a chart whose digest differs is refused.\n"
        + yaml.safe_dump({"charts": entries}, sort_keys=False)
    )
    temporary.replace(folder / LOCK)
