"""What a stack's state says is on the clusters.

Owns reading it, through the CLI, so that every backend works. Secrets stay encrypted in it.
"""

from dataclasses import dataclass, field
from typing import Any

from operations import engine
from operations.stack import Stack

Object = tuple[str, str, str]
"""The cluster's name in the configuration, Pulumi's type of the object, and `namespace/name` or the name alone."""

NAMESPACE = "kubernetes:core/v1:Namespace"
RELEASE = "kubernetes:helm.sh/v3:Release"
_PROVIDER = "pulumi:providers:kubernetes"


@dataclass(frozen=True)
class State:
    """Objects that a stack made, or had begun to make when it was cut off."""

    owned: frozenset[Object] = frozenset()
    unfinished: frozenset[Object] = frozenset()
    """Creations of which nobody knows how they ended."""
    namespaces: dict[Object, str] = field(default_factory=dict)
    """By namespace, its UID when it was last looked at."""

    @classmethod
    def read(cls, stack: Stack) -> "State":
        """The state as the backend has it, empty before the first up; raises UsageError."""
        return cls.parse(engine.exported(stack))

    @classmethod
    def parse(cls, exported: dict[str, Any]) -> "State":
        """What `pulumi stack export` says."""
        deployment: dict[str, Any] = exported.get("deployment") or {}
        resources = [resource for resource in deployment.get("resources") or [] if _cluster(resource)]
        pending = [
            operation["resource"]
            for operation in deployment.get("pending_operations") or []
            if operation["type"] in ("creating", "importing") and _cluster(operation["resource"])
        ]
        namespaces: dict[Object, str] = {}
        for resource in resources:
            uid = ((resource.get("outputs") or {}).get("metadata") or {}).get("uid")
            if _object(resource)[1] == NAMESPACE and uid:
                namespaces[_object(resource)] = uid
        # What is read and not made has an id, too, and is somebody else's.
        owned = frozenset(_object(resource) for resource in resources if not resource.get("external"))
        return cls(owned, frozenset(map(_object, pending)) - owned, namespaces)


def _cluster(resource: dict[str, Any]) -> str:
    parts = str(resource.get("provider", "")).split("::")
    return parts[-2] if _PROVIDER in parts else ""


def _object(resource: dict[str, Any]) -> Object:
    # A namespace that is only labelled counts as one: it may change hands in either direction.
    kind = NAMESPACE if resource["type"] == f"{NAMESPACE}Patch" else resource["type"]
    return _cluster(resource), kind, resource.get("id") or _named(resource)


def _named(resource: dict[str, Any]) -> str:
    """What would have become the id of an object whose creation nobody saw the end of."""
    inputs: dict[str, Any] = resource.get("inputs") or {}
    metadata: dict[str, Any] = inputs.get("metadata") or inputs
    return "/".join(str(part) for part in (metadata.get("namespace"), metadata.get("name")) if part)
