"""After a crash: what is in the way of the next `up`, and its removal, so that one `up` converges.

Owns the order: whoever may still be at work first, then the state, then Helm's records. What was made stays; the state
learns of it, and what the state only meant to make is dropped.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pulumi.automation.events import StepEventMetadata

from components.connection import reason
from components.settings import ClusterSettings
from operations import backend, helm_records, leftovers, lock, state
from operations.api import Api
from operations.deployment import Deployment
from operations.everywhere import look
from operations.findings import Finding, Kind
from operations.helm_records import Judgement, Records, Release
from operations.lock import Lock
from operations.objects import written_by_us
from operations.preflight import remembered
from operations.stack import UsageError, command
from operations.state import Entry, State

RELEASE_PENDING = Kind(
    "release-pending",
    why="Helm refuses to install or upgrade a release while a record says that somebody is at it, or was.",
    page="recover",
    stops=True,
)
RELEASE_FAILED = Kind(
    "release-failed",
    why="Its objects may be old, and an up would take it for done.",
    page="recover",
    stops=True,
)
OPERATION_PENDING = Kind(
    "operation-pending",
    why="The engine died while it was at it and doesn't know whether it came to pass; it would try again blindly.",
    page="recover",
    stops=True,
)
OBJECT_UNKNOWN = Kind(
    "object-unknown-to-state",
    why="The next up would create it, and fail because it exists.",
    page="recover",
    stops=True,
)
SECONDS = 30
"""Deadline of looking at a cluster, and of writing to it, its login aside."""


@dataclass(frozen=True)
class Seen:
    """What one cluster has."""

    judgements: list[Judgement]
    existing: dict[str, str]
    """By URN, the id of an object that this program made."""


@dataclass
class Recovery:
    """What was found, and what has to be done about it."""

    findings: list[Finding] = field(default_factory=list)
    unseen: dict[str, str] = field(default_factory=dict)
    """Where nothing could be looked at, and why."""
    clusters: list[ClusterSettings] = field(default_factory=list)
    """Those that were looked at."""
    judgements: list[Judgement] = field(default_factory=list)
    adopted: list[Entry] = field(default_factory=list)
    """What exists and has to be in the state."""
    pending: bool = False
    """Whether operations in the state have to be dropped."""


@dataclass(frozen=True)
class Creation:
    """A resource that the engine would create, or was creating when it died."""

    entry: Entry
    begun: bool

    @property
    def urn(self) -> str:
        return self.entry["urn"]

    @property
    def cluster(self) -> str:
        return state.provider(self.entry)

    @property
    def is_release(self) -> bool:
        return self.entry["type"] == state.RELEASE


def removable(locks: Iterable[Lock], *, force: bool) -> bool:
    """Whether whoever took these can be sent away."""
    return all(held.running is False or (force and held.running is None) for held in locks)


def send_away(stack: str, *, force: bool) -> None:
    """End what outlived its engine, and remove the stack's locks; raises UsageError when an update has begun.

    What a killed CLI left of the state goes first: the CLI reads the state before it removes a lock.
    """
    leftovers.remove()
    torn = backend.cut_off(stack)
    locks = lock.locks(stack)
    if not removable(locks, force=force):
        raise UsageError(f"{locks[0].finding(stack).what} Nothing is recovered while it lasts.")
    backend.delete(torn)
    if locks:
        lock.remove(stack)


def found(deployment: Deployment) -> Recovery:
    """Everything else that is in the way; nothing is written."""
    recovery, stack = Recovery(), deployment.name
    document = state.exported(stack)
    # First, because the preview would wait for ever for a login that hangs.
    recovery.clusters = _clusters(recovery, deployment, document)
    steps, progress = deployment.planned()
    if progress.errors:
        recovery.unseen["the program"] = f"its preview fails: {progress.errors[0]}"
    creations = [*_begun(document), *_planned(document, steps)]
    releases = _releases(document, creations, steps)

    def at(cluster: ClusterSettings, api: Api) -> Seen:
        return _seen(
            api,
            [release for release in releases if release.cluster == cluster.name],
            [creation for creation in creations if creation.cluster == cluster.name and not creation.is_release],
        )

    looked = look(recovery.clusters, at, SECONDS)
    recovery.unseen |= {name: reason(error) for name, error in looked.unseen.items()}
    recovery.judgements = [judged for seen in looked.seen.values() for judged in seen.judgements]
    existing = {urn: live for seen in looked.seen.values() for urn, live in seen.existing.items()}
    _tell(recovery, document, creations, existing, stack)
    return recovery


def mend(deployment: Deployment, recovery: Recovery) -> None:
    """Do what was found to be needed; raises UsageError with what could not be done."""
    stack = deployment.name
    # Looking takes its time, and whoever has begun in it has pending records of his own.
    if lock.locks(stack):
        raise UsageError(f"An update of {stack} has begun meanwhile; nothing is recovered while it lasts.")
    # Before the records, which a recovery that is cut off in between finds again.
    again = {judged.release.urn for judged in recovery.judgements if judged.again}
    if recovery.adopted or recovery.pending or again:
        state.put_back(stack, state.worn(state.adopted(state.exported(stack), recovery.adopted), again))
    judgements = [judged for judged in recovery.judgements if judged.removed or judged.failed]

    def at(cluster: ClusterSettings, api: Api) -> None:
        for judged in judgements:
            if judged.release.cluster == cluster.name:
                helm_records.mend(api, judged)

    written = {judged.release.cluster for judged in judgements}
    clusters = [cluster for cluster in recovery.clusters if cluster.name in written]
    failed = look(clusters, at, SECONDS).unseen
    recovery.unseen |= {name: reason(error) for name, error in failed.items()}
    if recovery.adopted:
        refreshed = deployment.refresh([entry["urn"] for entry in recovery.adopted])
        if refreshed.errors:
            raise UsageError(f"What exists is in the state, but can't be refreshed: {refreshed.errors[0]}")


def _clusters(recovery: Recovery, deployment: Deployment, document: State) -> list[ClusterSettings]:
    """The clusters to look at: the configuration's, and any other that the state knows."""
    settings = deployment.settings
    recovery.unseen |= deployment.unreachable
    reached = [*settings.clusters, *remembered.leaving(document, settings)]
    for name in set(remembered.names(document)) - {cluster.name for cluster in reached}:
        recovery.unseen[name] = "its kubeconfig is a secret, and the configuration doesn't name that cluster"
    found = [cluster for cluster in reached if cluster.name not in deployment.unreachable]
    strangers, silent = remembered.strangers(document, found, settings.namespace)
    recovery.unseen |= {name: reason(error) for name, error in silent.items()}
    recovery.unseen |= {finding.where: finding.what for finding in strangers}
    return [cluster for cluster in found if cluster.name not in recovery.unseen]


