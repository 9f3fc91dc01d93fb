"""Helm releases, by the helm command on PATH and the records that Helm keeps in the cluster.

Owned here: how a release's arguments become helm's, and how helm's outcome becomes state. Values go in by standard
input and records come out of the API, so no value is ever in an argument or a file.
"""

import base64
import ctypes
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import yaml

from lab.providers.cluster import Cluster
from lab.providers.properties import UNKNOWN, Properties, differences, has_unknowns, merged, pruned
from lab.providers.server import Diff, HalfDoneError, InputError, ProviderError, Request, Resource

DEFAULT_TIMEOUT = 300
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
PR_SET_PDEATHSIG = 1
SWITCHES = {"atomic": "--atomic", "skipCrds": "--skip-crds"}
INSTALL_SWITCHES = SWITCHES | {"createNamespace": "--create-namespace"}
UPGRADE_SWITCHES = SWITCHES | {
    "cleanupOnFail": "--cleanup-on-fail",
    "resetValues": "--reset-values",
    "reuseValues": "--reuse-values",
}

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class Release(Resource):
    """A chart installed under a name, in a namespace."""

    computed = ("status", "resourceNames")

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def check(self, request: Request) -> Properties:
        """Fill in the defaults; take the version from the chart, so that a new chart is a change."""
        inputs = {"namespace": "default"} | request.inputs
        if not inputs.get("name"):
            raise InputError("name", "The stand-in kubernetes provider makes up no names; write the release's name.")
        if not inputs.get("skipAwait"):
            inputs.setdefault("timeout", DEFAULT_TIMEOUT)
        if not has_unknowns(inputs):
            inputs["version"] = _chart_version(inputs["chart"])
        return inputs

    def diff(self, request: Request) -> Diff:
        """Every argument can be upgraded in place but the name and the namespace."""
        changes = differences(pruned(request.state, request.old_inputs), request.inputs)
        return Diff(changes, frozenset(changes) & {"name", "namespace"})

    def preview(self, request: Request) -> Properties:
        """What helm will say isn't known before it has run."""
        return merged(request.state, request.inputs) | dict.fromkeys(self.computed, UNKNOWN)

    def create(self, request: Request) -> tuple[str, Properties]:
        """Install it. A release that Helm recorded but that failed is kept, for the next run to upgrade."""
        inputs = request.inputs
        self._reach("create")
        outcome = self._deploy("install", inputs, INSTALL_SWITCHES)
        record = self._record(inputs)
        if outcome is not None:
            if record is None or "cannot re-use a name" in outcome:
                raise ProviderError(f"{_called(inputs)} was not installed: {outcome}")
            raise HalfDoneError(_failed(inputs, outcome), _id(inputs), _state(inputs, record))
        return _id(inputs), _state(inputs, record)

    def read(self, request: Request) -> tuple[Properties, Properties] | None:
        """Look up Helm's newest record; values that differ from ours show in it."""
        namespace, _, name = request.id.rpartition("/")
        known = request.old_inputs or {"name": name, "namespace": namespace}
        record = self._record(known)
        if record is None:
            return None
        if not request.old_inputs:
            chart = record["chart"]["metadata"]
            known |= {"chart": chart["name"], "version": chart["version"], "values": record.get("config") or {}}
        return known, _state(known, record)

    def update(self, request: Request) -> Properties:
        """Upgrade it. What failed after Helm recorded it is state; what was refused before is not."""
        inputs = request.inputs
        self._reach("update")
        before = self._record(inputs)
        arguments = ["--history-max", str(inputs.get("maxHistory", 0))]
        outcome = self._deploy("upgrade", inputs, UPGRADE_SWITCHES, arguments)
        record = self._record(inputs)
        if outcome is not None:
            if record is None or before is None or record["version"] == before["version"]:
                raise ProviderError(f"{_called(inputs)} was not upgraded: {outcome}")
            raise HalfDoneError(_failed(inputs, outcome), _id(inputs), _state(inputs, record))
        return _state(inputs, record)

    def delete(self, request: Request) -> None:
        """Uninstall it, and wait for its objects unless that was never asked for."""
        self._reach("delete")
        arguments = ["uninstall", request.state["name"], *_waiting(request.state)]
        outcome = self._helm(request.state, arguments)
        if outcome is not None:
            raise ProviderError(f"{_called(request.state)} was not uninstalled: {outcome}")

    def _reach(self, verb: str) -> None:
        """Helm takes long to give up, and then doesn't say which cluster it was."""
        try:
            self.cluster.request("GET", "/version")
        except ProviderError as error:
            raise ProviderError(f"can't {verb} Helm Release with unreachable cluster: {error}") from error

    def _deploy(
        self, verb: str, inputs: Properties, switches: dict[str, str], more: list[str] | None = None
    ) -> str | None:
        arguments = [verb, inputs["name"], inputs["chart"], "--values", "-", *_waiting(inputs), *(more or [])]
        arguments += [switch for name, switch in switches.items() if inputs.get(name)]
        if inputs.get("description"):
            arguments += ["--description", inputs["description"]]
        if inputs.get("postrender"):
            arguments += ["--post-renderer", inputs["postrender"]]
        return self._helm(inputs, arguments, json.dumps(inputs.get("values") or {}))

    def _helm(self, inputs: Properties, arguments: list[str], values: str = "") -> str | None:
        """Run helm; None if it succeeded, else what it says went wrong."""
        helm = shutil.which("helm")
        if helm is None:
            raise ProviderError("There is no helm on PATH; `python -m lab up` brings one.")
        kubeconfig, descriptors = self.cluster.kubeconfig()
        command = [helm, *arguments, "--namespace", inputs["namespace"], "--kubeconfig", kubeconfig]
        if self.cluster.context:
            command += ["--kube-context", self.cluster.context]
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=descriptors,
            preexec_fn=_die_with_parent,
            # Helm's own cache would outlive a lab's clusters, in the user's home.
            env={"KUBECACHEDIR": os.devnull, **os.environ},
        ) as process:
            told = self._finished(process, values)
        if process.returncode == 0:
            return None
        return told.strip().removeprefix("Error: ") or f"helm ended with status {process.returncode}"

    def _finished(self, process: subprocess.Popen[str], values: str) -> str:
        """Helm's complaints; told to stop, it marks the release as failed and comes back."""
        left: str | None = values
        stopping = False
        while True:
            try:
                return process.communicate(left, timeout=0.2)[1]
            except subprocess.TimeoutExpired:
                left = None
                if self.cluster.cancelled.is_set() and not stopping:
                    process.send_signal(signal.SIGTERM)
                    stopping = True

    def _record(self, inputs: Properties) -> Properties | None:
        """Helm's newest record of the release; histories are long, so only that one is fetched."""
        path = self.cluster.collection("v1", "Secret", inputs["namespace"])
        found = self.cluster.request(
            "GET", path, accept=METADATA_ONLY, labelSelector=f"owner=helm,name={inputs['name']}"
        )["items"]
        if not found:
            return None
        newest = max(found, key=lambda item: int(item["metadata"]["labels"]["version"]))
        packed = self.cluster.request("GET", f"{path}/{newest['metadata']['name']}")["data"]["release"]
        return json.loads(gzip.decompress(base64.b64decode(base64.b64decode(packed))))


