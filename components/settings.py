"""The whole configuration of a stack: typed, frozen, every fault told at once as a sentence.

Owns what can be known without a cluster: shapes, names, contradictions, secrecy, and whether the
kubeconfig and the vendored charts named here can be read. It never contacts a cluster.
"""

import difflib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

import pulumi
import yaml
from pulumi.runtime.config import CONFIG
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from components import product
from components.charts import Charts

PROJECT = "gloo-mesh"
MANAGEMENT = "management"
SECRET_KEYS = ("licenseKey",)
"""Top-level keys that must be secret: Pulumi's Python SDK loses the secrecy of nested values."""


class ConfigurationError(pulumi.RunError):
    """Everything that is wrong with a stack's configuration, a sentence each."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__(
            "This stack's configuration can't be deployed:\n" + "\n".join(f"- {fault}" for fault in faults)
        )
        self.faults = faults


def _dns_label(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name):
        raise ValueError("a DNS label is needed: at most 63 lower-case letters, digits and dashes, such as cluster-1")
    return name


def _exact_version(version: str) -> str:
    if not re.fullmatch(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?", version):
        raise ValueError("an exact version is needed, without a leading v, such as 1.2.9")
    if version.split(".")[0] != product.SUPPORTED_MAJOR:
        raise ValueError(f"this program deploys {product.SUPPORTED_MAJOR}.x only, such as 1.2.9")
    return version


def _seconds(duration: object) -> object:
    match = re.fullmatch(r"([1-9]\d{0,5})([smh])", str(duration))
    if not match:
        raise ValueError("a duration is needed, such as 90s, 5m or 1h")
    return int(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


def _own_namespace(name: str) -> str:
    if name == product.ADDONS_NAMESPACE:
        raise ValueError("that one is injected and belongs to the addons; write another, such as gloo-mesh")
    return name


def _nothing_said(worker: object) -> object:
    """`cluster-1:` with nothing after it, as people write YAML, is a worker with every default."""
    return {} if worker is None else worker


DnsLabel = Annotated[str, AfterValidator(_dns_label)]
Seconds = Annotated[int, BeforeValidator(_seconds)]


class _Model(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)


class ManagementSettings(_Model):
    """The management cluster, as configured."""

    context: str = Field(min_length=1)
    kubeconfig: str | None = Field(None, min_length=1)


class WorkerSettings(_Model):
    """One worker, as configured; its context is its name unless another is given."""

    context: str | None = Field(None, min_length=1)
    kubeconfig: str | None = Field(None, min_length=1)
    cluster_domain: str = "cluster.local"


class RelaySettings(_Model):
    """How agents reach the relay server."""

    service: Literal["LoadBalancer"] = "LoadBalancer"
    ready_within: Seconds = 300
    """Seconds for the Service to be given an address."""


class PkiSettings(_Model):
    """Where the relay's certificates come from, and which profile they follow."""

    source: Literal["generated"] = "generated"
    profile: Literal["strict", "compat"] = "strict"


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """A cluster to connect to. `name` is its identity in the state; the context may be renamed."""

    name: str
    kubeconfig: str
    context: str
    cluster_domain: str = "cluster.local"


