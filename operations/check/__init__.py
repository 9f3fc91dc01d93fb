"""Whether a fleet is well: all its clusters, each looked at once, at the same time; nothing is written.

Owns the order: what everything is compared with comes first, then every cluster, then what only shows between them.
What is looked at, and what is wrong with it, is told in a file a noun.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from components import product
from components.connection import reason
from components.settings import MANAGEMENT, ClusterSettings, Settings
from operations import everywhere
from operations.api import Api, Refused, Unanswered
from operations.check import certificates, definitions, hand_changes, mesh, relay, releases, workloads
from operations.check.relay import Gauges
from operations.check.view import Fleet, View
from operations.everywhere import Looked
from operations.findings import Finding, Kind
from operations.record import Record

SECONDS = 15
"""Deadline of looking at a cluster, its login aside."""

UNSEEN = Kind(
    "cluster-not-seen",
    why="What is wrong there stays unknown, and an up does nothing on it.",
    page="workloads",
    unseen=True,
)
UNRECORDED = Kind(
    "record-missing",
    why="No up of this fleet came to its end, or somebody deleted its record: there is nothing to compare with.",
    page="releases",
)
UNDEPLOYED = Kind(
    "worker-not-deployed",
    why="The configuration has the worker and the fleet's record doesn't, so it is no part of the fleet yet.",
    page="releases",
)


@dataclass
class Cluster:
    """What one cluster runs."""

    version: str | None = None
    """Of its release's chart."""
    image: str | None = None
    """The tag of the management plane's image, or of the agent's."""
    behind: bool | None = None
    """Whether a worker's lags behind the management plane's; None where that can't be said."""
    ready: str = ""
    """Deployments that are, of those there are."""
    pull: float | None = None
    push: float | None = None
    """The relay's clients of it; of workers alone."""
    findings: list[Finding] = field(default_factory=list)
    address: str | None = None
    """What its agent dials."""
    certified: bool = True
    """Whether its agent's certificate is where the agent keeps it."""
    gauges: Gauges | None = None
    """What the relay says of the workers; of the management cluster alone."""

    def report(self) -> dict[str, Any]:
        """For machines."""
        return {
            "version": self.version,
            "image": self.image,
            "behind": self.behind,
            "ready": self.ready,
            "pull": self.pull,
            "push": self.push,
        }


@dataclass(frozen=True)
class Checked:
    """A fleet at one moment."""

    clusters: dict[str, Cluster]
    """By name, those that could be looked at."""
    findings: list[Finding]


def check(stack: str, settings: Settings) -> Checked:
    """Look at every cluster of a stack."""
    first = _fleet(stack, settings)
    fleet = first.seen.get(MANAGEMENT, Fleet(stack=stack, settings=settings))
    # What others are compared with has to come from one look: a management cluster that failed it is not seen.
    asked = [cluster for cluster in settings.clusters if cluster.name not in first.unseen]
    looked = everywhere.look(asked, lambda cluster, api: _seen(View(cluster, api, fleet)), SECONDS)
    seen = looked.seen
    findings = [_unseen(fleet, name, error) for name, error in {**first.unseen, **looked.unseen}.items()]
    if fleet.record is None and MANAGEMENT in seen:
        findings.append(_unrecorded(fleet))
        if not any(cluster.version for cluster in seen.values()):
            return Checked(seen, findings)
    if fleet.record and (strangers := list(fleet.record.of_another(stack, "check"))):
        # Whatever differs from what this stack says is as that one has it.
        return Checked(seen, [*findings, *strangers])
    for name, cluster in seen.items():
        # Where no up has been yet, everything is missing.
        reached = name in fleet.record.versions if fleet.record else cluster.version
        findings += cluster.findings if reached else []
    findings += _between(fleet, seen)
    order = [cluster.name for cluster in settings.clusters]
    findings.sort(key=lambda finding: order.index(finding.where) if finding.where in order else len(order))
    return Checked(seen, findings)


