"""What a backend or Helm keeps, made up: entries of a state, a lock, a record, and what is known of a release."""

import socket
from datetime import UTC, datetime
from typing import Any

from operations import state
from operations.lock import Lock
from operations.releases import packed

HOST = socket.gethostname()
NOW = datetime.now(UTC)
KNOWN = {"known": True, "begun": False, "again": False, "wanted": True}
NEW = KNOWN | {"known": False}
"""What a recovery knows of a release that the state has, and of one that it doesn't have."""


def urn(type: str, name: str) -> str:
    return f"urn:pulumi:prod::gloo-mesh::{type}::{name}"


def on(cluster: str) -> str:
    return f"{urn(state.PROVIDER, cluster)}::{cluster}-id"


def entry(type: str, name: str, **more: Any) -> dict[str, Any]:
    return {"urn": urn(type, name), "type": type, "custom": True, "id": name, **more}


def provider(cluster: str) -> dict[str, Any]:
    return entry(state.PROVIDER, cluster, inputs={"kubeconfig": "kubeconfig", "context": cluster}) | {
        "id": f"{cluster}-id"
    }


def secret(name: str, cluster: str, **more: Any) -> dict[str, Any]:
    inputs = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "gloo-mesh"}}
    return entry("kubernetes:core/v1:Secret", name, provider=on(cluster), inputs=inputs, **more)


def release(name: str, cluster: str, **more: Any) -> dict[str, Any]:
    inputs = {"name": name, "namespace": "gloo-mesh", "chart": "charts/x.tgz", "values": {"licenseKey": "ciphertext"}}
    return entry(state.RELEASE, name, provider=on(cluster), inputs=inputs, **more)


def record(revision: int, status: str = "deployed", version: str = "1.2.9", **more: Any) -> dict[str, Any]:
    """The Secret in which Helm keeps a revision of the agent's release."""
    content = {"chart": {"metadata": {"version": version}}, "config": {}, "manifest": "", "info": {}}
    labels = {"owner": "helm", "name": "enterprise-agent", "version": str(revision), "status": status}
    return {"metadata": {"labels": labels}, "data": {"release": packed(content | more)}}


def document(*resources: dict[str, Any], pending: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"version": 3, "deployment": {"resources": list(resources), "pending_operations": pending or []}}


def locked(**changes: Any) -> Lock:
    return Lock(**{"user": "anna", "host": HOST, "pid": 1, "since": NOW} | changes)
