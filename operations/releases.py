"""The fleet's Helm releases as they are deployed, by Helm's own records.

Owns how a record is read. Nothing is written.
"""

import base64
import gzip
import json
import zlib
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import yaml

from operations.api import Api, Unanswered

Manifest = dict[str, Any]
Key = tuple[str, str, str, str]
"""API group, kind, namespace and name."""
_LABELS = {"name", "status", "version"}


class HelmError(Unanswered):
    """What Helm recorded, or makes of a chart, can't be had or read."""


@dataclass(frozen=True)
class Deployed:
    """A release as Helm recorded it."""

    version: str
    values: dict[str, Any]
    manifest: str
    """Of everything it made, as YAML."""
    namespace: str
    revision: int = 1
    status: str = "deployed"
    """Of its newest revision, which is another one where an upgrade failed or was cut off."""
    description: str = ""
    """What Helm's history says of the revision."""

    @cached_property
    def manifests(self) -> dict[Key, Manifest]:
        """The objects it made, hooks aside."""
        return by_key(self.manifest, self.namespace)


def deployed(api: Api, namespace: str, name: str) -> Deployed | None:
    """Helm's record of a release, the newest where none is in force; None where there is none; raises HelmError."""
    found = _records(api, namespace, f"name={name}")
    return _in_force(found, namespace) if found else None


def recorded(api: Api, namespace: str, names: Collection[str]) -> dict[str, Deployed]:
    """Helm's records of these releases in a namespace, as far as there are any; one request for all."""
    # Histories are long; what was replaced is of no use.
    found = _records(api, namespace, "status!=superseded")
    by_name = {name: [item for item in found if item["metadata"]["labels"].get("name") == name] for name in names}
    return {name: _in_force(items, namespace) for name, items in by_name.items() if items}


def history(api: Api, namespace: str, name: str) -> dict[int, Deployed]:
    """A release's revisions, as many as Helm keeps."""
    revisions = [_in_force([item], namespace) for item in _records(api, namespace, f"name={name}")]
    return {revision.revision: revision for revision in revisions}


def is_record(labels: Mapping[str, str]) -> bool:
    """Whether a Secret with these labels is a record of Helm's: somebody else's may be labelled like one."""
    return labels.get("owner") == "helm" and labels.keys() >= _LABELS and labels["version"].isdecimal()


def _records(api: Api, namespace: str, selector: str) -> list[dict[str, Any]]:
    """The Secrets that hold Helm's records, as far as a label selector picks them."""
    found = api.get(f"/api/v1/namespaces/{namespace}/secrets", labelSelector=f"owner=helm,{selector}")
    return [item for item in found["items"] if is_record(item["metadata"]["labels"])]


def _in_force(items: list[dict[str, Any]], namespace: str) -> Deployed:
    """Of a release's records, the one that is deployed, the newest where none is."""
    revisions = {int(item["metadata"]["labels"]["version"]): item for item in items}
    status = {revision: item["metadata"]["labels"]["status"] for revision, item in revisions.items()}
    revision = max([revision for revision in revisions if status[revision] == "deployed"] or revisions)
    record = unpacked(revisions[revision])
    return Deployed(
        version=record["chart"]["metadata"]["version"],
        values=record.get("config") or {},
        manifest=record["manifest"],
        namespace=namespace,
        revision=revision,
        status=status[max(revisions)],
        description=record["info"].get("description", ""),
    )


def unpacked(secret: Mapping[str, Any]) -> dict[str, Any]:
    """Helm's record of one revision, out of its Secret; raises HelmError."""
    record: dict[str, Any] = {}
    with suppress(OSError, EOFError, zlib.error, ValueError, LookupError, TypeError):
        record = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(secret["data"]["release"]))))
    match record:
        case {"chart": {"metadata": {"version": str()}}, "manifest": str(), "info": dict()}:
            return record
        case _:
            # What it holds isn't repeated: values are among it.
            called = f"Secret {secret['metadata']['name']} in namespace {secret['metadata']['namespace']}"
            raise HelmError(f"{called} is labelled as a record of Helm's, and can't be read as one")


def packed(record: dict[str, Any]) -> str:
    """A record as it lies in its Secret's key `release`."""
    return base64.b64encode(base64.b64encode(gzip.compress(json.dumps(record).encode()))).decode()


def by_key(manifest: str, namespace: str) -> dict[Key, Manifest]:
    """The objects in a manifest, lists' own among them; `namespace` is that of those which name none.

    What has no name of its own is left out; raises HelmError for what is no YAML.
    """
    try:
        documents = [document for document in yaml.load_all(manifest, yaml.CSafeLoader) if isinstance(document, dict)]
    except (yaml.YAMLError, ValueError):
        raise HelmError("a manifest of Helm's is no YAML that can be read") from None
    lists = [document for document in documents if str(document.get("kind")).endswith("List") and "items" in document]
    items = [*documents, *(item for listed in lists for item in listed["items"] or [])]
    found = [item for item in items if isinstance(item, dict) and (item.get("metadata") or {}).get("name")]
    for document in found:
        # Helm adds its own to both, so it takes neither away whole, whether a manifest has them or not.
        for key in ("annotations", "labels"):
            document["metadata"][key] = document["metadata"].get(key) or {}
    return {
        (
            document["apiVersion"].rpartition("/")[0],
            document["kind"],
            document["metadata"].get("namespace", namespace),
            document["metadata"]["name"],
        ): document
        for document in found
    }
