"""The whole configuration of a stack: typed, frozen, every fault told at once as a sentence.

Owns what can be known without a cluster: shapes, names, contradictions, secrecy, and whether the
kubeconfigs and the vendored charts named here can be read. It never contacts a cluster. Each section has
a file of its own; this one holds the whole, and the contradictions between sections.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, cast

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, ValidationError

from components import product
from components.charts import Charts
from components.settings import kubeconfig as kubeconfigs
from components.settings.clusters import (
    MANAGEMENT,
    ClusterSettings,
    DefaultsSettings,
    FleetValues,
    ImagesSettings,
    ManagementSettings,
    WorkerClusterSettings,
    WorkerSettings,
    WorkerValues,
    laid_over,
)
from components.settings.faults import LICENSE_KEY, OIDC_CLIENT_SECRET, PROJECT, ConfigurationError, nearest, sentence
from components.settings.fields import DnsLabel, KubeconfigSource, Section, Source, Values, Version, kubeconfig_source
from components.settings.management import DashboardSettings, RbacSettings
from components.settings.pki import PkiSettings, pem_faults
from components.settings.relay import IstioGatewaySettings, RelaySettings
from components.settings.values import Release, holds_encrypted, secret_keys, undone
from components.settings.virtual_mesh import VirtualMeshSettings
from components.versions import skew

__all__ = [
    "MANAGEMENT",
    "PROJECT",
    "ClusterSettings",
    "ConfigurationError",
    "IstioGatewaySettings",
    "PkiSettings",
    "RelaySettings",
    "Settings",
    "WorkerClusterSettings",
    "configured",
    "encrypted",
    "structured",
]


def _own_namespace(name: str) -> str:
    if name == product.ADDONS_NAMESPACE:
        raise ValueError("that one is injected and belongs to the addons; write another, such as gloo-mesh")
    return name


def _nothing_said(worker: object) -> object:
    """`cluster-1:` with nothing after it, as people write YAML, is a worker with every default."""
    return {} if worker is None else worker


_may_be_empty = BeforeValidator(_nothing_said, json_schema_input_type=WorkerSettings | None)


class Settings(Section):
    """A stack's configuration, under `gloo-mesh:` in its file."""

    version: Version = Field(examples=["1.2.9"])
    """The exact version of Gloo Mesh Enterprise."""
    charts_folder: str = Field("charts", alias="charts", pattern=r"^[^\n]+$")
    """The folder of vendored charts and their lock."""
    namespace: Annotated[DnsLabel, AfterValidator(_own_namespace)] = "gloo-mesh"
    """Of the management plane and the agents; authority and certificates follow it."""
    protect: bool = True
    """Whether the relay's root key and certificate are protected from deletion."""
    kubeconfig: KubeconfigSource = kubeconfigs.DEFAULT
    """A path (relative to the project, or from ~), {env: NAME} or {secret: KEY}; exec plugins work."""
    images: ImagesSettings = ImagesSettings()
    management: ManagementSettings = Field(examples=["{context: mgmt-cluster}"])
    workers: dict[DnsLabel, Annotated[WorkerSettings, _may_be_empty]] = Field(
        min_length=1, examples=["{cluster-1: {}}"]
    )
    """By name, a DNS label that stays; contexts may be renamed."""
    defaults: DefaultsSettings = DefaultsSettings()
    relay: RelaySettings = RelaySettings()
    pki: PkiSettings = PkiSettings()
    dashboard: DashboardSettings = Field(examples=["{authentication: oidc, oidc: {...}}, or {authentication: none}"])
    rbac: RbacSettings | None = None
    """The RBAC webhook; off when not given."""
    virtual_mesh: VirtualMeshSettings | None = None
    """One VirtualMesh over every worker; none when not given."""
    values: FleetValues = FleetValues()
    _contents: dict[str, object] = PrivateAttr(default_factory=dict[str, object])
    """Of the secret keys, opaque outside a deployment."""
    _ended: list[str] = PrivateAttr(default_factory=list[str])

    @classmethod
    def read(cls, stack_file: Path, decrypted: Mapping[str, str] | None = None) -> "Settings":
        """The settings in a stack's file, outside a deployment: secrets stay opaque but for those given.

        On the day that a certificate has ended, looking at the fleet and mending it must go on.
        """
        config = configured(stack_file)
        return cls.parse({**config, **(decrypted or {})}, encrypted(config), dated=False)

    @classmethod
    def parse(cls, raw: Mapping[str, object], secret: Collection[str], *, dated: bool = True) -> "Settings":
        """Settings from plain values, `secret` naming the keys that were given as secrets.

        Raises ConfigurationError with every fault there is, not the first. Without `dated`, a certificate that has
        ended is none.
        """
        content = {LICENSE_KEY, OIDC_CLIENT_SECRET, *secret_keys(raw)}
        faults = list(_secret_faults(raw, secret))
        settings = None
        wrong: set[object] = set()
        try:
            settings = cls.model_validate({key: value for key, value in raw.items() if key not in content})
        except ValidationError as error:
            wrong = {fault["loc"][0] for fault in error.errors()}
            faults += [sentence(cls, fault, secret) for fault in error.errors()]
        settings_keys = {field.alias or name for name, field in cls.model_fields.items()}
        for key in sorted(settings_keys.intersection(secret) - content - wrong):
            faults.append(
                f"{PROJECT}:{key} holds an encrypted value, which would reach the state in plaintext; write that with: "
                f"{_written('NAME')}, and {{secret: NAME}} in its place."
            )
        faults += _cluster_faults(raw)
        namespace = raw.get("namespace", cls.model_fields["namespace"].default)
        authority = product.relay_authority(str(namespace))
        told = list(pem_faults(raw, authority, dated=True))
        faults += told if dated or not told else pem_faults(raw, authority, dated=False)
        if not wrong & {"version", "charts"}:
            faults += Charts.faults(Path(str(raw.get("charts", "charts"))), str(raw["version"]))
        if settings:
            lagging = {worker.version for worker in settings.worker_clusters} - {settings.version}
            for version in sorted(lagging):
                faults += Charts.faults(Path(settings.charts_folder), version, [product.AGENT_CHART])
            faults += settings._contradictions(raw)
        if faults or settings is None:
            raise ConfigurationError(faults)
        settings._contents = {key: value for key, value in raw.items() if key in content}
        # Whatever else was told is among the faults, of which there are none.
        settings._ended = told
        return settings

    def _contradictions(self, raw: Mapping[str, object]) -> Iterator[str]:
        """What no section can know alone; `raw` also holds the secret keys, opaque outside a deployment."""
        oidc = self.dashboard.authentication == "oidc"
        if oidc != (self.dashboard.oidc is not None):
            yield (
                f"{PROJECT}:dashboard.authentication is {self.dashboard.authentication}, but {PROJECT}:dashboard.oidc "
                f"is {'missing' if oidc else 'given'}; write both, or {{authentication: none}} alone."
            )
        yield from self.relay.contradictions([name for name in self.workers if not self.workers[name].relay_address])
        if not oidc and OIDC_CLIENT_SECRET in raw:
            yield (
                f"{PROJECT}:{OIDC_CLIENT_SECRET} is given, but {PROJECT}:dashboard.authentication is none; write oidc "
                f"there, or remove the secret with: pulumi config rm {PROJECT}:{OIDC_CLIENT_SECRET} --stack STACK"
            )
        created = {MANAGEMENT: self.management_cluster} | {
            f"workers.{worker.name}": worker for worker in self.worker_clusters if self.pki.per_worker
        }
        yield from self.pki.contradictions(
            self.workers.keys(), [where for where, cluster in created.items() if cluster.namespaces.create]
        )
        for where, values, release in self._values():
            yield from undone(where, values, release)
        pulled = {cluster.images.pull_secret_key for cluster in self.clusters}
        for key in sorted(raw.keys() & pulled):
            if not _mapping(raw[key]).keys() & {"auths", "secure"}:
                yield (
                    f"{PROJECT}:{key} isn't a registry's .dockerconfigjson, which has auths; write it with: "
                    f"{_written(key, '~/.docker/config.json')}"
                )
        for worker in self.worker_clusters:
            if reason := skew(worker.version, self.version):
                # Where the default is to blame, every worker that takes it is named.
                given = f"{PROJECT}:{'workers.' + worker.name if self.workers[worker.name].version else 'defaults'}"
                yield f"{given}.version gives {worker.name} the version {worker.version}; {reason}."

    def _values(self) -> Iterator[tuple[str, Values, Release]]:
        """Every place that passes values through, with the release they go to."""
        yield "values.management", self.values.management, "management"
        places: dict[str, WorkerValues] = {"values": self.values, "defaults.values": self.defaults.values}
        places |= {f"workers.{name}.values": worker.values for name, worker in self.workers.items()}
        for where, values in places.items():
            yield f"{where}.agent", values.agent, "agent"
            yield f"{where}.addons", values.addons, "addons"

    @property
    def ended(self) -> list[str]:
        """A sentence for each certificate given here that doesn't hold today, which a deployment refuses."""
        return self._ended

    @property
    def charts(self) -> Charts:
        """The vendored charts of this version, verified against their lock."""
        return Charts.load(Path(self.charts_folder), self.version)

    @property
    def management_cluster(self) -> ClusterSettings:
        """The management cluster, with every default filled in."""
        source = self.management.kubeconfig or self.kubeconfig
        return ClusterSettings(
            name=MANAGEMENT,
            kubeconfig=source,
            kubeconfig_content=self._contents.get(source.value),
            context=self.management.context,
            cluster_domain=self.management.cluster_domain,
            platform=self.management.platform,
            namespaces=self.management.namespaces,
            images=laid_over(self.images, self.management.images),
            resources=self.management.resources,
            version=self.version,
        )

    @property
    def worker_clusters(self) -> list[WorkerClusterSettings]:
        """The workers by name, with every default filled in."""
        return [self._worker(name, laid_over(self.defaults, self.workers[name])) for name in sorted(self.workers)]

    @property
    def clusters(self) -> list[ClusterSettings]:
        """The management cluster and the workers."""
        return [self.management_cluster, *self.worker_clusters]

    def _worker(self, name: str, worker: WorkerSettings) -> WorkerClusterSettings:
        source = worker.kubeconfig or self.kubeconfig
        return WorkerClusterSettings(
            name=name,
            kubeconfig=source,
            kubeconfig_content=self._contents.get(source.value),
            context=worker.context or name,
            cluster_domain=worker.cluster_domain,
            platform=worker.platform,
            namespaces=worker.namespaces,
            images=laid_over(self.images, worker.images),
            resources=worker.resources,
            version=worker.version or self.version,
            relay_address=worker.relay_address,
            istio=worker.istio,
            addons=worker.addons,
            values=laid_over(self.values, worker.values),
        )

    @property
    def authority(self) -> str:
        """The relay's server name; it follows the namespace, as the certificates' names do."""
        return product.relay_authority(self.namespace)


