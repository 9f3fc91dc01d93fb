"""What an `up` would fail over, or harm, found before anything is written: `operations preflight`.

Owns the look at all clusters at once, and its order. What there is to find is declared by the file that looks for it.
Nothing is written: what is posted are reviews, which no server keeps.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from components import product
from components.charts import Charts
from components.settings import MANAGEMENT, ClusterSettings, Settings, WorkerClusterSettings
from operations import charts, lock
from operations.api import Api, Refused
from operations.deadline import started
from operations.everywhere import Looked, look
from operations.findings import Finding, Kind
from operations.preflight import (
    access,
    chart_objects,
    clusters,
    collisions,
    identity,
    istio,
    permissions,
    platform,
    remembered,
    trust,
    versions,
)
from operations.preflight.chart_objects import Coming
from operations.preflight.clusters import KUBE_SYSTEM
from operations.preflight.ownership import Identity, Ownership
from operations.record import Record
from operations.stack import Stack, command
from operations.state import State

SECONDS = 90
"""Deadline of looking at a cluster, its login aside; what is compared last waits for other clusters' logins."""

CHARTS_ALTERED = Kind(
    "charts-altered", "An up of that version is refused, because it isn't what was reviewed and locked.", "charts"
)


@dataclass(frozen=True)
class Preflight:
    """What was found, and which clusters could not be looked at."""

    findings: list[Finding]
    unreachable: dict[str, Exception]
    kubernetes: dict[str, str] = field(default_factory=dict)
    """By cluster that could be looked at, its version."""

    @property
    def stopping(self) -> list[Finding]:
        """What no `up` should begin with."""
        return [finding for finding in self.findings if finding.kind.stops]

    def told(self, stack: str) -> list[Finding]:
        """What to tell of it: of what stops an `up`, only who holds the stack, where the backend lists that.

        An update that runs, or was cut off, may have made what is in the way before the state knows of it, and no
        remedy for somebody else's objects is meant for those. Where nobody could look is told in any case.
        """
        held = [one.finding(stack) for one in lock.listed(stack)] if self.stopping else []
        return [*held, *(finding for finding in self.findings if not held or finding.kind.unseen)]


@dataclass(frozen=True)
class _Seen:
    """What one cluster has, for comparison with the others and with the state."""

    kubernetes: str
    findings: list[Finding]
    namespaces: dict[str, dict[str, Any] | None]
    """By name, the metadata of each that may be looked at; None where there is none."""
    there: collisions.Seen
    root: frozenset[str]
    record: Record | None
    secrets: trust.Held


def preflight(stack: Stack, settings: Settings, exported: State) -> Preflight:
    """Look at every cluster of a stack, of which `exported` is the state."""
    ours = Ownership.of(exported)
    coming = chart_objects.coming(stack, settings, ours)
    wanted = collisions.made(settings)
    demands = {
        (name, version): charts.demands(Charts.load(Path(settings.charts_folder), version), name)
        for name, version in {(cluster.chart, cluster.version) for cluster in settings.clusters}
    }

    def at(cluster: ClusterSettings, api: Api) -> _Seen:
        return _look(settings, cluster, api, wanted, demands[cluster.chart, cluster.version], coming)

    leaving = remembered.leaving(exported, settings)
    # At the same time: those that hang take five seconds once.
    (aside,) = started(lambda left: remembered.strangers(exported, left, settings.namespace), (leaving,), 1)
    looked = look(settings.clusters, at, SECONDS)
    strangers, silent = aside.result()
    closed = [access.finding(cluster, silent[cluster.name]) for cluster in leaving if cluster.name in silent]
    findings = [
        *([coming.missing] if coming.missing else []),
        *_findings(stack.name, settings, looked, ours, demands),
        *_leaving(stack.name, [*closed, *strangers]),
    ]
    return Preflight(findings, looked.unseen | silent, {name: seen.kubernetes for name, seen in looked.seen.items()})


