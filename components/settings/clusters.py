"""The clusters, as configured and with every default filled in."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypeVar, cast

from pydantic import AfterValidator, Field

from components import product
from components.settings import kubeconfig as kubeconfigs
from components.settings.fields import (
    Address,
    DnsLabel,
    Domain,
    KubeconfigSource,
    Labels,
    PullSecret,
    Section,
    Source,
    Values,
    Version,
)

MANAGEMENT = "management"
"""The management cluster's name in the state; no worker may take it."""


def _namespace_labels(labels: Labels) -> Labels:
    for key, value in labels.items():
        if key in (product.INJECTION_LABEL, product.REVISION_LABEL):
            raise ValueError(
                f"{key} is not for these: the addons' namespace is injected and no other; take it out, and name a "
                "revision with istio.revision"
            )
        name = r"[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?"
        if not re.fullmatch(rf"([a-z0-9.-]{{1,253}}/)?{name}", key, re.ASCII) or not (
            re.fullmatch(rf"({name})?", value, re.ASCII)
        ):
            raise ValueError("labels are needed as Kubernetes takes them, such as {team: mesh}")
    return labels


class NamespacesSettings(Section):
    """The namespaces this program needs on a cluster."""

    create: bool = True
    """False where somebody else makes them; they are then only labelled."""
    labels: Annotated[Labels, AfterValidator(_namespace_labels)] = Field(default_factory=dict)
    """More labels for them."""


def _somebody_elses(secret: Source | None) -> Source | None:
    if secret and secret.kind == "path" and secret.value == product.PULL_SECRET:
        raise ValueError(
            f"{product.PULL_SECRET} is what the Secret is called that this program makes of {{secret: KEY}}, and takes "
            "away when there is no such key; call yours otherwise"
        )
    return secret


class ImagesSettings(Section):
    """Where images come from."""

    registry: str | None = Field(default=None, min_length=1, examples=["registry.example.com/gloo-mesh"])
    """A private registry, with its path, instead of the vendor's."""
    pull_secret: Annotated[PullSecret | None, AfterValidator(_somebody_elses)] = None
    """The name of a Secret in the namespaces, or {secret: KEY} to have it made from a top-level secret key."""
    fips: bool = False
    """The vendor's FIPS builds, tagged VERSION-fips."""

    @property
    def pull_secret_key(self) -> str | None:
        """The top-level secret key that the Secret is made from; None where there is none to make."""
        return self.pull_secret.value if self.pull_secret and self.pull_secret.kind == "secret" else None

    @property
    def pull_secret_name(self) -> str | None:
        """The Secret a pod names to pull its images: one that is there already, or the one that is made."""
        if self.pull_secret_key:
            return product.PULL_SECRET
        return self.pull_secret.value if self.pull_secret else None


class ResourcesSettings(Section):
    """A container's resources, as in Kubernetes."""

    requests: dict[Literal["cpu", "memory"], str] = Field(default_factory=dict)
    """What the scheduler sets aside, such as {cpu: 250m, memory: 256Mi}."""
    limits: dict[Literal["cpu", "memory"], str] = Field(default_factory=dict)
    """What it may not exceed."""


class IstioSettings(Section):
    """The Istio that a worker runs already."""

    revision: DnsLabel | None = None
    """Inject by istio.io/rev instead of istio-injection, and name istiod with it."""
    namespace: DnsLabel = "istio-system"
    """Where istiod runs."""


class TolerationSettings(Section):
    """A taint that pods may run in spite of, as in a pod's spec."""

    key: str | None = None
    """The taint's; every taint with Exists alone."""
    operator: Literal["Equal", "Exists"] | None = None
    """Equal when not given."""
    value: str | None = None
    """The taint's, for Equal."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Every effect when not given."""
    toleration_seconds: int | None = None
    """For NoExecute: how long; for ever when not given."""


class AddonsSettings(Section):
    """A worker's rate limiter and external authentication."""

    enabled: bool = True
    """Whether the worker has any."""
    node_selector: Labels = Field(default_factory=dict)
    """Labels of the nodes they may run on."""
    tolerations: list[TolerationSettings] = Field(default_factory=list)
    """Taints they may run in spite of."""


class WorkerValues(Section):
    """Helm values passed through to a worker's releases, last; {secret: KEY} anywhere in them is filled in."""

    agent: Values = Field(default_factory=dict)
    """Over the values of enterprise-agent."""
    addons: Values = Field(default_factory=dict)
    """Over the values of the addons."""