def _fleet(stack: str, settings: Settings) -> Looked[Fleet]:
    """What the management cluster holds for the others to be compared with."""

    def first(cluster: ClusterSettings, api: Api) -> Fleet:
        view = View(cluster, api, Fleet(stack=stack, settings=settings))
        kinds = f"/apis/{product.CLUSTER_API_VERSION}/namespaces/{view.namespace}/{product.CLUSTER_PLURAL}"
        registered = frozenset(item["metadata"]["name"] for item in view.items(kinds))
        record = Record.read(api, view.namespace)
        return Fleet(stack=stack, settings=settings, record=record, trust=view.secrets(), registered=registered)

    return everywhere.look([settings.management_cluster], first, SECONDS)


def _seen(view: View) -> Cluster:
    cluster = Cluster()
    deployed = releases.deployed(view)
    own = deployed.get(view.cluster.release)
    cluster.version = own.version if own else None
    cluster.image = releases.image(view, view.cluster.deployment)
    cluster.findings += releases.findings(view, deployed)
    foreign = releases.foreign(view, deployed)
    cluster.findings += foreign.values()
    # What somebody else deployed is no measure for its objects, and nothing to bring back.
    ours = {name: release for name, release in deployed.items() if name not in foreign}
    if not any(map(definitions.are, foreign)):
        cluster.findings += definitions.findings(view, ours)
    cluster.findings += hand_changes.findings(view, ours)
    cluster.findings += workloads.findings(view, hand_changes.scaled(view, ours))
    cluster.ready = workloads.ready(view)
    if view.worker:
        held = view.secrets()
        cluster.certified = product.RELAY_CLIENT_SECRET in held
        cluster.address = relay.address(view)
        cluster.findings += certificates.worker(view, held)
        cluster.findings += relay.unregistered(view)
        cluster.findings += mesh.issued(view)
    else:
        cluster.findings += certificates.management(view, view.fleet.trust)
        cluster.findings += mesh.policies(view)
        try:
            cluster.gauges = relay.gauges(view)
        except Unanswered as error:
            cluster.findings.append(relay.metrics_unread(view, error))
    return cluster


def _between(fleet: Fleet, seen: dict[str, Cluster]) -> Iterator[Finding]:
    """What shows between clusters."""
    found = seen[MANAGEMENT].gauges if MANAGEMENT in seen else None
    workers = {name: cluster for name, cluster in seen.items() if name != MANAGEMENT}
    if found:
        for name, cluster in workers.items():
            cluster.pull, cluster.push = found.pull.get(name, 0), found.push.get(name, 0)
        yield from relay.connections(fleet, found)
        connected = {name for name, cluster in workers.items() if cluster.push}
        yield from certificates.lost(fleet, [name for name in connected if not workers[name].certified])
    if MANAGEMENT in seen:
        management = seen[MANAGEMENT].image
        for cluster in workers.values():
            cluster.behind = releases.lags(cluster.image, management)
        yield from releases.skewed(fleet, management, {name: cluster.image for name, cluster in workers.items()})
    if fleet.settings.relay.dial_from_here:
        yield from relay.dialled(fleet, [cluster.address for cluster in workers.values() if cluster.address])
    if fleet.record:
        for name in sorted(fleet.settings.workers.keys() - fleet.record.versions.keys()):
            what = f"The fleet's record has no {name}: it is configured, and no up has deployed it."
            yield UNDEPLOYED.found(name, what, fleet.up)


def _unseen(fleet: Fleet, name: str, error: Exception) -> Finding:
    cluster = next(cluster for cluster in fleet.settings.clusters if cluster.name == name)
    # Whoever lacks a right has to know which, and the server's own words may be long.
    asked = f"{error.asked}: " if isinstance(error, Refused) else ""
    return UNSEEN.found(
        name,
        f"The cluster (context {cluster.context}) couldn't be looked at: {asked}{reason(error)}.",
        f"{cluster.kubectl} get --raw /readyz",
    )


def _unrecorded(fleet: Fleet) -> Finding:
    what = (
        f"There is no record of this fleet in ConfigMap {product.FLEET_CONFIG_MAP} in namespace "
        f"{fleet.settings.namespace}."
    )
    return UNRECORDED.found(MANAGEMENT, what, fleet.up)
