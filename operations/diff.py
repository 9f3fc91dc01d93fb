"""What a version change would do to each cluster's objects: `operations diff --to VERSION`.

Owns the comparison. Every object of every release is sent to its API server as a dry run, so that defaults,
conversion and admission have their say; nothing is written. A value of an object is never told, only where
it differs.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from components.connection import reason
from components.settings import ClusterSettings, Settings, configured, encrypted
from components.versions import is_downgrade
from operations import crds, decryption, everywhere
from operations.api import Api, Refused, Unanswered
from operations.objects import SERVERS_OWN, differing, merged
from operations.releases import Deployed, Key, Manifest, deployed
from operations.rendering import Wanted, helm_command, rendered, wanted
from operations.stack import Stack

SECONDS = 180
"""Deadline of looking at a cluster, its login aside."""


@dataclass(frozen=True)
class Change:
    """What would happen to one object."""

    release: str
    object: str
    what: Literal["added", "changed", "removed", "kept", "refused"]
    details: list[str]
    flagged: list[str]
    """What to look at before the upgrade."""

    @property
    def cosmetic(self) -> bool:
        """Whether a CRD says something else of itself, and means the same."""
        annotations = all(detail.startswith("metadata.annotations") for detail in self.details)
        return self.what == "changed" and self.object.startswith(crds.KIND) and annotations and not self.flagged


@dataclass
class ClusterDiff:
    """What would happen on one cluster."""

    releases: dict[str, tuple[str | None, str]] = field(default_factory=dict)
    """By release, the deployed and the wanted version."""
    changes: list[Change] = field(default_factory=list)
    unchanged: int = 0
    error: str | None = None
    """Why the cluster could not be looked at to the end."""

    def by_release(self) -> dict[str, list[Change]]:
        """The changes, in their order; releases without any left out."""
        return {
            release: changes
            for release in self.releases
            if (changes := [change for change in self.changes if change.release == release])
        }

    def report(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)


def diff(stack: Stack, version: str) -> dict[str, ClusterDiff]:
    """By cluster, what `up` would change at another version; raises what the configuration's faults raise."""
    os.environ.update(stack.environment)
    config = configured(stack.file) | {"version": version}
    secret = encrypted(config)
    settings = Settings.parse(config, secret)
    config |= decryption.certificates(stack, settings) | decryption.kubeconfigs(stack, settings)
    settings = Settings.parse(config, secret)
    releases = sorted(wanted(stack.name, config, secret), key=lambda release: release.name)
    helm = helm_command()
    # Of a cluster that fails midway, what was seen until then is told, too.
    found = {cluster.name: ClusterDiff() for cluster in settings.clusters}

    def at(cluster: ClusterSettings, api: Api) -> None:
        for release in releases:
            if release.cluster == cluster.name:
                _compare(found[cluster.name], helm, cluster, release, api)

    for name, error in everywhere.look(settings.clusters, at, SECONDS).unseen.items():
        found[name].error = _why(error)
    return found


def _compare(found: ClusterDiff, helm: str, cluster: ClusterSettings, release: Wanted, api: Api) -> None:
    """Add to `found` what would happen to one release."""
    live = deployed(api, release.namespace, release.name)
    found.releases[release.name] = (live.version if live else None, release.version)
    if live is None:
        found.changes.append(Change(release.name, "Release", "added", ["all of it: it isn't deployed yet"], []))
    elif is_downgrade(live.version, release.version):
        refusal = f"a downgrade from {live.version}, which `up` refuses"
        found.changes.append(Change(release.name, "Release", "refused", [], [refusal]))
    else:
        for change in _changes(api, release, live, rendered(helm, cluster, release, live, api)):
            if change:
                found.changes.append(change)
            else:
                found.unchanged += 1


def _why(error: Exception) -> str:
    """In the server's or helm's own words, which are whole."""
    if isinstance(error, Unanswered):
        return str(error)
    return f"{error.status} {error}" if isinstance(error, Refused) else reason(error)


def _changes(api: Api, release: Wanted, live: Deployed, new: Mapping[Key, Manifest]) -> Iterator[Change | None]:
    """One for each object of the release, old and new; None for one that stays as it is."""
    for key, manifest in new.items():
        yield _change(api, release, key, live.manifests.get(key, {}), manifest)
    for key in sorted(live.manifests.keys() - new.keys()):
        _, kind, namespace, name = key
        collection = api.collection(live.manifests[key]["apiVersion"], kind, namespace)
        gone = api.get(f"{collection}/{name}") if collection else None
        if gone is None:
            continue
        if gone["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep":
            note = "no longer in the chart; it stays, and nothing updates it any more"
            yield Change(release.name, _called(key), "kept", [], [note])
        else:
            yield Change(release.name, _called(key), "removed", [], ["no longer in the chart"])


def _change(api: Api, release: Wanted, key: Key, old: Manifest, new: Manifest) -> Change | None:
    _, kind, namespace, name = key
    collection = api.collection(new["apiVersion"], kind, namespace)
    if collection is None:
        return Change(release.name, _called(key), "added", ["its kind comes with the new CRDs"], [])
    live = api.get(f"{collection}/{name}")
    harmless, risky = crds.changes(live, new) if live and kind == crds.KIND else ([], [])
    try:
        if live is None:
            api.tried("POST", collection, new)
            return Change(release.name, _called(key), "added", [], [])
        after = api.tried("PUT", f"{collection}/{name}", merged(old, new, live))
    except Refused as refused:
        # A message may quote a value.
        message = refused.reason if kind == "Secret" else str(refused)
        return Change(release.name, _called(key), "refused", harmless, [*risky, message])
    where = [path for path in differing(live, after) if not path.startswith(SERVERS_OWN)]
    if kind == "Secret":
        where = sorted({path.partition(".")[0] for path in where})
    if kind == crds.KIND:
        where = [path for path in where if not path.startswith("spec.versions")]
    details = [*harmless, *where]
    return Change(release.name, _called(key), "changed", details, risky) if details or risky else None


def _called(key: Key) -> str:
    _, kind, _, name = key
    return f"{kind} {name}"