class FleetValues(WorkerValues):
    """Helm values passed through, last, a worker's own over the fleet's; {secret: KEY} in them is filled in."""

    management: Values = Field(default_factory=dict)
    """Over the values of gloo-mesh-enterprise."""


class _Cluster(Section):
    kubeconfig: KubeconfigSource | None = None
    """Instead of the fleet's."""
    cluster_domain: Domain = "cluster.local"
    """The cluster's DNS domain."""
    platform: Literal["kubernetes", "openshift"] = "kubernetes"
    """openshift: user ids float, the addons get their security context constraint and network attachment."""
    namespaces: NamespacesSettings = NamespacesSettings()
    images: ImagesSettings = ImagesSettings()
    resources: ResourcesSettings = ResourcesSettings()
    """Of the relay server's container, or of the agent's."""


class ManagementSettings(_Cluster):
    """The management cluster, as configured."""

    context: str = Field(min_length=1)
    """The kube context, as the kubeconfig names it."""
    disallow_intersecting_config: bool = False
    """Refuse policies that overlap."""
    prometheus: bool = True
    """The chart's own Prometheus."""


class DefaultsSettings(_Cluster):
    """What every worker has unless it says otherwise."""

    istio: IstioSettings = IstioSettings()
    addons: AddonsSettings = AddonsSettings()
    version: Version | None = None
    """The agents' version, where they lag behind the fleet's within its minor version."""
    values: WorkerValues = WorkerValues()


class WorkerSettings(DefaultsSettings):
    """One worker, as configured; its context is its name unless another is given."""

    context: str | None = Field(default=None, min_length=1)
    """The kube context, as the kubeconfig names it."""
    relay_address: Address | None = None
    """What this worker dials instead of the fleet's address."""


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """A cluster to connect to. `name` is its identity in the state; the context may be renamed."""

    # Of one that only the state knows these say nothing: it is made from the management cluster's settings.
    chart: ClassVar[str] = product.MANAGEMENT_CHART
    release: ClassVar[str] = product.MANAGEMENT_RELEASE
    deployment: ClassVar[str] = product.MANAGEMENT_DEPLOYMENT
    name: str
    kubeconfig: Source
    context: str
    cluster_domain: str
    platform: Literal["kubernetes", "openshift"]
    namespaces: NamespacesSettings
    images: ImagesSettings
    resources: ResourcesSettings
    version: str
    kubeconfig_content: object = field(default=None, repr=False)
    """Of a kubeconfig that is a secret, where it is decrypted."""

    @property
    def kubectl(self) -> str:
        """How a sentence begins the commands of kubectl that are to reach this cluster."""
        return f"kubectl {kubeconfigs.flag(self.kubeconfig)}--context {shlex.quote(self.context)}"

    @property
    def helm(self) -> str:
        """The same of Helm."""
        return f"helm {kubeconfigs.flag(self.kubeconfig)}--kube-context {shlex.quote(self.context)}"


@dataclass(frozen=True, kw_only=True)
class WorkerClusterSettings(ClusterSettings):
    """A worker, with every default filled in."""

    chart: ClassVar[str] = product.AGENT_CHART
    release: ClassVar[str] = product.AGENT_RELEASE
    deployment: ClassVar[str] = product.AGENT_DEPLOYMENT
    relay_address: str | None
    istio: IstioSettings
    addons: AddonsSettings
    values: WorkerValues


S = TypeVar("S", bound=Section)


def laid_over(under: Section, over: S) -> S:
    """`over`, with what it doesn't say taken from `under`, at every depth; a list wins whole."""
    taken: dict[str, Any] = {}
    for name in under.model_fields_set & type(over).model_fields.keys():
        below: object = getattr(under, name)
        if name not in over.model_fields_set:
            taken[name] = below
            continue
        above: object = getattr(over, name)
        if isinstance(below, Section) and isinstance(above, Section):
            taken[name] = laid_over(below, above)
        elif isinstance(below, dict) and isinstance(above, dict):
            taken[name] = layered(cast("Values", below), cast("Values", above))
    return over.model_copy(update=taken)


def layered(under: Mapping[str, Any], over: Mapping[str, Any]) -> Values:
    """Mappings laid over each other at every depth, as Helm does with values."""
    result = dict(under)
    for key, value in over.items():
        below = result.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[key] = layered(cast("Mapping[str, Any]", below), cast("Mapping[str, Any]", value)) if both else value
    return result
