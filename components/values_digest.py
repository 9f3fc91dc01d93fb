"""A digest of a release's values that says nothing of its secrets, and comes out the same wherever it is made.

Owns what stands for a secret, where that was put, and how values are brought to one form: Helm's record holds them as
they came out of a deployment, which makes whole numbers of some and keeps no difference between nothing and null.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

MASKED = "(secret)"

FieldPath = Sequence[str | int]
"""Keys and list positions, from the outside in."""


def digest(values: object) -> str:
    """The sha256 of values in which every secret is masked, in hex."""
    return hashlib.sha256(json.dumps(_normal(values), sort_keys=True).encode()).hexdigest()


def masked_paths(values: object, path: tuple[str | int, ...] = ()) -> Iterator[FieldPath]:
    """Where something is masked."""
    if values == MASKED:
        yield path
    for key, inner in _inside(values):
        yield from masked_paths(inner, (*path, key))


def masked(values: object, paths: Iterable[FieldPath]) -> object:
    """A copy of values with something masked at each of `paths`, as far as there is anything."""
    for path in paths:
        values = _masked(values, path)
    return values


def _masked(value: object, path: FieldPath) -> object:
    if not path:
        return MASKED
    first, rest = path[0], path[1:]
    changed = {key: _masked(inner, rest) if key == first else inner for key, inner in _inside(value)}
    if isinstance(value, list):
        return list(changed.values())
    return changed if isinstance(value, Mapping) else value


def _inside(value: object) -> Iterable[tuple[str | int, object]]:
    if isinstance(value, Mapping):
        return list(cast("Mapping[str, object]", value).items())
    return list(enumerate(cast("list[object]", value))) if isinstance(value, list) else []


def _normal(value: object) -> Any:
    if isinstance(value, Mapping):
        given = cast("Mapping[str, object]", value)
        return {key: _normal(inner) for key, inner in given.items() if inner is not None}
    if isinstance(value, list):
        return [_normal(inner) for inner in cast("list[object]", value)]
    return int(value) if isinstance(value, float) and value.is_integer() else value
