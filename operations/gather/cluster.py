"""A cluster, in a bundle: as much as it answers."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from components import product
from components.settings import MANAGEMENT, ClusterSettings, Settings
from operations import releases
from operations.api import Api, Unanswered
from operations.crds import COLLECTION
from operations.gather import secrets
from operations.gather.part import Part

LOG_LINES = 500
"""Of each container, the last."""
LOG_SECONDS = 5
"""Of a node that can't be reached an API server says nothing for half a minute."""
KINDS = {"pods": "/api/v1", "services": "/api/v1", "configmaps": "/api/v1", "events": "/api/v1"}
KINDS |= {"deployments": "/apis/apps/v1", "replicasets": "/apis/apps/v1"}
VENDOR = "solo.io"
"""What the API groups of the vendor's kinds end in."""


def collected(cluster: ClusterSettings, api: Api, settings: Settings) -> Part:
    """What is known on a cluster; as much as it answers."""
    found = Part()
    try:
        _collect(found, cluster, api, settings)
    except Unanswered as silence:
        found.missing.append((f"{cluster.name}: the rest", str(silence)))
    return found


def _collect(part: Part, cluster: ClusterSettings, api: Api, settings: Settings) -> None:
    at = f"clusters/{cluster.name}"
    own = f"{cluster.name}:"
    part.known |= dict.fromkeys(api.credentials(), f"a credential for {cluster.name}")
    part.files[f"{at}/version.json"] = part.attempt(f"{own} version", lambda: api.get("/version"))
    namespaces = [settings.namespace, *([] if cluster.name == MANAGEMENT else [product.ADDONS_NAMESPACE])]
    for namespace in namespaces:
        held = _items(part, f"{own} Secrets in {namespace}", api, f"/api/v1/namespaces/{namespace}/secrets")
        for secret in held:
            part.known |= dict(secrets.of(secret, cluster.name))
        part.files[f"{at}/{namespace}/secrets.json"] = [secrets.facts(secret) for secret in held]
        records = [secret for secret in held if secret["type"] == secrets.RECORD]
        read = [
            part.attempt(f"{own} releases", lambda it=record: _release(releases.unpacked(it))) for record in records
        ]
        part.files[f"{at}/{namespace}/releases.json"] = [release for release in read if release]
        for kind, root in KINDS.items():
            listed = _items(part, f"{own} {kind} in {namespace}", api, f"{root}/namespaces/{namespace}/{kind}")
            part.files[f"{at}/{namespace}/{kind}.json"] = listed
        found = part.attempt(f"{own} namespace {namespace}", lambda it=namespace: api.get(f"/api/v1/namespaces/{it}"))
        part.files[f"{at}/{namespace}/namespace.json"] = found
    nodes = _items(part, f"{own} nodes", api, "/api/v1/nodes")
    part.files[f"{at}/nodes.json"] = [node["status"]["nodeInfo"] for node in nodes]
    part.files[f"{at}/crds.json"] = dict(map(_definition, _items(part, f"{own} CRDs", api, COLLECTION)))
    for group, plural, path in _vendor_kinds(part, own, api):
        if listed := _items(part, f"{own} {plural}.{group}", api, path):
            part.files[f"{at}/{group}/{plural}.json"] = listed
    for namespace in namespaces:
        _logs(part, f"{at}/{namespace}", own, api, namespace)


def _items(part: Part, what: str, api: Api, path: str) -> list[dict[str, Any]]:
    found = part.attempt(what, lambda: api.get(path))
    return (found or {}).get("items") or []


def _vendor_kinds(part: Part, own: str, api: Api) -> Iterator[tuple[str, str, str]]:
    """Group, plural and path of every kind of the vendor's."""
    for group in (part.attempt(f"{own} API groups", lambda: api.get("/apis")) or {}).get("groups", []):
        if not group["name"].endswith(VENDOR):
            continue
        path = f"/apis/{group['preferredVersion']['groupVersion']}"
        for kind in (part.attempt(f"{own} {group['name']}", lambda it=path: api.get(it)) or {}).get("resources", []):
            if "/" not in kind["name"] and "list" in kind["verbs"]:
                yield group["name"], kind["name"], f"{path}/{kind['name']}"


def _logs(part: Part, at: str, own: str, api: Api, namespace: str) -> None:
    """The last lines of every container; one that gives none says why, and a node that is silent isn't asked again."""
    silent: set[str] = set()
    for pod in part.files[f"{at}/pods.json"]:
        name, spec = pod["metadata"]["name"], pod["spec"]
        node = spec.get("nodeName", "")
        for container in (c["name"] for c in [*spec.get("initContainers", []), *spec["containers"]]):
            path = f"/api/v1/namespaces/{namespace}/pods/{name}/log?container={container}&tailLines={LOG_LINES}"
            what = f"{own} log of {namespace}/{name} {container}"
            if node in silent:
                part.missing.append((what, f"its node {node} has given no other log in time"))
                continue
            try:
                if text := part.attempt(what, lambda it=path: api.text(it, LOG_SECONDS)):
                    part.files[f"{at}/logs/{name}/{container}.log"] = text
            except Unanswered as silence:
                # With the time for all of it gone, nothing else is to be had.
                api.left()
                part.missing.append((what, str(silence)))
                silent.add(node)


def _release(record: Mapping[str, Any]) -> dict[str, Any]:
    """Helm's record of a revision: which values were given, never what they are."""
    objects = re.findall(
        r"^kind: *(\S+)(?:.*?)^metadata:.*?^  name: *(\S+)", record["manifest"], re.DOTALL | re.MULTILINE
    )
    return {
        "name": record["name"],
        "revision": record["version"],
        "chart": f"{record['chart']['metadata']['name']} {record['chart']['metadata']['version']}",
        **{key: record["info"].get(key) for key in ("status", "description", "first_deployed", "last_deployed")},
        "values": _redacted(record.get("config") or {}),
        "manifestSha256": hashlib.sha256(record["manifest"].encode()).hexdigest(),
        "objects": [" ".join(found) for found in objects],
    }


def _redacted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _redacted(inner) for key, inner in value.items()}
    return [_redacted(inner) for inner in value] if isinstance(value, list) else "(redacted)"


def _definition(crd: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    content = json.dumps(crd["spec"], sort_keys=True).encode()
    return crd["metadata"]["name"], {
        "sha256": hashlib.sha256(content).hexdigest(),
        "versions": [version["name"] for version in crd["spec"]["versions"]],
        "stored": crd.get("status", {}).get("storedVersions", []),
    }
