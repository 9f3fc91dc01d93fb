"""Helm's releases against the fleet's record.

Owns what Helm remembers of them: which there are, of which chart version, with which values, and whether their last
upgrade came to its end. What became of their objects since is `hand_changes`'s.
"""

import re
from collections.abc import Iterator, Mapping

from semver import Version

from components import product
from components.values_digest import digest, masked
from components.versions import is_downgrade, skew
from operations import helm_records
from operations.check.view import Fleet, View
from operations.findings import Finding, Kind
from operations.releases import Deployed, history, recorded
from operations.stack import command

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
    why="Version and values are as recorded, but not who deployed them: the chart itself may be another one, and no "
    "preview shows it.",
    page="releases",
)
SKEW = Kind(
    "agent-skew",
    why="An agent works for a management plane of its own minor version that isn't older than itself.",
    page="releases",
)

_ROLLBACK = re.compile(r"Rollback to (\d+)")
"""Helm's own description of a revision that a rollback made."""
_FAILED = re.compile(rf'^(Upgrade|Release|Rollback) ".*" failed|^{re.escape(helm_records.REFUSED)}')
"""What a failure, Helm's or one that a recover told, leaves of a description."""


def expected(view: View) -> dict[str, str]:
    """The releases that a cluster should have, with their namespaces."""
    worker = view.worker
    names = [view.cluster.release, product.crds_chart(view.cluster.chart)]
    addons = [product.ADDONS_RELEASE] if worker and worker.addons.enabled else []
    return dict.fromkeys(names, view.namespace) | dict.fromkeys(addons, product.ADDONS_NAMESPACE)


def deployed(view: View) -> dict[str, Deployed]:
    """Those of them that Helm has a record of."""
    wanted = expected(view)
    found: dict[str, Deployed] = {}
    for namespace in dict.fromkeys(wanted.values()):
        found |= recorded(view.api, namespace, [name for name in wanted if wanted[name] == namespace])
    return found


def findings(view: View, found: Mapping[str, Deployed]) -> Iterator[Finding]:
    """Releases that aren't as the fleet's record has them."""
    for name, namespace in expected(view).items():
        release, called = found.get(name), f"Helm release {name} in namespace {namespace}"
        if release is None:
            yield MISSING.found(view.name, f"There is no {called}.", view.fleet.up)
            continue
        if release.status != "deployed":
            what = f"The newest revision of {called} is {release.status}."
            recover = command("recover", view.fleet.stack)
            yield UNFINISHED.found(view.name, what, view.fleet.up if release.status == "failed" else recover)
        if unlike := _unlike_record(view, name, release):
            yield unlike


def foreign(view: View, found: Mapping[str, Deployed]) -> dict[str, Finding]:
    """By release, that the revision in force is somebody else's, though version and values are as recorded."""
    told: dict[str, Finding] = {}
    for name, release in found.items():
        if release.description == product.RELEASE_DESCRIPTION or release.status != "deployed":
            continue
        if _unlike_record(view, name, release):
            continue
        known = history(view.api, release.namespace, name)
        # Between the two questions somebody may have uninstalled it.
        if release.revision not in known or not _somebodys(known, release.revision):
            continue
        again = f"{view.fleet.up}; if it is told again, change any of its values in the configuration, and repeat"
        ours = [
            number
            for number, revision in known.items()
            if revision.description == product.RELEASE_DESCRIPTION and not _unlike_record(view, name, revision)
        ]
        back = f"{view.cluster.helm} -n {release.namespace} rollback {name} {max(ours)}" if ours else again
        what = f"Revision {release.revision} of Helm release {name} in namespace {release.namespace} is not this "
        said = f"program's; Helm's history says of it: {release.description or 'nothing'}."
        told[name] = BY_HAND.found(view.name, what + said, back)
    return told


def _unlike_record(view: View, name: str, release: Deployed) -> Finding | None:
    """That a revision is of another version, or has other values, than the fleet's record says."""
    record = view.fleet.record
    if record is None or view.name not in record.versions:
        return None
    called = f"Helm release {name} in namespace {release.namespace}"
    if release.version != record.versions[view.name]:
        what = f"{called} is of chart version {release.version}, and the fleet's record says "
        return VERSION.found(view.name, f"{what}{record.versions[view.name]}.", view.fleet.up)
    key = f"{view.name}/{name}"
    # A record of an earlier program doesn't say where the secrets are.
    if key in record.masked and digest(masked(release.values, record.masked[key])) != record.values[key]:
        what = f"{called} (revision {release.revision}) has other values than the fleet's record knows."
        return VALUES.found(view.name, what, view.fleet.up)
    return None


def _somebodys(known: Mapping[int, Deployed], revision: int) -> bool:
    """Whether a revision is somebody else's; one that goes back to another is whose that was."""
    said = known[revision].description
    while (back := _ROLLBACK.fullmatch(said)) and int(back[1]) < revision:
        revision = int(back[1])
        # Helm keeps ten; whose an older one was, or one that failed, nobody knows any more.
        said = known[revision].description if revision in known else product.RELEASE_DESCRIPTION
    return said != product.RELEASE_DESCRIPTION and not _FAILED.search(said)


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
            keys = f"gloo-mesh:values, defaults.values or workers.{worker}.values"
            yield SKEW.found(worker, what, f"Where {keys} names an image.tag, take it out; then: {fleet.up}")


def lags(agent: str | None, management: str | None) -> bool | None:
    """Whether an agent's image is of an earlier version than the management plane's; None of tags that are none."""
    ours, theirs = _version(agent), _version(management)
    return is_downgrade(theirs, ours) if ours and theirs else None


def _version(tag: str | None) -> str | None:
    """A tag as a version; None where it is none."""
    name = (tag or "").removesuffix("-fips")
    return name if Version.is_valid(name) else None
