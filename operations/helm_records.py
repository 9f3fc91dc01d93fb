"""Helm's records of releases: which are of something unfinished, and what has to happen to those.

Owns the Secrets `sh.helm.release.v1.*`, and touches no other object: what a release made stays, and the next install
or upgrade takes it over, because it carries the release's name.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from operations.api import Api
from operations.objects import written_by_us
from operations.releases import is_record, packed, unpacked

UNFINISHED = ("pending-install", "pending-upgrade", "pending-rollback", "uninstalling")
ENDED = ("failed", "uninstalled", "uninstalling")
"""What a newest revision may be that isn't in force, and that nobody is at."""
REFUSED = "a recover marked it so: whoever was at it is gone"
"""In the record, where Helm writes why something failed."""


@dataclass(frozen=True)
class Release:
    """A release that this stack makes, or made."""

    urn: str
    cluster: str
    namespace: str
    name: str
    known: bool
    """Whether the state has it."""
    begun: bool
    """Whether its creation was under way."""
    again: bool
    """Whether the next up upgrades it anyway."""
    wanted: bool
    """Whether the program makes it."""


@dataclass(frozen=True)
class Records:
    """What Helm recorded of a release."""

    statuses: Mapping[int, str] = field(default_factory=dict)
    """By revision."""
    ours: bool = False
    """Whether this program's plugin wrote any of it, or the namespace it is in."""

    @property
    def newest(self) -> str:
        """The status of the newest revision; empty where there is none."""
        return self.statuses[max(self.statuses)] if self.statuses else ""


@dataclass(frozen=True)
class Judgement:
    """What was found of a release, and what it comes to."""

    release: Release
    statuses: Mapping[int, str]
    """By revision."""
    removed: Collection[int] = field(default_factory=tuple)
    """Revisions whose record has to go."""
    failed: Collection[int] = field(default_factory=tuple)
    """Revisions that have to be marked as failed."""
    unknown: bool = False
    """Whether it is in force, and the state doesn't know it."""
    misjudged: bool = False
    """Whether it failed, and the state takes it for done."""

    @property
    def again(self) -> bool:
        """Whether it has to be upgraded though nothing of it changed.

        A refresh takes what Helm was last told for what is there; of an unknown release it doesn't know what is secret.
        """
        return bool(self.failed) or self.unknown or self.misjudged

    @property
    def told(self) -> str:
        """The statuses that call for something, in a clause."""
        revisions = sorted({*self.removed, *self.failed}) or sorted(self.statuses)[-1:]
        return ", ".join(f"revision {revision} is {self.statuses[revision]}" for revision in revisions)


def judged(release: Release, records: Records) -> Judgement:
    """What has to happen so that the next up gets past this release; nothing where all is well, or it is somebody's."""
    statuses = records.statuses
    if not statuses or not (release.known or release.begun or records.ours):
        return Judgement(release, statuses)
    in_force = "deployed" in statuses.values()
    if not in_force and not release.known:
        # Never finished: with its records gone Helm installs it anew, over whatever of it is there.
        return Judgement(release, statuses, removed=list(statuses))
    if records.newest in ENDED and not release.wanted:
        # The engine removes it once more.
        return Judgement(release, statuses)
    failed = [revision for revision, status in statuses.items() if status in UNFINISHED]
    if records.newest == "uninstalled":
        failed.append(max(statuses))
    misjudged = records.newest == "failed" and not release.again
    return Judgement(release, statuses, failed=failed, unknown=in_force and not release.known, misjudged=misjudged)


def recorded(api: Api, namespace: str) -> dict[str, Records]:
    """What Helm recorded of every release in a namespace, by name."""
    return read(api.named(f"/api/v1/namespaces/{namespace}"), api.names(_path(namespace), labelSelector="owner=helm"))


def read(namespace: dict[str, Any] | None, secrets: Iterable[dict[str, Any]]) -> dict[str, Records]:
    """What Helm recorded of every release, by name, from the metadata of a namespace and of the Secrets in it."""
    ours = written_by_us(namespace)
    found: dict[str, list[dict[str, Any]]] = {}
    for metadata in secrets:
        labels = metadata.get("labels") or {}
        if is_record(labels):
            found.setdefault(labels["name"], []).append(metadata)
    return {
        name: Records(
            {int(each["labels"]["version"]): each["labels"]["status"] for each in revisions},
            ours or any(map(written_by_us, revisions)),
        )
        for name, revisions in found.items()
    }


def mend(api: Api, judgement: Judgement) -> None:
    """Do to the records what was judged."""
    release = judgement.release
    for revision in judgement.removed:
        api.remove(_path(release.namespace, release.name, revision))
    for revision in judgement.failed:
        path = _path(release.namespace, release.name, revision)
        if record := api.get(path):
            marked = failed(record)
            api.change(path, {"metadata": {"labels": {"status": "failed"}}, "data": {"release": marked}})


def failed(secret: Mapping[str, Any]) -> str:
    """The record in a Secret, as it lies there, but that it says that the release failed."""
    record = unpacked(secret)
    record["info"] |= {"status": "failed", "description": REFUSED}
    return packed(record)


def _path(namespace: str, name: str = "", revision: int = 0) -> str:
    secrets = f"/api/v1/namespaces/{namespace}/secrets"
    return f"{secrets}/sh.helm.release.v1.{name}.v{revision}" if name else secrets