class Settings(_Model):
    """A stack's configuration, under `gloo-mesh:` in its file; see README for each key."""

    version: Annotated[str, AfterValidator(_exact_version)] = Field(examples=["1.2.9"])
    charts_folder: str = Field("charts", alias="charts", min_length=1)
    namespace: Annotated[DnsLabel, AfterValidator(_own_namespace)] = "gloo-mesh"
    protect: bool = True
    kubeconfig: str = Field("~/.kube/config", min_length=1)
    management: ManagementSettings = Field(examples=["{context: mgmt-cluster}"])
    workers: dict[DnsLabel, Annotated[WorkerSettings, BeforeValidator(_nothing_said)]] = Field(
        min_length=1, examples=["{cluster-1: {}}"]
    )
    relay: RelaySettings = RelaySettings()
    pki: PkiSettings = PkiSettings()

    @classmethod
    def load(cls) -> "Settings":
        """The settings of the deployment that is running, from the engine.

        Raises ConfigurationError, which Pulumi prints without a traceback.
        """
        prefix = f"{PROJECT}:"
        raw = {key.removeprefix(prefix): value for key, value in CONFIG.get().items() if key.startswith(prefix)}
        secret = {key for key in raw if pulumi.runtime.is_config_secret(prefix + key)}
        return cls.parse({key: _from_engine(value) for key, value in raw.items()}, secret)

    @classmethod
    def read(cls, stack_file: Path) -> "Settings":
        """The settings in a stack's file, outside a deployment: secrets stay opaque."""
        try:
            document: object = yaml.load(stack_file.read_text(), yaml.CSafeLoader)
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigurationError([f"{stack_file} can't be read: {' '.join(str(error).split())}."]) from None
        raw = _mapping(_mapping(document).get("config"))
        prefix = f"{PROJECT}:"
        config = {
            str(key).removeprefix(prefix): _from_engine(value)
            for key, value in raw.items()
            if str(key).startswith(prefix)
        }
        return cls.parse(config, {key for key, value in config.items() if "secure" in _mapping(value)})

    @classmethod
    def parse(cls, raw: Mapping[str, object], secret: Collection[str]) -> "Settings":
        """Settings from plain values, `secret` naming the keys that were given as secrets.

        Raises ConfigurationError with every fault there is, not the first.
        """
        faults = list(_secret_faults(raw, secret))
        settings = None
        wrong: set[object] = set()
        try:
            settings = cls.model_validate({key: value for key, value in raw.items() if key not in SECRET_KEYS})
        except ValidationError as error:
            wrong = {fault["loc"][0] for fault in error.errors()}
            faults += [_sentence(cls, fault, secret) for fault in error.errors()]
        faults += _cluster_faults(raw)
        if not wrong & {"version", "charts"}:
            faults += Charts.faults(Path(str(raw.get("charts", "charts"))), str(raw["version"]))
        if faults or settings is None:
            raise ConfigurationError(faults)
        return settings

    @property
    def license_key(self) -> pulumi.Output[str]:
        """The licence, secret; to be had within a deployment only."""
        return pulumi.Config(PROJECT).require_secret("licenseKey").apply(str.strip)

    @property
    def charts(self) -> Charts:
        """The vendored charts of this version, verified against their lock."""
        return Charts.load(Path(self.charts_folder), self.version)

    @property
    def management_cluster(self) -> ClusterSettings:
        """The management cluster, with every default filled in."""
        return ClusterSettings(
            name=MANAGEMENT,
            kubeconfig=self.management.kubeconfig or self.kubeconfig,
            context=self.management.context,
        )

    @property
    def worker_clusters(self) -> list[ClusterSettings]:
        """The workers by name, with every default filled in."""
        return [
            ClusterSettings(
                name=name,
                kubeconfig=worker.kubeconfig or self.kubeconfig,
                context=worker.context or name,
                cluster_domain=worker.cluster_domain,
            )
            for name, worker in sorted(self.workers.items())
        ]

    @property
    def authority(self) -> str:
        """The relay's server name; it follows the namespace, as the certificates' names do."""
        return product.relay_authority(self.namespace)


_LICENSE_MISSING = (
    f"{PROJECT}:licenseKey is missing; write it with: pulumi config set --secret {PROJECT}:licenseKey < FILE"
)


