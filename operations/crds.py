"""What a new version does to a CRD: fields and versions added or removed, and objects it would strand.

Pure comparison of two CustomResourceDefinitions (apiextensions.k8s.io/v1), as read from a cluster and from
a chart; and where an API server has them.
"""

import json
from collections.abc import Iterator
from typing import Any

COLLECTION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
KIND = "CustomResourceDefinition"
REQUIRED = "required"
CRD = dict[str, Any]
_TOLD = {"type", "enum", "required", "properties", "items", "additionalProperties"}
"""What a schema says that is told in words of its own."""
_IDLE = {"default", "description", "example", "externalDocs", "title"}
"""What refuses no object and drops nothing of one."""
_ALLOWING = {
    "nullable",
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
}
"""What only widens; every other word of a schema demands something."""
_LONG = 60
Fact = tuple[str, str, str]
"""A field's path, a word about it, and what that says."""


def changes(live: CRD, new: CRD) -> tuple[list[str], list[str]]:
    """What only widens the CRD, and what to look at first: removals, new demands, stored versions without a home."""
    before, after = _versions(live), _versions(new)
    harmless = [f"+ version {name}" for name in after if name not in before]
    risky = [f"- version {name}" for name in before if name not in after]
    for name in (name for name in before if name in after):
        had, has = set(_facts(_schema(before[name]), "")), set(_facts(_schema(after[name]), ""))
        known, left = {path for path, _, _ in had}, {path for path, _, _ in has}
        keeping = {path for path, word, _ in had if word == "x-kubernetes-preserve-unknown-fields"}
        for fact in sorted(has - had):
            path, word, _ = fact
            # Where nothing could be stored before, a demand harms nobody.
            stored = (path.rpartition(".")[0] if word == REQUIRED else path) in known
            stored |= any(path.startswith(f"{above}.".lstrip(".")) for above in keeping)
            (risky if _demands(word) and stored else harmless).append(f"+ {name} {_told(fact)}")
        for fact in sorted(had - has):
            path, word, _ = fact
            if word == "may be" and path in left and (path, "enum", "") not in has:
                # Any value may be there now.
                continue
            (harmless if _demands(word) else risky).append(f"- {name} {_told(fact)}")
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


def _facts(schema: dict[str, Any], path: str) -> Iterator[Fact]:
    """Everything that a schema allows or asks for, field by field."""
    yield path, "type", schema.get("type", "anything")
    if "enum" in schema:
        yield path, "enum", ""
    for value in schema.get("enum", []):
        yield path, "may be", str(value)
    for name in schema.get("required", []):
        yield f"{path}.{name}".lstrip("."), REQUIRED, ""
    for word in schema.keys() - _TOLD - _IDLE - {word for word in _ALLOWING if not schema.get(word)}:
        yield path, word, json.dumps(schema[word], sort_keys=True)
    for name, inner in schema.get("properties", {}).items():
        yield from _facts(inner, f"{path}.{name}".lstrip("."))
    if isinstance(items := schema.get("items"), dict):
        yield from _facts(items, f"{path}[]")
    if isinstance(others := schema.get("additionalProperties"), dict):
        yield from _facts(others, f"{path}.*")


def _demands(word: str) -> bool:
    return word not in {"type", "may be", *_ALLOWING}


def _told(fact: Fact) -> str:
    path, word, said = fact
    match word:
        case "type":
            return f"{path}: {said}"
        case "enum":
            return f"{path}: these values alone"
        case _:
            return f"{path}: {word} {said if len(said) <= _LONG else '(long)'}".rstrip()
