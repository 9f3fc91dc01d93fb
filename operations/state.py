"""The engine's state of a stack, as the CLI exports it: read, changed as a document, put back.

Owns the document's shape. Secrets in it stay encrypted: it is never exported with them in clear, and what is added
here holds none.
"""

import json
from collections.abc import Callable, Collection, Iterable
from typing import Any

from operations.cli import CommandError, cli, last_error, locked
from operations.stack import UsageError, command

State = dict[str, Any]
Entry = dict[str, Any]

KUBERNETES = "kubernetes:"
RELEASE = "kubernetes:helm.sh/v3:Release"
PROVIDER = "pulumi:providers:kubernetes"
KEY = "tls:index/privateKey:PrivateKey"
TOKEN = "random:index/randomPassword:RandomPassword"
_WORN = "maxHistory"
"""The input that a worn release lacks: this program gives it to every one, and no refresh finds it."""
_SECRET = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270"}
"""Marks a secret in the document; with `plaintext` beside it, the CLI encrypts that."""


def exported(stack: str) -> State:
    """The state; raises UsageError."""
    try:
        return json.loads(cli("stack", "export", "--stack", stack))
    except CommandError as error:
        torn = last_error(error).endswith("failed to load checkpoint: EOF")
        crashed = f". After a crash: {command('recover', stack)}" if torn else ""
        told = error.unknown(stack) or f"Pulumi can't export the state of {stack}: {last_error(error)}{crashed}"
        raise UsageError(told) from None


def opened(stack: str) -> None:
    """Make sure that the secrets in the state can be read, as putting it back takes; raises UsageError."""
    try:
        cli("stack", "--stack", stack)
    except CommandError as error:
        raise UsageError(f"Pulumi can't open the state of {stack}: {last_error(error)}") from None


def put_back(stack: str, state: State) -> None:
    """Make `state` the stack's own; raises UsageError. The CLI checks it, and drops what is pending in it."""
    try:
        cli("stack", "import", "--stack", stack, given=json.dumps(state))
    except CommandError as error:
        if locked(error):
            raise UsageError(
                f"Another update of {stack} runs, or left its lock. First: {command('recover', stack)}"
            ) from None
        raise UsageError(f"Pulumi can't put the state of {stack} back: {last_error(error)}") from None


def entries(state: State) -> list[Entry]:
    """Every resource, what it depends on before it."""
    return (state.get("deployment") or {}).get("resources") or []


def pending(state: State) -> list[Entry]:
    """The operations that were under way when it was last written: each a `type` and a `resource`."""
    return (state.get("deployment") or {}).get("pending_operations") or []


def half_done(state: State) -> list[str]:
    """The URNs of the releases whose last install or upgrade failed, and that aren't worn.

    The engine does it again, until a refresh takes Helm's newest record for what is there, failed or not.
    """
    return [
        entry["urn"] for entry in entries(state) if entry.get("initErrors") and again(entry) and not _is_worn(entry)
    ]


def renewable(state: State, kind: str) -> dict[str, Entry]:
    """The keys, under the names of their certificates, which follow them, or the tokens that can be made anew."""
    return {
        name(entry["urn"]).removesuffix("-key"): entry
        for entry in entries(state)
        if entry["type"] == kind and not entry.get("delete")
    }


def again(entry: Entry) -> bool:
    """Whether the next up upgrades a release even if nothing of it differs."""
    return entry["type"] == RELEASE and (bool(entry.get("initErrors")) or _is_worn(entry))


def provider(entry: Entry) -> str:
    """The logical name of the cluster that an entry is on; empty where it is on none."""
    urn = entry.get("provider", "").rpartition("::")[0]
    return name(urn) if f"::{PROVIDER}::" in urn else ""


def clusters(state: State) -> dict[str, Entry]:
    """Every cluster that it knows, by name, and the provider that reaches it; those being replaced, as they will be."""
    return {
        name(entry["urn"]): entry for entry in entries(state) if entry["type"] == PROVIDER and not entry.get("delete")
    }


