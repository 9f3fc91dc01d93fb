"""A fleet under test: a lab, a stack of its own on it, and the commands a user would run.

Everything is driven through `python -m operations … --json` and looked at through the Kubernetes API.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config

from lab import proof, stack
from lab.cluster import Event
from lab.fleet import MANAGEMENT, Lab
from lab.plugins import REPOSITORY
from tests.awaiting import awaited

NAMESPACES = ("gloo-mesh", "gloo-mesh-addons")
CLIENT_SECRET = "relay-client-tls-secret"
"""Made by an agent, unless a stack says otherwise."""
Report = dict[str, Any]


class Fleet:
    """A stack on a lab."""

    def __init__(self, lab: Lab, name: str, changes: dict[str, object]) -> None:
        self.lab = lab
        self.name = name
        self.file = stack.prepare(lab, name, changes)
        self.scratch = lab.root / "tmp" / "operations"
        self.scratch.mkdir(exist_ok=True)
        self.environment: dict[str, str] = {}
        """What whoever runs the commands has over the lab's."""
        self._apis: dict[tuple[str, int], client.ApiClient] = {}

    def configure(self, key: str, value: object) -> None:
        """Change one key of the stack's file; None takes it out."""
        document = yaml.safe_load(self.file.read_text())
        document["config"].pop(f"gloo-mesh:{key}", None)
        if value is not None:
            document["config"][f"gloo-mesh:{key}"] = value
        self.file.write_text(yaml.safe_dump(document))

    def start(self, verb: str, *options: str) -> subprocess.Popen[str]:
        """One operations command, as a user starts it; temporary files go to `scratch`."""
        return subprocess.Popen(
            [sys.executable, "-m", "operations", verb, "--stack", self.name, *options],
            cwd=REPOSITORY,
            env=self.variables(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, verb: str, *options: str) -> subprocess.CompletedProcess[str]:
        """One operations command to its end; it leaves no temporary file behind."""
        # Another command may be under way.
        before = set(self.scratch.iterdir())
        with self.start(verb, *options) as running:
            told, complained = running.communicate()
        assert set(self.scratch.iterdir()) <= before
        return subprocess.CompletedProcess(running.args, running.returncode, told, complained)

    def report(self, verb: str, *options: str) -> Report:
        """What a command that must succeed said to machines."""
        done = self.run(verb, "--json", *options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def preview(self) -> Report:
        return self.report("preview")

    def up(self) -> Report:
        return self.report("up", "--yes")

    def settle(self) -> None:
        """Bring the clusters to the configuration the quick way, where an up isn't what is looked at.

        Without what `up` never goes without: the preflight, the preview and the refresh.
        """
        workers = len(yaml.safe_load(self.file.read_text())["config"]["gloo-mesh:workers"])
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.up", self.name, self.file, str(workers)],
            cwd=REPOSITORY,
            env=self.variables(self.lab.root / "tmp"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def variables(self, temporary: Path | None = None) -> dict[str, str]:
        """The environment of a command on this stack; temporary files go to `scratch`."""
        lab = {"GLOO_MESH_LAB": str(self.lab.root), "TMPDIR": str(temporary or self.scratch)}
        return {**self.lab.environment(), **lab, **self.environment}

    def pulumi(self, *arguments: str, given: str = "") -> str:
        """Pulumi's own CLI on this stack."""
        done = subprocess.run(
            [self.lab.tool("pulumi"), "-C", self.lab.root, "--non-interactive", *arguments, "--stack", self.name],
            env=self.lab.environment() | self.environment,
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def api(self, cluster: str) -> client.ApiClient:
        """A client by the lab's kubeconfig as it is now; kept, because whoever waits asks for one every 0.1 s."""
        key = cluster, self.lab.kubeconfig.stat().st_mtime_ns
        if key not in self._apis:
            self._apis[key] = config.new_client_from_config(str(self.lab.kubeconfig), cluster)
        return self._apis[key]

    def core(self, cluster: str) -> client.CoreV1Api:
        return client.CoreV1Api(self.api(cluster))

    def apps(self, cluster: str) -> client.AppsV1Api:
        return client.AppsV1Api(self.api(cluster))

    def custom(self, group: str, version: str, plural: str) -> dict[str, Any]:
        """Custom resources in gloo-mesh on the management cluster, by name."""
        api = client.CustomObjectsApi(self.api(MANAGEMENT))
        listed: Any = api.list_namespaced_custom_object(group, version, "gloo-mesh", plural)
        return {item["metadata"]["name"]: item for item in listed["items"]}

    def registrations(self) -> dict[str, Any]:
        return self.custom("multicluster.solo.io", "v1alpha1", "kubernetesclusters")

    def secret(self, cluster: str, name: str) -> dict[str, str]:
        """A Secret's keys, as they lie in the API (base64)."""
        found: Any = self.core(cluster).read_namespaced_secret(name, "gloo-mesh")
        return found.data

    def writes(self) -> dict[str, list[Event]]:
        """Everything the deployer ever wrote, by cluster."""
        return {cluster: self.lab.audit(cluster) for cluster in self.lab.clusters()}

    def versions(self, *clusters: str) -> dict[str, str]:
        """The resourceVersion of every object a deployment made, by cluster and path; of some clusters, or of all.

        What agents make is left out.
        """
        versions: dict[str, str] = {}
        for cluster in clusters or self.lab.clusters():
            core, apps = self.core(cluster), self.apps(cluster)
            crds = client.ApiextensionsV1Api(self.api(cluster)).list_custom_resource_definition()
            lists: list[Any] = [crds, core.list_namespace()]
            for namespace in NAMESPACES:
                lists += [
                    read(namespace)
                    for read in (
                        core.list_namespaced_secret,
                        core.list_namespaced_config_map,
                        core.list_namespaced_service,
                        core.list_namespaced_pod,
                        apps.list_namespaced_deployment,
                    )
                ]
            for item in (item for listed in lists for item in listed.items):
                meta = item.metadata
                if meta.name != CLIENT_SECRET:
                    key = f"{cluster} {type(item).__name__} {meta.namespace}/{meta.name}"
                    versions[key] = meta.resource_version
        return versions


@contextmanager
def denying(fleet: Fleet, cluster: str, policy: dict[str, Any], attempt: Callable[[], object]) -> Iterator[None]:
    """Have a cluster's admission deny what a policy says, for a while; `attempt` is tried, as that takes some time."""

    def denied() -> bool:
        try:
            attempt()
        except client.ApiException as error:
            return "ValidatingAdmissionPolicy 'denying'" in str(error.body)
        return False

    admission: Any = client.AdmissionregistrationV1Api(fleet.api(cluster))
    named = {"metadata": {"name": "denying"}}
    binding = {"policyName": "denying", "validationActions": ["Deny"]}
    admission.create_validating_admission_policy(named | {"spec": policy})
    admission.create_validating_admission_policy_binding(named | {"spec": binding})
    try:
        awaited(denied)
        yield
    finally:
        admission.delete_validating_admission_policy_binding("denying")
        admission.delete_validating_admission_policy("denying")
        awaited(lambda: not denied())


def changed(report: Report, clusters: Iterable[str] | None = None) -> dict[str, dict[str, str]]:
    """Operations by resource, by cluster; clusters without any left out."""
    return {
        name: cluster["changed"]
        for name, cluster in report["clusters"].items()
        if cluster["changed"] and (clusters is None or name in clusters)
    }


def connected(fleet: Fleet, management: str = MANAGEMENT) -> set[str]:
    """The workers whose agents the relay has let in."""
    try:
        streams = proof.gauges(fleet.api(management))
    except (OSError, client.ApiException):
        return set()
    return {worker for worker, ways in streams.items() if ways == {"pull": 1, "push": 1}}
