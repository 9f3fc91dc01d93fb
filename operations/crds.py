"""What a new version does to a CRD: fields and versions added or removed, and objects it would strand.

Pure comparison of two CustomResourceDefinitions (apiextensions.k8s.io/v1), as read from a cluster and from
a chart; and where an API server has them.
"""

from collections.abc import Iterator
from typing import Any

COLLECTION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
KIND = "CustomResourceDefinition"
REQUIRED = "required"
CRD = dict[str, Any]


def changes(live: CRD, new: CRD) -> tuple[list[str], list[str]]:
    """What only widens the CRD, and what to look at first: removals, new demands, stored versions without a home."""
    before, after = _versions(live), _versions(new)
    harmless = [f"+ version {name}" for name in after if name not in before]
    risky = [f"- version {name}" for name in before if name not in after]
    for name in (name for name in before if name in after):
        had, has = set(_facts(_schema(before[name]), "")), set(_facts(_schema(after[name]), ""))
        known = {path for path, _ in had}
        for path, fact in sorted(has - had):
            # Where nothing could be stored before, a demand harms nobody.
            demand = fact == REQUIRED and path.rpartition(".")[0] in known
            (risky if demand else harmless).append(f"+ {name} {path}: {fact}")
        for path, fact in sorted(had - has):
            (harmless if fact == REQUIRED else risky).append(f"- {name} {path}: {fact}")
        if before[name].get("served") and not after[name].get("served"):
            risky.append(f"- version {name} is no longer served")
    for name in live.get("status", {}).get("storedVersions", []):
        if name not in after:
            risky.append(
                f"objects may be stored as {name}, which is gone: write them anew, then take {name} out of the "
                "CRD's status.storedVersions"
            )
    return harmless, risky


def _versions(crd: CRD) -> dict[str, dict[str, Any]]:
    return {version["name"]: version for version in crd["spec"]["versions"]}


def _schema(version: dict[str, Any]) -> dict[str, Any]:
    return version.get("schema", {}).get("openAPIV3Schema", {})


def _facts(schema: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    """Every field's path, with each thing that its schema allows or asks for."""
    yield path, schema.get("type", "anything")
    for value in schema.get("enum", []):
        yield path, f"may be {value}"
    for name in schema.get("required", []):
        yield f"{path}.{name}".lstrip("."), REQUIRED
    for name, inner in schema.get("properties", {}).items():
        yield from _facts(inner, f"{path}.{name}".lstrip("."))
    if isinstance(items := schema.get("items"), dict):
        yield from _facts(items, f"{path}[]")
    if isinstance(others := schema.get("additionalProperties"), dict):
        yield from _facts(others, f"{path}.*")