def _look(
    settings: Settings,
    cluster: ClusterSettings,
    api: Api,
    wanted: list[Identity],
    demands: charts.Demands,
    coming: Coming,
) -> _Seen:
    unfit = list(versions.findings(cluster, api.version, demands, settings.charts_folder))
    found = [*platform.clock(cluster, api), *permissions.findings(settings, cluster, api), *unfit]
    root, record = frozenset[str](), None
    names = [KUBE_SYSTEM, settings.namespace]
    if isinstance(cluster, WorkerClusterSettings):
        names += [product.ADDONS_NAMESPACE] if cluster.addons.enabled else []
        found += istio.worker(cluster, api, mesh=bool(settings.virtual_mesh))
        root = istio.root(cluster, api) if settings.virtual_mesh else root
    else:
        found += platform.load_balancer(settings, api)
        if settings.relay.istio_gateway:
            found += istio.gateway(settings, settings.relay.istio_gateway, api)
        if settings.rbac:
            found += identity.findings(cluster, api, settings.rbac.admin_subjects)
        record = _record(api, settings.namespace)
    namespaces: dict[str, dict[str, Any] | None] = {}
    for name in names:
        # Whether one may look is told with the rights; what nobody may see isn't gone.
        with suppress(Refused):
            namespaces[name] = api.named(f"/api/v1/namespaces/{name}")
    found += istio.injected(cluster, settings.namespace, namespaces.get(settings.namespace))
    there, secrets = collisions.look(cluster, api, wanted, namespaces, demands.crds), trust.held(settings, cluster, api)
    # Last, because it takes longest; and Helm renders no chart for a Kubernetes that isn't the chart's.
    found += chart_objects.findings(cluster, api, coming) if not unfit else []
    return _Seen(api.version, found, namespaces, there, root, record, secrets)


def _findings(
    stack: str,
    settings: Settings,
    looked: Looked[_Seen],
    ours: Ownership,
    demands: Mapping[tuple[str, str], charts.Demands],
) -> list[Finding]:
    seen = looked.seen
    management = seen.get(MANAGEMENT)
    strangers = list(
        clusters.findings(
            settings,
            {
                name: {namespace: found["uid"] if found else None for namespace, found in cluster.namespaces.items()}
                for name, cluster in seen.items()
            },
            {name: cluster.there.crds for name, cluster in seen.items()},
            ours,
            stack,
        )
    )
    # What lies on somebody else's cluster is no news.
    own = {name: cluster for name, cluster in seen.items() if name not in {finding.where for finding in strangers}}
    crds = {cluster.name: list(demands[cluster.chart, cluster.version].crds) for cluster in settings.clusters}
    # The configuration itself is refused for those of the versions it names.
    faults = charts.verify(Path(settings.charts_folder))
    verify = f"python -m operations charts verify --charts {settings.charts_folder}"
    return [
        *(CHARTS_ALTERED.found("charts", fault, verify) for fault in faults),
        *(
            access.finding(cluster, looked.unseen[cluster.name])
            for cluster in settings.clusters
            if cluster.name in looked.unseen
        ),
        *strangers,
        *(finding for cluster in own.values() for finding in cluster.findings),
        *collisions.findings(
            settings,
            {name: cluster.there for name, cluster in own.items()},
            ours,
            crds,
            management.record if management else None,
            stack,
        ),
        *istio.roots(settings, {name: cluster.root for name, cluster in own.items()}),
        *trust.findings(settings, {name: cluster.secrets for name, cluster in own.items()}, ours.made - ours.kept),
    ]


def _leaving(stack: str, found: Iterable[Finding]) -> Iterator[Finding]:
    """What is wrong with the clusters that an up takes away, with the other way to be rid of them."""
    for finding in found:
        forget = command(f"forget {finding.where}", stack)
        yield replace(finding, remedy=f"{finding.remedy.removesuffix('.')}; if the cluster is gone for good: {forget}")


def _record(api: Api, namespace: str) -> Record | None:
    try:
        return Record.read(api, namespace)
    except Refused:
        return None
