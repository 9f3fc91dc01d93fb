"""Filling the folder of vendored charts: pull, add, verify.

Owns the folder's archives and lock. Beside each of the vendor's charts it puts one with nothing but
its CRDs, because Helm installs a chart's `crds/` once and never upgrades them.
"""

import gzip
import hashlib
import http.client
import io
import re
import tarfile
import urllib.request
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from components import product
from components.charts import Chart, Charts, LockError, read_lock, required, write_lock
from operations.deadline import within
from operations.stack import UsageError

CRDS = "files/crds.yaml"
"""Where a chart of CRDs keeps them."""

SECONDS = 60
"""Deadline of one download."""

BROKEN = (
    OSError,
    EOFError,
    zlib.error,
    tarfile.TarError,
    yaml.YAMLError,
    AttributeError,
    KeyError,
    TypeError,
    UnicodeDecodeError,
)
"""What reading a file raises that is no archive, or no chart's."""


@dataclass(frozen=True)
class Archive:
    """A chart's .tgz, opened: its metadata, default values and CRDs."""

    name: str
    version: str
    values: str
    crds: list[dict[str, Any]]

    @classmethod
    def read(cls, content: bytes, origin: str) -> "Archive":
        """Raises UsageError when `content`, from `origin`, is no chart."""
        try:
            files = dict(_files(content))
            metadata: Any = yaml.safe_load(_at_top(files, "Chart.yaml"))
            crds = [
                document
                for path, text in sorted(files.items())
                if "/crds/" in path and path.endswith((".yaml", ".yml"))
                for document in yaml.load_all(text, yaml.CSafeLoader)
                if isinstance(document, dict)
                and document.get("kind") == "CustomResourceDefinition"
                # Without a name it is none, and KeyError says so.
                and document["metadata"]["name"]
            ]
            return cls(str(metadata["name"]), str(metadata["version"]), _at_top(files, "values.yaml").decode(), crds)
        except BROKEN:
            raise UsageError(
                f"{origin} is not a packed Helm chart; give a .tgz that `helm package` or `helm pull` made."
            ) from None


@dataclass(frozen=True)
class Demands:
    """What a vendor's chart, with its CRDs, asks of a cluster."""

    kubernetes: str
    """The range of versions in its Chart.yaml; empty where it names none."""
    crds: dict[str, str]
    """By the CRD's name, the API version it is written in."""


def pull(folder: Path, version: str) -> list[Chart]:
    """Bring both of the vendor's charts at an exact version, and lock them with their CRDs."""
    return [
        chart
        for name in product.CHARTS
        for chart in add(folder, *_download(f"{product.CHART_REPOSITORY}/{name}/{name}-{version}.tgz"), version)
    ]


def add(folder: Path, content: bytes, origin: str, version: str | None = None) -> list[Chart]:
    """Put a chart and its CRDs into the folder and the lock; `version` is what it has to be, if given."""
    archive = Archive.read(content, origin)
    if archive.name not in product.CHARTS:
        raise UsageError(f"{origin} is the chart {archive.name}; a deployment needs {' and '.join(product.CHARTS)}.")
    if version not in (None, archive.version):
        raise UsageError(f"{origin} says that it is version {archive.version}, not {version}.")
    if not archive.crds:
        raise UsageError(f"{origin} holds no CRDs; it isn't the vendor's {archive.name}.")
    crds = product.crds_chart(archive.name)
    made = {archive.name: content, crds: _crds_archive(crds, archive)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} can't be the folder of charts: {error.strerror}.") from None
    charts = [
        Chart(
            file=f"{name}-{archive.version}.tgz",
            name=name,
            version=archive.version,
            sha256=hashlib.sha256(packed).hexdigest(),
            origin=origin if packed is content else f"the CRDs of {archive.name}",
        )
        for name, packed in made.items()
    ]
    before = locked(folder)
    known = {(chart.name, chart.version): chart.sha256 for chart in before}
    for chart in charts:
        if known.get((chart.name, chart.version), chart.sha256) != chart.sha256:
            raise UsageError(
                f"{origin} is not the {chart.name} {chart.version} that was locked before; released charts don't "
                "change. One that you patched needs a later version of its own, or no cluster would be upgraded to it."
            )
    for chart in charts:
        temporary = folder / f"{chart.file}.new"
        temporary.write_bytes(made[chart.name])
        temporary.replace(folder / chart.file)
    kept = [chart for chart in before if (chart.name, chart.version) not in {(c.name, c.version) for c in charts}]
    write_lock(folder, [*kept, *charts])
    return charts


def locked(folder: Path) -> list[Chart]:
    """What the lock lists; nothing when there is none yet."""
    try:
        return read_lock(folder)
    except LockError as error:
        raise UsageError(f"{error} can't be read; restore it, or remove it and bring the charts anew.") from None


