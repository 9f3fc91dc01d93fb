"""What a check looks through: one cluster, and the fleet that it is compared with.

Owns the questions several nouns ask alike, each asked of the API server once, and the commands that findings name.
"""

import base64
from dataclasses import dataclass, field
from typing import Any

from components import product
from components.settings import ClusterSettings, Settings, WorkerClusterSettings
from operations.api import Api
from operations.objects import Object
from operations.record import Record
from operations.releases import Deployed
from operations.stack import command

Secrets = dict[str, dict[str, str]]
"""Content by Secret and key; it stays in this process, and in no finding."""


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """What every cluster is compared with, as the management cluster holds it."""

    stack: str
    settings: Settings
    record: Record | None = None
    """None where there is none, or nobody knows."""
    trust: Secrets = field(default_factory=dict, repr=False)
    """The management cluster's Secrets; empty where nobody knows them."""
    registered: frozenset[str] | None = None
    """The clusters that are registered; None where nobody knows."""

    @property
    def up(self) -> str:
        """The command that brings the clusters to what the configuration says."""
        return command("up", self.stack)


class View:
    """One cluster."""

    def __init__(self, cluster: ClusterSettings, api: Api, fleet: Fleet) -> None:
        self.cluster = cluster
        self.name = cluster.name
        self.api = api
        self.fleet = fleet
        self.namespace = fleet.settings.namespace
        self._known: dict[tuple[str, ...], Any] = {}

    @property
    def worker(self) -> WorkerClusterSettings | None:
        """The cluster's settings as a worker's; None of the management cluster."""
        return self.cluster if isinstance(self.cluster, WorkerClusterSettings) else None

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The namespaces that this cluster has for the fleet."""
        worker = self.worker
        return (self.namespace, product.ADDONS_NAMESPACE) if worker and worker.addons.enabled else (self.namespace,)

    def items(self, path: str, **query: str) -> list[Object]:
        """What a list holds; nothing where the server knows no such kind."""
        key = (path, *query.values())
        if key not in self._known:
            found = self.api.get(path, **query)
            self._known[key] = found["items"] if found else []
        return self._known[key]

    def metadata(self, path: str) -> list[Object]:
        """The same of large objects, but for the metadata left out."""
        key = (path, "metadata")
        if key not in self._known:
            self._known[key] = [{"metadata": metadata} for metadata in self.api.names(path)]
        return self._known[key]

    def deployments(self, namespace: str) -> list[Object]:
        """The Deployments in a namespace."""
        return self.items(f"/apis/apps/v1/namespaces/{namespace}/deployments")

    def deployment(self, name: str) -> Object | None:
        """One of the product's own Deployments."""
        return next((item for item in self.deployments(self.namespace) if item["metadata"]["name"] == name), None)

    def pods(self, namespace: str) -> list[Object]:
        """The pods in a namespace that aren't on their way out."""
        found = self.items(f"/api/v1/namespaces/{namespace}/pods")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def secrets(self) -> Secrets:
        """The Secrets in the fleet's namespace, but for Helm's records."""
        found = self.items(f"/api/v1/namespaces/{self.namespace}/secrets", labelSelector="owner!=helm")
        return {
            item["metadata"]["name"]: {
                key: base64.b64decode(value).decode(errors="replace") for key, value in item.get("data", {}).items()
            }
            for item in found
        }

    def rollback(self, name: str, release: Deployed) -> str:
        """The command that applies a release as Helm remembers it, and so takes back what was changed by hand."""
        helm = f"{self.cluster.helm} -n {release.namespace}"
        return f"{helm} rollback {name} {release.revision}"

    def manifest_again(self, name: str, release: Deployed) -> str:
        """The same for CRDs and custom resources: between manifests that are alike Helm takes nothing back there."""
        manifest = f"{self.cluster.helm} -n {release.namespace} get manifest {name} --revision {release.revision}"
        return f"{manifest} | {self.kubectl('apply --server-side --force-conflicts -f -', release.namespace)}"

    def kubectl(self, arguments: str, namespace: str | None = None) -> str:
        """A command to look further with."""
        return f"{self.cluster.kubectl} -n {namespace or self.namespace} {arguments}"
