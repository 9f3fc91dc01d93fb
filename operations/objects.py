"""Objects of the Kubernetes API as plain data: how Helm merges one, where two differ, and who wrote a field.

Pure comparison; nothing is asked of a cluster here.
"""

import json
from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]
FieldPath = tuple[str, ...]
"""Keys from the outside in; an item of a list is its name in brackets."""

SERVERS_OWN = ("status", "metadata.managedFields", "metadata.resourceVersion", "metadata.generation")
"""What only the API server writes."""
_QUANTITIES = {"limits", "requests", "sizeLimit"}
"""What holds quantities, or is one; the API server writes them in a form of its own: 1000m as 1, 1024Mi as 1Gi."""
_OURS = "pulumi-kubernetes"
"""How the names begin under which the plugin writes."""


def merged(old: Any, new: Any, live: Any) -> Any:
    """`live` as an upgrade from manifest `old` to `new` leaves it: what neither names stays (Helm 3's rule)."""
    if isinstance(new, dict) and isinstance(live, dict):
        old = old if isinstance(old, dict) else {}
        result = {key: value for key, value in live.items() if key in new or key not in old}
        for key, value in new.items():
            if value is None:
                result.pop(key, None)
            else:
                result[key] = merged(old.get(key), value, live.get(key))
        return result
    if (names := _names(new)) and (known := _names(live)) is not None:
        before = _names(old) or {}
        kept = [item for name, item in known.items() if name not in names and name not in before]
        return [merged(before.get(name), item, known.get(name)) for name, item in names.items()] + kept
    return new


def differences(before: Any, after: Any, path: FieldPath = ()) -> Iterator[FieldPath]:
    """Where two objects differ; list items go by their names where they have any."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            yield from differences(before.get(key), after.get(key), (*path, key))
    elif (names := _names(before)) is not None and (others := _names(after)) is not None:
        for name in sorted(names.keys() | others.keys()):
            yield from differences(names.get(name), others.get(name), (*path, f"[{name}]"))
    elif before != after:
        yield path


def differing(before: Any, after: Any) -> Iterator[str]:
    """The same, as people write them."""
    return map(written, differences(before, after))


def unlike(manifest: Any, live: Any, path: FieldPath = ()) -> Iterator[FieldPath]:
    """Where `live` isn't as `manifest` says, of what it says: defaults and others' additions don't count.

    A null says nothing. What the API server writes in another way of its own is named as well, but for quantities.
    """
    names, known = _names(manifest), _names(live)
    if manifest is None:
        return
    if isinstance(manifest, dict):
        for key, value in manifest.items():
            yield from unlike(value, live.get(key) if isinstance(live, dict) else None, (*path, key))
    elif names and known is not None:
        for name, item in names.items():
            yield from unlike(item, known.get(name), (*path, f"[{name}]"))
    elif isinstance(manifest, list) and isinstance(live, list) and len(manifest) == len(live):
        if any(True for item, other in zip(manifest, live, strict=True) for _ in unlike(item, other)):
            yield path
    elif manifest != live and (manifest or live) and _amount(manifest, path) != _amount(live, path):
        yield path


def written(path: FieldPath) -> str:
    """A path as people write it."""
    return ".".join(path).replace(".[", "[")


def at(value: Any, path: FieldPath, otherwise: Any = None) -> Any:
    """What is at a path, `otherwise` where there is nothing."""
    for step in path:
        below = _names(value) or {} if step.startswith("[") else value
        if not isinstance(below, dict) or step.strip("[]") not in below:
            return otherwise
        value = below[step.strip("[]")]
    return value


def holds(value: Any, path: FieldPath) -> bool:
    """Whether there is anything at a path."""
    return at(value, path, at) is not at


def writers(live: Object, path: FieldPath) -> list[str]:
    """Who wrote a field, by the API server's own notes, the last one first; empty where it has none."""
    entries = [
        entry
        for entry in live["metadata"].get("managedFields", [])
        if "fieldsV1" in entry and _holds(entry["fieldsV1"], path, live)
    ]
    return [entry["manager"] for entry in sorted(entries, key=lambda entry: entry.get("time", ""), reverse=True)]


def written_by_us(metadata: dict[str, Any] | None) -> bool:
    """Whether this program's plugin wrote anything of an object that is there, by the API server's own notes."""
    return any(entry.get("manager", "").startswith(_OURS) for entry in (metadata or {}).get("managedFields", []))


def _holds(fields: dict[str, Any], path: FieldPath, value: Any) -> bool:
    """Whether a set of fields (kubernetes.io: Server-Side Apply, fieldsV1) holds what is at `path` of `value`."""
    if not path or not fields:
        return True
    step, rest = path[0], path[1:]
    if not step.startswith("["):
        inner = fields.get(f"f:{step}")
        return inner is not None and _holds(inner, rest, value.get(step) if isinstance(value, dict) else None)
    item = (_names(value) or {}).get(step[1:-1]) or {}
    keyed = {name[2:]: inner for name, inner in fields.items() if name.startswith("k:")}
    return any(
        all(item.get(key) == wanted for key, wanted in json.loads(name).items()) and _holds(inner, rest, item)
        for name, inner in keyed.items()
    )


def _amount(value: Any, path: FieldPath) -> Any:
    """A value, as a number where it is a quantity."""
    if not _QUANTITIES & {*path[-2:]}:
        return value
    # Half a second to import.
    from kubernetes.utils import parse_quantity

    try:
        return parse_quantity(value)
    except ValueError:
        return value


def _names(items: Any) -> dict[str, Any] | None:
    """A list's items by name; None where they have none, or share one."""
    if not isinstance(items, list) or not all(isinstance(item, dict) and "name" in item for item in items):
        return None
    names = {item["name"]: item for item in items}
    return names if len(names) == len(items) else None