def values(folder: Path, name: str, version: str) -> str:
    """A vendored chart's default values, as the vendor wrote them."""
    faults = list(Charts.faults(folder, version, [name]))
    if faults:
        raise UsageError("\n".join(faults))
    path = folder / Charts.load(folder, version).by_name[name].file
    return Archive.read(path.read_bytes(), str(path)).values


def demands(charts: Charts, name: str) -> Demands:
    """What the vendored chart `name` asks for; raises UsageError where an archive can't be read."""
    chart, crds = charts.by_name[name], charts.by_name[product.crds_chart(name)]
    try:
        files = dict(_files((charts.folder / chart.file).read_bytes()))
        metadata: Any = yaml.load(_at_top(files, "Chart.yaml"), yaml.CSafeLoader)
        # Schemas are most of the text, and the slow part of reading it.
        heads = re.sub(r"(?m)^(spec|status):\n(?: .*\n|- .*\n|\n)*", "", printed(charts.folder, crds))
        found = [document for document in yaml.load_all(heads, yaml.CSafeLoader) if document]
        return Demands(
            kubernetes=str(metadata.get("kubeVersion") or ""),
            crds={document["metadata"]["name"]: document["apiVersion"] for document in found},
        )
    except BROKEN as error:
        why = f" ({error})" if isinstance(error, OSError) else ""
        raise UsageError(
            f"{chart.file} or {crds.file} is no packed chart that can be read{why}; bring them again: "
            f"python -m operations charts pull {chart.version} --charts {charts.folder}"
        ) from None


def printed(folder: Path, chart: Chart) -> str:
    """The CRDs that a vendored chart of CRDs prints, as YAML."""
    return dict(_files((folder / chart.file).read_bytes()))[f"{chart.name}/{CRDS}"].decode()


def verify(folder: Path) -> list[str]:
    """A sentence for every fault of every version in the lock.

    Beside a whole one, others may be the agents' alone, which may lag.
    """
    charts = locked(folder)
    if not charts:
        raise UsageError(
            f"{folder} has no charts yet; bring them with: python -m operations charts pull VERSION --charts {folder}"
        )
    whole = {chart.version for chart in charts if chart.name in required([product.MANAGEMENT_CHART])}
    return [
        fault
        for version in sorted({chart.version for chart in charts})
        for fault in Charts.faults(
            folder, version, product.CHARTS if version in whole or not whole else [product.AGENT_CHART]
        )
    ]


def _download(address: str) -> tuple[bytes, str]:
    try:
        return within(SECONDS, lambda: _answer(address)), address
    except (http.client.HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error) or f"not whole within {SECONDS} s"
        raise UsageError(
            f"{address} can't be had ({reason}). Fetch it where you can, and bring it with: "
            "python -m operations charts add FILE"
        ) from None


def _answer(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=SECONDS) as answer:
        return answer.read()


def _files(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Every file in a chart, those of packed subcharts included."""
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        for member in archive:
            if not member.isfile() or (opened := archive.extractfile(member)) is None:
                continue
            read = opened.read()
            if member.name.endswith(".tgz"):
                yield from ((f"{member.name}/{path}", nested) for path, nested in _files(read))
            else:
                yield member.name, read


def _at_top(files: dict[str, bytes], name: str) -> bytes:
    """A file of the chart itself, whose folder may have any name."""
    return next((text for path, text in files.items() if path.count("/") == 1 and path.endswith(f"/{name}")), b"{}")


def _crds_archive(name: str, archive: Archive) -> bytes:
    """A chart that prints the CRDs from one file: their descriptions hold braces, which a template would run."""
    for crd in archive.crds:
        # Removing the release must not take every custom resource of the cluster with it.
        crd["metadata"].setdefault("annotations", {})["helm.sh/resource-policy"] = "keep"
    files = {
        "Chart.yaml": yaml.safe_dump(
            {
                "apiVersion": "v2",
                "name": name,
                "version": archive.version,
                "description": f"The CRDs of {archive.name} {archive.version}, kept on delete",
            }
        ),
        CRDS: yaml.dump_all(archive.crds, Dumper=yaml.CSafeDumper, explicit_start=True),
        "templates/crds.yaml": f'{{{{ .Files.Get "{CRDS}" }}}}\n',
    }
    packed = io.BytesIO()
    # No times, no names and no compression, which differs by library: one digest on every machine.
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=0, mtime=0, filename="") as compressed,
        tarfile.open(fileobj=compressed, mode="w") as tar,
    ):
        for path, text in files.items():
            member = tarfile.TarInfo(f"{name}/{path}")
            member.size = len(text.encode())
            member.mode = 0o644
            tar.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()
