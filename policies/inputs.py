"""A resource's inputs as the policy SDK hands them over: what is known, and what is secret.

In a preview a value may not be known yet. Reading it ends the rule for that resource with a note, so
rules that look at many values leave unknown ones out; `up` looks at them again.
"""

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pulumi_policy import ResourceValidationArgs
from pulumi_policy.deserialize import SPECIAL_SIG_KEY, serialize_properties
from pulumi_policy.proxy import UnknownValueError, unknown_checking_proxy


def at(inputs: Any, *path: str) -> Any:
    """The value at `path`, None where there is none.

    Raises UnknownValueError when it isn't known yet: the SDK then says that the rule couldn't be run.
    """
    for key in path:
        inputs = inputs.get(key) if isinstance(inputs, Mapping) else None
    return inputs


def known(inputs: Any, *path: str) -> Any:
    """The value at `path`, None where there is none or it isn't known yet."""
    try:
        return at(inputs, *path)
    except UnknownValueError:
        return None


def leaves(inputs: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every known scalar with its path; nothing of what the wire form marks as secret (see `wire`)."""
    if isinstance(inputs, Mapping):
        keys: Sequence[Any] = [] if SPECIAL_SIG_KEY in inputs else list(inputs)
    elif isinstance(inputs, Sequence) and not isinstance(inputs, str):
        keys = range(len(inputs))
    else:
        yield path, inputs
        return
    for key in keys:
        try:
            value = inputs[key]
        except UnknownValueError:
            continue
        yield from leaves(value, *path, str(key))


def wire(args: ResourceValidationArgs) -> Any:
    """A remediation's inputs as the engine sent them, secrets in their envelopes.

    Reading `args.props` takes every secret out of its envelope; writing them back to the wire, as the
    SDK does with what a remediation returns, is where it keeps them.
    """
    return unknown_checking_proxy(dict(serialize_properties(args.props)))


def secret_content(inputs: Mapping[str, Any]) -> dict[str, str | None]:
    """A Secret's keys with their decoded text, None where it isn't known yet."""
    content: dict[str, str | None] = {}
    for field in ("data", "stringData"):
        for key in known(inputs, field) or {}:
            text = known(inputs, field, key)
            content[key] = text if text is None or field == "stringData" else decoded(str(text))
    return content


def decoded(text: str) -> str:
    """What `text` says in base64, nothing when it isn't base64."""
    try:
        return base64.b64decode(text, validate=True).decode(errors="replace")
    except ValueError:
        return ""


def plain_and_decoded(text: str) -> str:
    """`text` and every PEM in it that went through base64, as kubeconfigs and Secrets hold them."""
    return "\n".join([text, *map(decoded, re.findall(r"LS0tLS1CRUdJTi[A-Za-z0-9+/]+=*", text))])