def _begun(document: State) -> list[Creation]:
    """The creations that were under way."""
    return [
        Creation(operation["resource"], begun=True)
        for operation in state.pending(document)
        if operation["type"] == "creating" and state.provider(operation["resource"])
    ]


def _planned(document: State, steps: Iterable[StepEventMetadata]) -> list[Creation]:
    """The creations that the next up would begin, as entries of the state, but for what began already."""
    known = {entry["urn"]: entry for entry in state.entries(document)}
    begun = {creation.urn for creation in _begun(document)}
    creations: list[Creation] = []
    for step in steps:
        new = step.new
        if step.op.value != "create" or new is None or not new.custom or step.urn in begun:
            continue
        urn = (new.provider or "").rpartition("::")[0]
        # A Patch takes over what exists, so its creation can't fail over that.
        if urn not in known or not new.type.startswith(state.KUBERNETES) or new.type.endswith("Patch"):
            continue
        entry: Entry = {
            "urn": step.urn,
            "custom": True,
            "type": new.type,
            "parent": new.parent,
            "provider": f"{urn}::{known[urn]['id']}",
            "inputs": dict(new.inputs or {}),
        }
        creations.append(Creation(entry, begun=False))
    return creations


def _releases(document: State, creations: Iterable[Creation], steps: Iterable[StepEventMetadata]) -> list[Release]:
    given_up = {step.urn for step in steps if step.op.value == "delete"}
    there = [(entry, False) for entry in state.entries(document) if entry["type"] == state.RELEASE]
    coming = [(creation.entry, creation.begun) for creation in creations if creation.is_release]
    return [
        Release(
            entry["urn"],
            state.provider(entry),
            entry["inputs"]["namespace"],
            entry["inputs"]["name"],
            known=known,
            begun=begun,
            again=known and state.again(entry),
            wanted=entry["urn"] not in given_up,
        )
        for known, group in ((True, there), (False, coming))
        for entry, begun in group
    ]