def _from_engine(value: object) -> object:
    """The engine, and `pulumi config set`, hand structured values over as JSON, everything else as written."""
    if not isinstance(value, str) or not value.startswith(("{", "[")):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def _mapping(value: object) -> dict[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _secret_faults(raw: Mapping[str, object], secret: Collection[str]) -> Iterator[str]:
    if not str(raw.get("licenseKey", "")).strip():
        yield _LICENSE_MISSING
    elif "licenseKey" not in secret:
        yield (
            f"{PROJECT}:licenseKey is in plaintext; remove it from the stack's file and write it with: "
            f"pulumi config set --secret {PROJECT}:licenseKey < FILE"
        )


def _sentence(model: type[BaseModel], fault: Any, secret: Collection[str]) -> str:
    # pydantic marks a fault in an entry's name, rather than in its value, by a last step of its own.
    loc = fault["loc"][:-1] if len(fault["loc"]) > 1 and fault["loc"][-1] == "[key]" else fault["loc"]
    *where, last = map(str, loc)
    key = f"{PROJECT}:" + ".".join([*where, last])
    for part in where:
        model = _model_of(model, part)
    if fault["type"] == "extra_forbidden":
        known = [field.alias or name for name, field in model.model_fields.items()]
        known += [] if where else SECRET_KEYS
        near = difflib.get_close_matches(last, known, 1, 0.5)
        return f"{key} is not a setting; {f'the nearest is {near[0]}' if near else 'known are ' + ', '.join(known)}."
    if fault["type"] == "missing":
        field = next(field for name, field in model.model_fields.items() if last in (name, field.alias))
        example = f", such as {field.examples[0]}" if field.examples else ""
        return f"{key} is missing; write one{example}."
    if fault["type"] == "too_short" and last == "workers":
        return f"{key} names no worker; write at least one, such as {{cluster-1: {{}}}}."
    if fault["type"] in ("model_type", "dict_type"):
        reason = "a mapping is needed, such as {context: mgmt-cluster}"
    elif fault["type"] == "value_error":
        reason = str(fault["ctx"]["error"])
    else:
        reason = fault["msg"][0].lower() + fault["msg"][1:]
    given = "(secret)" if str(loc[0]) in secret else json.dumps(fault["input"], default=str)
    return f"{key} is {given}; {reason}."


def _model_of(model: type[BaseModel], key: str) -> type[BaseModel]:
    """The model one step down from `model`; a mapping's own model where `key` is an entry's name."""
    for name, field in model.model_fields.items():
        if key in (name, field.alias):
            if name == "workers":
                return WorkerSettings
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                return field.annotation
    return model


def _cluster_faults(raw: Mapping[str, object]) -> Iterator[str]:
    """Contexts and kubeconfig files, read from the raw values so that no other fault hides these."""
    clusters = {MANAGEMENT: _mapping(raw.get("management"))}
    workers = _mapping(raw.get("workers"))
    clusters |= {f"workers.{name}": _mapping(worker) for name, worker in workers.items()}
    if MANAGEMENT in workers:
        yield f"{PROJECT}:workers.{MANAGEMENT} takes the management cluster's name; call that worker something else."
    used: dict[tuple[str, str], str] = {}
    known: dict[str, list[str] | str] = {}
    for where, cluster in clusters.items():
        path = str(cluster.get("kubeconfig") or raw.get("kubeconfig") or Settings.model_fields["kubeconfig"].default)
        context = cluster.get("context") or (None if where == MANAGEMENT else where.removeprefix("workers."))
        if path not in known:
            known[path] = _contexts(path)
            if isinstance(known[path], str):
                # Contents instead of a path hold credentials, which no message may repeat.
                shown = "the content of one" if "\n" in path or path.startswith("{") else path
                yield f"{PROJECT}:kubeconfig is {shown}; {known[path]}."
        contexts = known[path]
        if not isinstance(context, str):
            continue
        if (path, context) in used:
            yield (
                f"{PROJECT}:{used[path, context]} and {PROJECT}:{where} share the context {context}; "
                "a management cluster relays to other clusters, so give each a context of its own."
            )
        used.setdefault((path, context), where)
        if isinstance(contexts, list) and context not in contexts:
            near = difflib.get_close_matches(context, contexts, 1, 0.5)
            yield (
                f"{PROJECT}:{where} uses the context {context}, which {path} does not have; "
                f"{f'the nearest is {near[0]}' if near else 'it has ' + (', '.join(contexts[:5]) or 'none')}."
            )


def _contexts(kubeconfig: str) -> list[str] | str:
    """The contexts in a kubeconfig file, or what is wrong with it."""
    try:
        document = _mapping(yaml.load(Path(kubeconfig).expanduser().read_text(), yaml.CSafeLoader))
        return [str(entry["name"]) for entry in cast("list[dict[str, object]]", document["contexts"] or [])]
    except FileNotFoundError:
        return "there is no such file; write the path of one, such as ~/.kube/config"
    except (OSError, UnicodeDecodeError) as error:
        return (
            f"it can't be read ({getattr(error, 'strerror', None) or 'not text'}); write the path of a kubeconfig file"
        )
    except (yaml.YAMLError, KeyError, TypeError):
        return "it isn't a kubeconfig; write the path of one, such as ~/.kube/config"
    except (ValueError, RuntimeError):
        return "that can't be a path; write one, such as ~/.kube/config"