def on(state: State, clusters: Collection[str]) -> list[str]:
    """The URNs of all that is on some clusters, and those that it would have after changing hands.

    A namespace that is labelled, and no longer made, has another type in its URN, and the engine goes by either.
    """
    urns = [entry["urn"] for entry in entries(state) if provider(entry) in clusters]
    return [*urns, *(other for urn in urns if (other := _after_changing_hands(urn)))]


def _after_changing_hands(urn: str) -> str | None:
    head, kind, name = urn.rsplit("::", 2)
    if kind.endswith(":NamespacePatch"):
        return f"{head}::{kind.removesuffix('Patch')}::{name}"
    return f"{head}::{kind}Patch::{name}" if kind.endswith(":Namespace") else None


def name(urn: str) -> str:
    """The logical name at a URN's end."""
    return urn.rpartition("::")[2]


def adopted(state: State, found: Iterable[Entry]) -> State:
    """The state with entries for what exists, and nothing pending.

    Whatever an entry leans on and isn't there is left out; the next update of that resource writes it anew.
    """
    resources = list(entries(state))
    for entry in found:
        known = {resource["urn"] for resource in resources}
        added = _less(entry, known.__contains__)
        at = next((i for i, old in enumerate(resources) if old["urn"] == entry["urn"] and not old.get("delete")), None)
        if at is None:
            resources.append(added)
        elif resources[at].get("pendingReplacement"):
            resources[at] = added
        elif resources[at].get("id") != entry["id"]:
            # It was being replaced: the old one still has to go, as the engine would have noted.
            resources[at : at + 1] = [added, resources[at] | {"delete": True}]
    return _with(state, resources)


def worn(state: State, urns: Collection[str]) -> State:
    """The state with these releases known so little that the next up upgrades them, whatever a refresh finds."""

    def less(entry: Entry) -> Entry:
        known = minimal(entry | {"inputs": {k: v for k, v in entry["inputs"].items() if k != _WORN}})
        return entry | {key: known[key] for key in ("inputs", "outputs", "additionalSecretOutputs")}

    return _with(state, [less(entry) if entry["urn"] in urns else entry for entry in entries(state)])


def without(state: State, gone: Collection[str]) -> State:
    """The state without some URNs, and without a trace of them in what stays."""
    return _with(
        state,
        [_less(entry, lambda urn: urn not in gone) for entry in entries(state) if entry["urn"] not in gone],
    )


def minimal(entry: Entry) -> Entry:
    """What the engine needs to look something up on its cluster: whatever is missing shows as a change in the next up.

    Of a release's values it says no more than that all of them are secret, so that a refresh takes them for secret.
    """
    kept = {key: value for key, value in entry.items() if key in ("urn", "custom", "id", "type", "parent", "provider")}
    if entry["type"] == RELEASE:
        inputs = entry["inputs"] | {"values": _SECRET | {"plaintext": "{}"}}
        # The plugin takes a release without these for one that somebody else made, and copies its values as they are.
        noted = {"__inputs": _SECRET | {"plaintext": json.dumps(inputs)}}
        return kept | {"inputs": inputs, "outputs": inputs | noted, "additionalSecretOutputs": ["values"]}
    identity = {key: value for key, value in entry["inputs"]["metadata"].items() if key in ("name", "namespace")}
    inputs = {"apiVersion": entry["inputs"]["apiVersion"], "kind": entry["inputs"]["kind"], "metadata": identity}
    return kept | {"inputs": inputs, "outputs": inputs}


def _is_worn(entry: Entry) -> bool:
    return _WORN not in (entry.get("inputs") or {})


def _with(state: State, resources: list[Entry]) -> State:
    deployment = {key: value for key, value in state["deployment"].items() if key != "pending_operations"}
    return state | {"deployment": deployment | {"resources": resources}}


def _less(entry: Entry, stays: Callable[[str], bool]) -> Entry:
    """An entry without what it says of URNs that don't stay."""
    kept = {key: value for key, value in entry.items() if key not in ("parent", "deletedWith") or stays(value)}
    for key in ("dependencies", "replaceWith"):
        if key in kept:
            kept[key] = [urn for urn in kept[key] if stays(urn)]
    if "propertyDependencies" in kept:
        kept["propertyDependencies"] = {
            path: [urn for urn in urns if stays(urn)] for path, urns in kept["propertyDependencies"].items()
        }
    return kept
