"""What is wrong with a configuration, a sentence each: the key's path, what it is, what to write."""

import difflib
import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any, get_args

from pydantic import BaseModel

from components.values_digest import MASKED

PROJECT = "gloo-mesh"
LICENSE_KEY = "licenseKey"
OIDC_CLIENT_SECRET = "oidcClientSecret"
CONTRADICTION = "contradiction"
"""The type of a fault of a whole section, rather than of a value in it."""


class ConfigurationError(Exception):
    """Everything that is wrong with a stack's configuration, a sentence each."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__(
            "This stack's configuration can't be deployed:\n" + "\n".join(f"- {fault}" for fault in faults)
        )
        self.faults = faults


def sentence(model: type[BaseModel], fault: Mapping[str, Any], secret: Collection[str]) -> str:
    """One of pydantic's findings in `model`, as a sentence; `secret` names the top-level keys not to repeat."""
    # pydantic marks a fault in an entry's name, rather than in its value, by a last step of its own.
    loc = fault["loc"][:-1] if len(fault["loc"]) > 1 and fault["loc"][-1] == "[key]" else fault["loc"]
    *where, last = map(str, loc)
    key = f"{PROJECT}:" + ".".join([*where, last])
    fields = _fields(model, where)
    if fault["type"] == "extra_forbidden":
        secrets = () if where else (LICENSE_KEY, OIDC_CLIENT_SECRET)
        return f"{key} is not a setting; {nearest(last, [*fields, *secrets])}."
    if fault["type"] == "missing":
        examples = fields[last].examples if last in fields else None
        return f"{key} is missing; write one{f', such as {examples[0]}' if examples else ''}."
    if fault["type"] == "too_short" and last == "workers":
        return f"{key} names no worker; write at least one, such as {{cluster-1: {{}}}}."
    if fault["type"] == CONTRADICTION:
        return f"{key} contradicts itself: {fault['msg']}."
    if fault["type"] in ("model_type", "dict_type"):
        reason = "a mapping is needed, such as {key: value}"
    elif fault["type"] == "list_type":
        reason = "a list is needed, such as [one, two]"
    elif fault["type"] == "string_type":
        reason = "a text is needed, in quotes where YAML takes it for something else"
    elif fault["type"] == "value_error":
        reason = str(fault["ctx"]["error"])
    else:
        reason = fault["msg"][0].lower() + fault["msg"][1:]
    return f"{key} is {MASKED if str(loc[0]) in secret else _shown(fault['input'])}; {reason}."


def nearest(name: str, known: Iterable[str]) -> str:
    """What somebody who wrote `name` may have meant."""
    near = difflib.get_close_matches(name, known := list(known), 1, 0.5)
    return f"the nearest is {near[0]}" if near else f"known are {', '.join(known) or 'none'}"


def _shown(value: object) -> str:
    """A value, unless it is large enough to be the content of something, which may hold credentials."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 and "\\n" not in text else "a text"


def _fields(model: type[BaseModel], path: Iterable[str]) -> dict[str, Any]:
    """By key, the fields of the section that `path` leads to from `model`; an entry's name leads to its value."""
    for step in path:
        field = _by_alias(model).get(step)
        inner = _section(field.annotation) if field else None
        model = inner or model
    return _by_alias(model)


def _by_alias(model: type[BaseModel]) -> dict[str, Any]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _section(annotation: Any) -> type[BaseModel] | None:
    """The section in an annotation such as `Section | None` or `dict[str, Section]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_section, get_args(annotation))), None)