def _state(inputs: Properties, record: Properties | None) -> Properties:
    if record is None:
        raise ProviderError(f"{_called(inputs)} is gone though helm says it succeeded; run it again.")
    chart = record["chart"]["metadata"]
    return inputs | {
        "values": record.get("config") or {},
        "version": chart["version"],
        "resourceNames": _resource_names(record["manifest"]),
        "status": {
            "appVersion": chart.get("appVersion", ""),
            "chart": chart["name"],
            "name": record["name"],
            "namespace": record["namespace"],
            "revision": record["version"],
            "status": record["info"]["status"],
            "version": chart["version"],
        },
    }


def _resource_names(manifest: str) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for object in yaml.load_all(manifest, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if object:
            metadata = object["metadata"]
            name = "/".join(part for part in (metadata.get("namespace"), metadata["name"]) if part)
            names.setdefault(f"{object['kind']}/{object['apiVersion']}", []).append(name)
    return names


def _chart_version(chart: str) -> str:
    path = Path(chart)
    try:
        if path.is_dir():
            metadata = (path / "Chart.yaml").read_bytes()
        else:
            with tarfile.open(path) as archive:
                [member] = [item for item in archive if Path(item.name).parts[1:] == ("Chart.yaml",)]
                contents = archive.extractfile(member)
                metadata = contents.read() if contents else b""
        return yaml.safe_load(metadata)["version"]
    except (OSError, tarfile.TarError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise InputError(
            "chart", f"The chart {chart} can't be loaded: {error}. Give the path of a packed chart."
        ) from error


def _waiting(inputs: Properties) -> list[str]:
    waiting = [] if inputs.get("skipAwait") and not inputs.get("atomic") else ["--wait"]
    return [*waiting, "--timeout", f"{inputs.get('timeout') or DEFAULT_TIMEOUT}s"]


def _failed(inputs: Properties, outcome: str) -> str:
    return f"{_called(inputs)} failed to initialize completely: {outcome}"


def _called(inputs: Properties) -> str:
    return f'Helm release "{_id(inputs)}"'


def _id(inputs: Properties) -> str:
    return f"{inputs['namespace']}/{inputs['name']}"


def _die_with_parent() -> None:
    """A helm that outlived us would go on changing the cluster while nobody records it."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
