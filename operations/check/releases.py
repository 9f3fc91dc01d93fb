"""Helm's releases against the fleet's record.

Owns what Helm remembers of them: which there are, of which chart version, with which values, and whether their last
upgrade came to its end. What became of their objects since is `hand_changes`'s.
"""

import re
from collections.abc import Iterator, Mapping

from semver import Version

from components import product
from components.values_digest import digest, masked
from components.versions import skew
from operations.check.view import Fleet, View
from operations.findings import Finding, Kind
from operations.releases import Deployed, descriptions, recorded

MISSING = Kind(
    "release-missing",
    why="Helm doesn't know what runs there any more, so nothing upgrades it and an install collides with what is left.",
    page="releases",
)
UNFINISHED = Kind(
    "release-unfinished",
    why="Its last upgrade failed or was cut off, so a part of the objects may be new and the rest old.",
    page="releases",
)
VERSION = Kind(
    "release-version",
    why="Either an up ended before it could write its record, or somebody upgraded or rolled back past this program, "
    "whose next change starts from a version it doesn't know.",
    page="releases",
)
VALUES = Kind(
    "release-values",
    why="Either an up ended before it could write its record, or somebody upgraded it with other values, which the "
    "next up takes back.",
    page="releases",
)
BY_HAND = Kind(
    "release-by-hand",
    why="Version and values are as recorded, but not who deployed them: the chart itself may be another one, no "
    "preview shows it, and no up takes it back.",
    page="releases",
)
SKEW = Kind(
    "agent-skew",
    why="An agent works for a management plane of its own minor version that isn't older than itself.",
    page="releases",
)

_ROLLBACK = re.compile(r"Rollback to (\d+)")
"""Helm's own description of a revision that a rollback made."""


def expected(view: View) -> dict[str, str]:
    """The releases that a cluster should have, with their namespaces."""
    worker = view.worker
    if worker is None:
        names = [product.MANAGEMENT_RELEASE, product.crds_chart(product.MANAGEMENT_CHART)]
    else:
        names = [product.AGENT_RELEASE, product.crds_chart(product.AGENT_CHART)]
    addons = [product.ADDONS_RELEASE] if worker and worker.addons.enabled else []
    return dict.fromkeys(names, view.namespace) | dict.fromkeys(addons, product.ADDONS_NAMESPACE)


def deployed(view: View) -> dict[str, Deployed]:
    """Those of them that Helm has a record of."""
    wanted = expected(view)
    found: dict[str, Deployed] = {}
    for namespace in dict.fromkeys(wanted.values()):
        found |= recorded(view.api, namespace, [name for name in wanted if wanted[name] == namespace])
    return found


def findings(view: View, found: dict[str, Deployed]) -> Iterator[Finding]:
    """Releases that aren't as the fleet's record has them."""
    record = view.fleet.record
    for name, namespace in expected(view).items():
        release, called = found.get(name), f"Helm release {name} in namespace {namespace}"
        if release is None:
            yield MISSING.found(view.name, f"There is no {called}.", view.fleet.up)
            continue
        if release.status != "deployed":
            what = f"The newest revision of {called} is {release.status}."
            recover = f"python -m operations recover --stack {view.fleet.stack}"
            yield UNFINISHED.found(view.name, what, view.fleet.up if release.status == "failed" else recover)
        if record is None or view.name not in record.versions:
            continue
        if release.version != record.versions[view.name]:
            what = f"{called} is of chart version {release.version}, and the fleet's record says "
            yield VERSION.found(view.name, f"{what}{record.versions[view.name]}.", view.fleet.up)
            continue
        key = f"{view.name}/{name}"
        # A record of an earlier program doesn't say where the secrets are.
        if key in record.masked and digest(masked(release.values, record.masked[key])) != record.values[key]:
            what = f"{called} (revision {release.revision}) has other values than the fleet's record knows."
            yield VALUES.found(view.name, what, view.fleet.up)
        elif release.status == "deployed" and release.description != product.RELEASE_DESCRIPTION:
            yield from _by_hand(view, name, release)


def _by_hand(view: View, name: str, release: Deployed) -> Iterator[Finding]:
    """That the revision in force is somebody else's; one that goes back to a revision is what that was."""
    known = descriptions(view.api, release.namespace, name)
    source = release.revision
    while (rollback := _ROLLBACK.fullmatch(known.get(source, ""))) and int(rollback[1]) < source:
        source = int(rollback[1])
    if known.get(source) in (product.RELEASE_DESCRIPTION, None):
        # Helm keeps ten revisions; what an older one was nobody knows any more.
        return
    ours = [revision for revision, description in known.items() if description == product.RELEASE_DESCRIPTION]
    remedy = f"rollback {name} {max(ours)}" if ours else f"history {name}"
    yield BY_HAND.found(
        view.name,
        f"Revision {release.revision} of Helm release {name} in namespace {release.namespace} is not this program's; "
        f"Helm's history says of it: {release.description or 'nothing'}.",
        f"{view.cluster.helm} -n {release.namespace} {remedy}",
    )


def image(view: View, name: str) -> str | None:
    """The tag of a Deployment's first container's image; None where there is none."""
    deployment = view.deployment(name)
    image = deployment["spec"]["template"]["spec"]["containers"][0]["image"] if deployment else ""
    return image.rpartition("/")[2].partition("@")[0].partition(":")[2] or None


def skewed(fleet: Fleet, management: str | None, agents: Mapping[str, str | None]) -> Iterator[Finding]:
    """Agents, by worker their images' tags, that can't work for the management plane's."""
    for worker, tag in agents.items():
        ours, theirs = (_version(name) for name in (tag, management))
        if ours and theirs and skew(ours, theirs):
            what = f"The agent's image is {tag}, and the management plane's is {management}."
            yield SKEW.found(worker, what, fleet.up)


def _version(tag: str | None) -> str | None:
    """A tag as a version; None where it is none."""
    name = (tag or "").removesuffix("-fips")
    return name if Version.is_valid(name) else None
