"""What the sections of a configuration are made of: their base, and the kinds of value they share.

Owns shapes that more than one section uses. Every check says in one sentence what is wrong and what to write.
"""

import os
import pwd
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

import semver
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from components import product
from components.settings.faults import CONTRADICTION


class Section(BaseModel):
    """Part of a configuration: frozen, keys in camel case, unknown ones refused, docstrings published."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, use_attribute_docstrings=True
    )


Kind = Literal["path", "env", "secret", "file"]


@dataclass(frozen=True)
class Source:
    """Where something that isn't written in the configuration itself comes from."""

    kind: Kind
    """`path` and `file`: a file, relative to the project or from `~`; `env`: a variable that holds a path;
    `secret`: a top-level secret key of this configuration that holds the content."""
    value: str

    def __str__(self) -> str:
        return self.value if self.kind == "path" else f"{{{self.kind}: {self.value}}}"


def from_home(path: str) -> Path:
    """A path from `~` as Pulumi's plugin takes it, which asks the system and not HOME; see docs/decisions/0006."""
    if not path.startswith("~/"):
        return Path(path)
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir, path[2:])
    except KeyError:
        return Path.home() / path[2:]


def is_encrypted(value: object) -> bool:
    """Whether a value is the mapping by which a stack's file holds a secret, opaque outside a deployment."""
    content = cast("dict[object, object]", value) if isinstance(value, dict) else {}
    return content.keys() == {"secure"} and isinstance(content["secure"], str)


def _source(needed: str, *kinds: Kind) -> Callable[[object], Source]:
    def parse(value: object) -> Source:
        if isinstance(value, Source):
            return value
        # Several lines are the content of a file, which is not what a path is.
        if "path" in kinds and isinstance(value, str) and value.strip() and "\n" not in value:
            return Source("path", value)
        if isinstance(value, dict) and len(cast("dict[object, object]", value)) == 1:
            ((kind, name),) = cast("dict[object, object]", value).items()
            found: Kind | None = next((known for known in kinds if known == kind and known != "path"), None)
            # A variable's name becomes a file's, see docs/decisions/0006.
            fitting = r"[A-Za-z_]\w*" if found == "env" else r"(?s).*\S.*"
            if found and isinstance(name, str) and re.fullmatch(fitting, name, re.ASCII):
                return Source(found, name)
        raise ValueError(needed)

    return parse


def written(title: str, pattern: str) -> WithJsonSchema:
    """What an editor and the reference are told of a text that a check of ours reads."""
    return WithJsonSchema({"type": "string", "title": title, "pattern": f"^({pattern})$"})


def contradiction(told: str) -> PydanticCustomError:
    """What a section's own validator raises when its keys, each right by itself, don't go together."""
    return PydanticCustomError(CONTRADICTION, "{told}", {"told": told})


def matching(pattern: str, needed: str) -> Callable[[str], str]:
    """A check that a text is of a shape; `needed` says which, with an example."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(needed)
        return value

    return check


_DURATION = r"([1-9]\d{0,5})([smh])"
_HOST_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = rf"{_HOST_LABEL}(\.{_HOST_LABEL})*|\[[0-9A-Fa-f:.]+\]"
_DNS_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"


def _exact_version(version: str) -> str:
    if not semver.Version.is_valid(version) or "+" in version:
        raise ValueError("an exact version is needed, without a leading v, such as 1.2.9")
    if version.split(".")[0] != product.SUPPORTED_MAJOR:
        raise ValueError(f"this program deploys {product.SUPPORTED_MAJOR}.x only, such as 1.2.9")
    return version


def _seconds(duration: object) -> object:
    match = re.fullmatch(_DURATION, str(duration))
    if not match:
        raise ValueError("a duration is needed, such as 90s, 5m or 1h")
    return int(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


def _address(address: str) -> str:
    host, _, port = address.rpartition(":")
    named = re.fullmatch(_HOST, host)
    if not named or not re.fullmatch(r"\d{1,5}", port) or not 0 < int(port) < 65536:
        raise ValueError("host:port is needed, such as relay.example.com:9900")
    return address


DnsLabel = Annotated[
    str,
    AfterValidator(
        matching(
            _DNS_LABEL,
            "a DNS label is needed: at most 63 lower-case letters, digits and dashes, such as cluster-1",
        )
    ),
    written("DNS label", _DNS_LABEL),
]
Domain = Annotated[
    str,
    AfterValidator(matching(_DOMAIN, "a DNS domain is needed, such as cluster.local")),
    written("DNS domain", _DOMAIN),
]
Version = Annotated[
    str,
    AfterValidator(_exact_version),
    written("exact version", rf"{product.SUPPORTED_MAJOR}\.\d+\.\d+(-[0-9A-Za-z.-]+)?"),
]
Seconds = Annotated[int, BeforeValidator(_seconds), written("duration, such as 5m", _DURATION)]
Address = Annotated[str, AfterValidator(_address), written("host:port", rf"({_HOST}):\d{{1,5}}")]
"""host:port."""
Labels = dict[str, str]
Values = dict[str, Any]
"""Values of a Helm chart, nested as in its values.yaml."""


def _schema(plain: str, *kinds: Kind) -> WithJsonSchema:
    forms: list[dict[str, Any]] = [{"type": "string", "title": plain, "pattern": r"^[^\n]*\S[^\n]*$"}] if plain else []
    forms += [
        {
            "type": "object",
            "title": f"{{{kind}: ...}}",
            "properties": {kind: {"type": "string"}},
            "required": [kind],
            "additionalProperties": False,
        }
        for kind in kinds
    ]
    return WithJsonSchema({"anyOf": forms})


kubeconfig_source = _source(
    "the path of a kubeconfig is needed, {env: NAME} of a variable that holds one, or {secret: KEY} of a "
    "top-level secret key that holds its content",
    "path",
    "env",
    "secret",
)
KubeconfigSource = Annotated[Source, BeforeValidator(kubeconfig_source), _schema("path", "env", "secret")]
PemSource = Annotated[
    Source,
    BeforeValidator(
        _source("{secret: KEY} of a top-level secret key that holds PEM, or {file: PATH}, is needed", "secret", "file")
    ),
    _schema("", "secret", "file"),
]
PullSecret = Annotated[
    Source,
    BeforeValidator(
        _source(
            "the name of a Secret that is there is needed, or {secret: KEY} of a top-level secret key that holds a "
            "registry's .dockerconfigjson",
            "path",
            "secret",
        )
    ),
    _schema("name", "secret"),
]
