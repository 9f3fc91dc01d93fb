"""Pulumi's property values as plain Python, and how two sets of them differ.

The engine is told that we don't take secrets: it strips them on the way in and marks the same paths again on the way
out. So only what a provider makes itself (a key, a password) is wrapped here.
"""

from collections.abc import Mapping
from typing import Any

from google.protobuf.struct_pb2 import Struct, Value

Properties = dict[str, Any]

UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET = "1b47061264138c4ac30d75fd1eb44270"


def secret(value: Any) -> Properties:
    """Mark a value so that the engine encrypts it in the state and hides it in every display."""
    return {SIGNATURE: SECRET, "value": value}


def plain(struct: Struct) -> Properties:
    """A message's properties; whole numbers become integers, and what is secret loses its mark."""
    return {key: _plain(value) for key, value in struct.fields.items()}


def _plain(value: Value) -> Any:
    match value.WhichOneof("kind"):
        case "struct_value":
            properties = plain(value.struct_value)
            return properties["value"] if properties.get(SIGNATURE) == SECRET else properties
        case "list_value":
            return [_plain(item) for item in value.list_value.values]
        case "number_value":
            return int(value.number_value) if value.number_value.is_integer() else value.number_value
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case _:
            return None


def packed(properties: Mapping[str, Any]) -> Struct:
    """Properties as the message the engine reads."""
    struct = Struct()
    struct.update(dict(properties))
    return struct


def has_unknowns(value: Any) -> bool:
    """Whether anything in the value is only known once something else is deployed."""
    match value:
        case dict():
            return any(map(has_unknowns, value.values()))
        case list():
            return any(map(has_unknowns, value))
        case _:
            return value == UNKNOWN


def merged(below: Any, above: Any) -> Any:
    """Two values on top of each other, object by object; what is above wins."""
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {key: merged(below.get(key), value) for key, value in above.items()}
    return above


def pruned(live: Any, inputs: Any) -> Any:
    """What of a live value we asked for; the rest (defaults, status, other people's fields) is not ours."""
    if isinstance(live, dict) and isinstance(inputs, dict):
        return {key: pruned(live[key], value) for key, value in inputs.items() if key in live}
    if isinstance(live, list) and isinstance(inputs, list) and len(live) == len(inputs):
        return [pruned(*pair) for pair in zip(live, inputs, strict=True)]
    return live


def differences(old: Any, new: Any, path: str = "") -> dict[str, str]:
    """Every path at which two values differ, as ADD, DELETE or UPDATE. A null is as good as nothing."""
    if isinstance(old, dict) and isinstance(new, dict):
        found: dict[str, str] = {}
        for key in old.keys() | new.keys():
            found |= differences(old.get(key), new.get(key), _step(path, key))
        return found
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        found = {}
        for index, pair in enumerate(zip(old, new, strict=True)):
            found |= differences(*pair, f"{path}[{index}]")
        return found
    if old == new:
        return {}
    return {path: "ADD" if old is None else "DELETE" if new is None else "UPDATE"}


def _step(path: str, key: str) -> str:
    if not key.replace("_", "").isalnum():
        return f'{path}["{key}"]'
    return f"{path}.{key}" if path else key