def _seen(api: Api, releases: list[Release], creations: list[Creation]) -> Seen:
    namespaces = {release.namespace for release in releases}
    records = {namespace: helm_records.recorded(api, namespace) for namespace in sorted(namespaces)}
    judgements = [
        helm_records.judged(release, records[release.namespace].get(release.name, Records())) for release in releases
    ]
    existing = {
        creation.urn: identity for creation in creations if (identity := _existing(api, creation.entry["inputs"]))
    }
    return Seen(judgements, existing)


def _existing(api: Api, inputs: Mapping[str, Any]) -> str | None:
    """The id of an object, if it is there and the plugin wrote it."""
    metadata = inputs["metadata"]
    namespace, name = metadata.get("namespace", ""), metadata["name"]
    collection = api.collection(inputs["apiVersion"], inputs["kind"], namespace)
    live = api.get(f"{collection}/{name}") if collection else None
    if not written_by_us(live and live["metadata"]):
        return None
    return f"{namespace}/{name}" if namespace else name


def _tell(
    recovery: Recovery, document: State, creations: list[Creation], existing: Mapping[str, str], stack: str
) -> None:
    remedy = command("recover", stack, "--yes")
    unknown = {judged.release.urn for judged in recovery.judgements if judged.unknown}
    for judged in recovery.judgements:
        if judged.removed:
            kind, ending = RELEASE_PENDING, "the record goes, and what it made stays"
        elif judged.failed:
            kind, ending = RELEASE_PENDING, "it is marked as failed"
        elif judged.misjudged:
            kind, ending = RELEASE_FAILED, "the next up upgrades it"
        else:
            continue
        what = f"Of release {judged.release.namespace}/{judged.release.name} {judged.told}; {ending}."
        recovery.findings.append(kind.found(judged.release.cluster, what, remedy))
    for creation in creations:
        entry, inputs = creation.entry, creation.entry["inputs"]
        if creation.is_release:
            found = f"{inputs['namespace']}/{inputs['name']}" if creation.urn in unknown else None
        else:
            found = existing.get(creation.urn)
        if found:
            entry = entry | {"id": found}
            whole = creation.begun and not creation.is_release
            recovery.adopted.append(entry | {"outputs": entry["inputs"]} if whole else state.minimal(entry))
        if found and not creation.begun:
            what = f"{_kind(entry)} {found} exists, made by this program; the state takes it in."
            recovery.findings.append(OBJECT_UNKNOWN.found(creation.cluster, what, remedy))
    ids = {entry["urn"]: entry["id"] for entry in recovery.adopted}
    for operation in state.pending(document):
        recovery.pending = True
        entry = operation["resource"]
        where = state.provider(entry) or "the state"
        ending = (
            f"{_kind(entry)} {ids[entry['urn']]} exists and is taken in" if entry["urn"] in ids else "it is dropped"
        )
        if where in recovery.unseen:
            ending = "it is dropped unseen; recover again when that cluster answers, before the next up"
        what = f"{state.name(entry['urn'])} was left while {operation['type']}; {ending}."
        recovery.findings.append(OPERATION_PENDING.found(where, what, remedy))


def _kind(entry: Entry) -> str:
    return entry["type"].rpartition(":")[2]
