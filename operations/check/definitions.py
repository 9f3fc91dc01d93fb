"""The CRDs of the vendored charts: missing, of another version, or edited.

Owns the look at them. They are large and seldom edited, so only their metadata is asked for, and no more read of a
manifest, until something speaks for a change.
"""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from components import product
from operations import charts
from operations.check.view import View
from operations.crds import COLLECTION
from operations.findings import Finding, Kind
from operations.objects import FieldPath, Object, unlike
from operations.releases import Deployed

MISSING = Kind(
    "crd-missing",
    why="Objects of the kind can't be made, and what watches them fails.",
    page="releases",
)
OUTDATED = Kind(
    "crd-outdated",
    why="The kind has other fields than the deployed version needs; the API server drops what it doesn't know.",
    page="releases",
)

_HASH = ("metadata", "annotations", product.CRD_HASH_ANNOTATION)


def are(release: str) -> bool:
    """Whether a release is one of CRDs."""
    return release in map(product.crds_chart, product.CHARTS)


def findings(view: View, found: Mapping[str, Deployed]) -> Iterator[Finding]:
    """Of one cluster, whose releases are `found`, against the charts that it was deployed from."""
    record, settings = view.fleet.record, view.fleet.settings
    version = (record.versions.get(view.name) if record else None) or view.cluster.version
    chart = product.crds_chart(view.cluster.chart)
    archive = settings.charts.at(version).by_name.get(chart)
    folder = Path(settings.charts_folder)
    # Charts of a version that was given up may be gone from the lock or from the folder, or be broken there, since only
    # those of the configuration's versions are refused; Helm remembers its CRDs.
    remembered = found[chart].manifest if chart in found else ""
    here = archive if archive and archive.unaltered(folder) else None
    vendored = _heads(charts.printed(folder, here) if here else remembered)
    live = _live(view)
    again = view.manifest_again(chart, found[chart]) if chart in found else view.fleet.up
    for name, (head, _) in vendored.items():
        if name not in live:
            yield MISSING.found(view.name, f"There is no CRD {name}.", again)
        elif (wanted := _hash(head)) and _hash(live[name]) != wanted:
            what = f"CRD {name} isn't that of {version}, by its annotation {product.CRD_HASH_ANNOTATION}."
            yield OUTDATED.found(view.name, what, again)


def changed(view: View, release: Deployed) -> Iterator[tuple[str, Object, list[FieldPath]]]:
    """CRDs of a release that somebody edited: name, the object now, and where."""
    live = _live(view)
    for name, (head, document) in _heads(release.manifest).items():
        if name not in live:
            continue
        paths = [path for path in unlike(head, live[name]) if path not in (_HASH, ("apiVersion",), ("kind",))]
        if _several_wrote_spec(live[name]) and (whole := view.api.get(f"{COLLECTION}/{name}")):
            manifest: Any = yaml.load(document, yaml.CSafeLoader)
            paths += unlike(manifest["spec"], whole["spec"], ("spec",))
        yield f"CRD {name}", live[name], paths


def _live(view: View) -> dict[str, Object]:
    return {item["metadata"]["name"]: item for item in view.metadata(COLLECTION)}


def _several_wrote_spec(crd: Object) -> bool:
    """Whether anyone but Helm wrote something that a CRD demands; the API server's own notes are on its status."""
    managers = {
        entry["manager"] for entry in crd["metadata"].get("managedFields", []) if "f:spec" in entry.get("fieldsV1", {})
    }
    return len(managers) > 1


def _hash(crd: Object) -> str | None:
    return (crd["metadata"].get("annotations") or {}).get(product.CRD_HASH_ANNOTATION)


@functools.lru_cache
def _heads(text: str) -> dict[str, tuple[Object, str]]:
    """By name, what a CRD says before its spec, and all of it; the text is the same on every worker."""
    found: dict[str, tuple[Object, str]] = {}
    for document in f"\n{text}".split("\n---"):
        head: Any = yaml.load(document.partition("\nspec:")[0], yaml.CSafeLoader)
        if head:
            found[head["metadata"]["name"]] = (head, document)
    return found