def configured(stack_file: Path) -> dict[str, object]:
    """What a stack's file says under this program's keys; a secret is the mapping that holds its encrypted form."""
    try:
        document: object = yaml.load(stack_file.read_text(), yaml.CSafeLoader)
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError([f"{stack_file} can't be read: {' '.join(str(error).split())}."]) from None
    raw = _mapping(_mapping(document).get("config"))
    prefix = f"{PROJECT}:"
    return {
        str(key).removeprefix(prefix): structured(value) for key, value in raw.items() if str(key).startswith(prefix)
    }


def encrypted(config: Mapping[str, object]) -> set[str]:
    """The keys that a stack's file holds encrypted, or a part of which it does."""
    return {key for key, value in config.items() if holds_encrypted(value)}


def structured(value: object) -> object:
    """A value of the configuration as it was meant.

    The engine, and `pulumi config set`, hand structured values over as JSON, everything else as written.
    """
    if not isinstance(value, str) or not value.startswith(("{", "[")):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def _mapping(value: object) -> dict[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _written(key: str, file: str = "FILE") -> str:
    """The command that writes a secret key."""
    return f"pulumi config set --secret {PROJECT}:{key} --stack STACK < {file}"


def _secret_faults(raw: Mapping[str, object], secret: Collection[str]) -> Iterator[str]:
    needed = {LICENSE_KEY, *secret_keys(raw), *({OIDC_CLIENT_SECRET} & raw.keys())}
    if _mapping(raw.get("dashboard")).get("authentication") == "oidc":
        needed.add(OIDC_CLIENT_SECRET)
    for key in sorted(needed):
        if not str(raw.get(key, "")).strip():
            yield f"{PROJECT}:{key} is missing; write it with: {_written(key)}"
        elif key not in secret:
            yield (
                f"{PROJECT}:{key} is in plaintext; remove it from the stack's file and write it with: {_written(key)}"
            )


def _cluster_faults(raw: Mapping[str, object]) -> Iterator[str]:
    """Contexts and kubeconfigs, read from the raw values so that no other fault hides these."""
    clusters = {MANAGEMENT: _mapping(raw.get("management"))}
    workers = _mapping(raw.get("workers"))
    clusters |= {f"workers.{name}": _mapping(worker) for name, worker in workers.items()}
    if MANAGEMENT in workers:
        yield f"{PROJECT}:workers.{MANAGEMENT} takes the management cluster's name; call that worker something else."
    if "default" in workers:
        yield f"{PROJECT}:workers.default takes the name of Pulumi's own providers; call that worker something else."
    used: dict[tuple[Source, str], str] = {}
    known: dict[Source, kubeconfigs.Kubeconfig | None] = {}
    for where, cluster in clusters.items():
        levels = {where: cluster, "defaults": {} if where == MANAGEMENT else _mapping(raw.get("defaults"))}
        below = next((level for level, section in levels.items() if section.get("kubeconfig")), None)
        given = levels[below]["kubeconfig"] if below else raw.get("kubeconfig", kubeconfigs.DEFAULT)
        key = f"{PROJECT}:{f'{below}.' if below else ''}kubeconfig"
        try:
            source = kubeconfig_source(given)
        except ValueError:
            continue
        if source not in known:
            known[source] = None
            try:
                known[source] = kubeconfigs.read(source, raw)
            except kubeconfigs.KubeconfigError as error:
                yield f"{key} is {source}; {error}."
        context = cluster.get("context") or (None if where == MANAGEMENT else where.removeprefix("workers."))
        if not isinstance(context, str):
            continue
        if (source, context) in used:
            yield (
                f"{PROJECT}:{used[source, context]} and {PROJECT}:{where} share the context {context}; "
                "a management cluster relays to other clusters, so give each a context of its own."
            )
        used.setdefault((source, context), where)
        if not (kubeconfig := known[source]):
            continue
        if context not in kubeconfig.contexts:
            gone = " If it went with its cluster, take the entry out, and forget the cluster (docs/runbooks/access.md)."
            yield (
                f"{PROJECT}:{where} uses the context {context}, which {source} does not have; "
                f"{nearest(context, kubeconfig.contexts[:20])}.{'' if where == MANAGEMENT else gone}"
            )
        for stray in kubeconfig.strays(context):
            yield (
                f"{PROJECT}:{where} uses the context {context}, whose {stray} is relative to {source}; Pulumi's plugin "
                "would look for it from the project's folder, so write the whole path there."
            )
