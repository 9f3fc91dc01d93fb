"""Somebody with every right on the lab's clusters, who works by hand: kubectl and helm, as kwok's administrator."""

import base64
import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab.fleet import Lab

SERVERS_OWN = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid")


class Colleague:
    """Hands on one cluster, in one namespace."""

    def __init__(self, lab: Lab, cluster: str, namespace: str = "gloo-mesh") -> None:
        self._lab = lab
        self._cluster = cluster
        self._namespace = namespace

    def within(self, namespace: str) -> "Colleague":
        """The same in another namespace."""
        return Colleague(self._lab, self._cluster, namespace)

    def kubectl(self, *arguments: str, given: str = "") -> str:
        return self._run("kubectl", *arguments, given=given)

    def get(self, what: str) -> Any:
        """An object, by kind and name."""
        return json.loads(self.kubectl("get", *what.split(), "-o", "json"))

    def patch(self, what: str, change: Mapping[str, Any], *options: str) -> None:
        """Merge a change into an object."""
        kind = "strategic" if what.startswith("pod ") else "merge"
        self.kubectl("patch", *what.split(), "--type", kind, "-p", json.dumps(change), *options)

    def pod(self, deployment: str) -> str:
        """The newest pod of a Deployment."""
        names = self.kubectl(
            "get", "pods", "-l", f"app={deployment}", "-o", "name", "--sort-by=.metadata.creationTimestamp"
        )
        return names.split()[-1].removeprefix("pod/")

    def record(self, release: str) -> str:
        """The Secret with Helm's record of a release that is in force."""
        selector = f"owner=helm,name={release},status=deployed"
        return self.kubectl("get", "secrets", "-l", selector, "-o", "name").strip().removeprefix("secret/")

    @contextmanager
    def without(self, what: str) -> Iterator[None]:
        """Delete an object, and make it again as it was."""
        before = self.get(what)
        before["metadata"] = {key: value for key, value in before["metadata"].items() if key not in SERVERS_OWN}
        self.kubectl("delete", *what.split())
        try:
            yield
        finally:
            self.kubectl("create", "-f", "-", given=json.dumps(before))

    @contextmanager
    def made(self, api_version: str, kind: str, name: str, content: Mapping[str, Any]) -> Iterator[None]:
        """Make an object, and delete it."""
        document = {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **content}
        self.kubectl("create", "-f", "-", given=json.dumps(document))
        try:
            yield
        finally:
            self.kubectl("delete", "-f", "-", given=json.dumps(document))

    @contextmanager
    def secret(self, name: str, content: Mapping[str, str]) -> Iterator[None]:
        """Write keys of a Secret, and what was there before."""
        before = self.get(f"secret {name}")["data"]
        changed = {key: base64.b64encode(text.encode()).decode() for key, text in content.items()}
        self.patch(f"secret {name}", {"data": changed})
        try:
            yield
        finally:
            self.patch(f"secret {name}", {"data": {key: before[key] for key in changed}})

    @contextmanager
    def upgraded(self, release: str, chart: Path, *options: str) -> Iterator[None]:
        """Upgrade a release, and roll it back."""
        revision = self.record(release).rpartition(".v")[2]
        self.helm("upgrade", release, str(chart), "--reuse-values", "--skip-crds", "--wait", *options)
        try:
            yield
        finally:
            self.helm("rollback", release, revision, "--wait")

    def helm(self, *arguments: str) -> str:
        return self._run("helm", *arguments)

    def _run(self, tool: str, *arguments: str, given: str = "") -> str:
        kubeconfig = self._lab.root / "kwok/clusters" / self._cluster / "kubeconfig.yaml"
        done = subprocess.run(
            [self._lab.tool(tool), "--kubeconfig", kubeconfig, "--namespace", self._namespace, *arguments],
            env=self._lab.environment(),
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{tool} {' '.join(arguments)}: {done.stderr}"
        return done.stdout
