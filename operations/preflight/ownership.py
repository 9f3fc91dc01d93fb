"""What this stack made, as its state says: exact in the middle of a first up too.

Owns the reading of identities from the state; the document itself is `operations/state.py`'s.
"""

from dataclasses import dataclass, field
from typing import Any

from operations import state

Identity = tuple[str, str, str]
"""The cluster's name in the configuration, Pulumi's type of the object, and `namespace/name` or the name alone."""

NAMESPACE = "kubernetes:core/v1:Namespace"


@dataclass(frozen=True)
class Ownership:
    """Objects that a stack made, or had begun to make when it was cut off."""

    made: frozenset[Identity] = frozenset()
    begun: frozenset[Identity] = frozenset()
    """Creations of which nobody knows how they ended."""
    kept: frozenset[Identity] = frozenset()
    """Of what was made, what stays when the program makes it no longer."""
    again: frozenset[Identity] = frozenset()
    """Of what was made, the releases that the next up upgrades even if nothing of them differs."""
    clusters: frozenset[str] = frozenset()
    """Those that the state reaches, by name."""
    namespaces: dict[Identity, str] = field(default_factory=dict)
    """By namespace, its UID when it was last looked at."""
    versions: dict[Identity, str] = field(default_factory=dict)
    """By release, the version of its chart."""

    @classmethod
    def of(cls, exported: state.State) -> "Ownership":
        """What a state says."""
        entries = [entry for entry in state.entries(exported) if state.provider(entry)]
        begun = [
            operation["resource"]
            for operation in state.pending(exported)
            if operation["type"] in ("creating", "importing") and state.provider(operation["resource"])
        ]
        namespaces: dict[Identity, str] = {}
        for entry in entries:
            uid = ((entry.get("outputs") or {}).get("metadata") or {}).get("uid")
            if _identity(entry)[1] == NAMESPACE and uid:
                namespaces[_identity(entry)] = uid
        # What is read and not made has an id, too, and is somebody else's.
        made = frozenset(_identity(entry) for entry in entries if not entry.get("external"))
        kept = frozenset(_identity(entry) for entry in entries if entry.get("retainOnDelete"))
        again = frozenset(_identity(entry) for entry in entries if state.again(entry))
        versions = {
            _identity(entry): str((entry.get("inputs") or {}).get("version"))
            for entry in entries
            if entry["type"] == state.RELEASE
        }
        return cls(
            made=made,
            begun=frozenset(map(_identity, begun)) - made,
            kept=kept,
            again=again,
            clusters=frozenset(state.clusters(exported)),
            namespaces=namespaces,
            versions=versions,
        )


def _identity(entry: state.Entry) -> Identity:
    # A namespace that is only labelled counts as one: it may change hands in either direction.
    kind = NAMESPACE if entry["type"] == f"{NAMESPACE}Patch" else entry["type"]
    return state.provider(entry), kind, entry.get("id") or _named(entry)


def _named(entry: state.Entry) -> str:
    """What would have become the id of an object whose creation nobody saw the end of."""
    inputs: dict[str, Any] = entry.get("inputs") or {}
    metadata: dict[str, Any] = inputs.get("metadata") or inputs
    return "/".join(str(part) for part in (metadata.get("namespace"), metadata.get("name")) if part)
