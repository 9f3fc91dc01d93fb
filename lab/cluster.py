"""One cluster of the lab: its control plane's processes, on loopback, made and started by kwokctl.

A process is known as ours by its own command, which lies in the cluster's folder: pid files outlive crashes
and reboots, and a number in one may belong to somebody else by then. What the clusters share is `fleet.py`'s.
"""

import contextlib
import fcntl
import json
import random
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import psutil
import yaml

from lab import LabError, kubeconfig, toolbox

MANIFESTS = Path(__file__).parent / "manifests"
ADDRESS = "address"
"""The file in a lab's folder with the address of its load balancers; that of its second node follows."""
METRICS_PORT = 9091
PORT_FORWARD = "ClusterPortForward"
COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok-controller")
STAND_IN = "relay"
"""What runs beside a control plane, as the process is called."""
# Generous, because a component that dies ends the waiting at once.
PATIENCE_SECONDS = 180
ATTEMPTS = 4
# Below the range that outgoing connections take theirs from, so that a stopped cluster finds its ports again, and
# below the node ports, where the relay listens, too.
PORTS = range(18000, 30000)
WRITING_VERBS = {"create", "update", "patch", "delete", "deletecollection"}
# Collecting garbage less often makes starting a quarter cheaper; the limit keeps that from costing memory.
THRIFT = {"GOGC": "400", "GOMEMLIMIT": "600MiB"}
# In milliseconds.
QUIET = {"heartbeat-interval": "500", "election-timeout": "5000"}
PROBED = "default"
"""The namespace in which pods are injected until that is seen to work; one of its own would take 5 s to go."""
ISTIO_CRDS = ("gateways.networking.istio.io", "virtualservices.networking.istio.io")
"""What is used of Istio's; all the others would cost every API server time and 200 MB."""
# What these look after doesn't occur in the lab; their caches would cost memory in every cluster.
IDLE_CONTROLLERS = (
    "certificatesigningrequest-approving",
    "certificatesigningrequest-cleaner",
    "certificatesigningrequest-signing",
    "ephemeral-volume",
    "horizontal-pod-autoscaler",
    "legacy-serviceaccount-token-cleaner",
    "node-ipam",
    "persistentvolume-attach-detach",
    "persistentvolume-expander",
    "podcertificaterequest-cleaner",
    "resourceclaim",
    "storageversion-garbage-collector",
    "ttl",
)

Event = dict[str, Any]


class Cluster:
    """A control plane and its fake nodes."""

    def __init__(
        self,
        name: str,
        root: Path,
        environment: Mapping[str, str],
        cancelled: threading.Event,
    ) -> None:
        """The cluster of this name in the lab at `root`, whether it exists yet or not.

        Its tools run in `environment`; its waiting ends when `cancelled` is set.
        """
        self.name = name
        self.folder = root / "kwok/clusters" / name
        self._root = root
        self._configured = root / "kwok" / f"{name}.yaml"
        self._environment = environment
        self._cancelled = cancelled

    @property
    def complete(self) -> bool:
        """Whether it was made to the end: the deployer's certificate is what is written last."""
        return (self.folder / kubeconfig.CERTIFICATE).exists()

    def processes(self) -> dict[str, psutil.Process]:
        """The running components and their processes."""
        return {name: process for folder, name, process in components(self.folder) if folder == self.folder}

    def create(self) -> None:
        """Make the cluster from nothing: start it, and install what every cluster of the lab holds."""
        self.remove()
        # Of all labs: while a cluster is made or stopped, its ports look free to every other one.
        with (toolbox.cache_folder() / "ports.json").open("a+") as given:
            fcntl.flock(given, fcntl.LOCK_EX)
            given.seek(0)
            known: dict[str, list[int]] = json.loads(given.read() or "{}")
            known = {file: ports for file, ports in known.items() if Path(file).exists()}
            chosen = _free_ports({port for ports in known.values() for port in ports})
            *ports, metrics = chosen
            parts = [yaml.safe_dump_all([self._configuration(ports), self._port_forward(metrics)])]
            parts += [self._manifest(file.name) for file in sorted(MANIFESTS.glob("stage-*.yaml"))]
            self._configured.write_text("\n---\n".join(parts))
            given.truncate(0)
            given.write(json.dumps(known | {str(self._configured): chosen}))
        files = f"{self._configured},{self._root / 'bin/stages.yaml'}"
        # Without the empty --kubeconfig kwokctl would add a context to the user's own.
        self._launch("create", "cluster", "--kubeconfig", "", "--wait", "0s", "--config", files)
        self.start()
        self._install()
        kubeconfig.issue(self.folder)

    def start(self) -> None:
        """Start the components that don't run; data and ports are those of before."""
        for _ in range(ATTEMPTS):
            running = self.processes()
            if not running.keys() >= set(COMPONENTS):
                for file in (self.folder / "pids").glob("*.pid"):
                    # kwokctl would take a stranger who has this number by now for the component.
                    if file.stem not in running:
                        file.unlink()
                self._launch("start", "cluster", "--wait", "0s")
            self._await(self.answers, "the API server doesn't become ready")
            self._await(self._settled, "kwok doesn't listen")
            if not self._dead():
                self._start_stand_in()
                return
            # On a busy machine controllers give up before the API server is ready: they are started again.
        raise LabError(f"{self.name}: {' and '.join(self._dead())} won't stay up. {self._reason()}")

    def stop(self) -> None:
        """End every component at once, as a power cut would."""
        end([process for _, _, process in components(self.folder)])

    def remove(self) -> None:
        """End every component and delete the data."""
        self.stop()
        self._configured.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def answers(self) -> bool:
        """Whether the API server says that it is ready."""
        try:
            return self._read("/readyz") == "ok"
        except OSError:
            return False

    def version(self) -> str:
        """The API server's version."""
        return json.loads(self._read("/version"))["gitVersion"]

    def audit(self, user: str) -> list[Event]:
        """What a user has written, by the API server's audit log: mutating requests, dry runs aside."""
        # What follows the last line's end is still being written.
        lines = (self.folder / "logs/audit.log").read_text().rpartition("\n")[0].splitlines()
        events: list[Event] = [json.loads(line) for line in lines if f'"{user}"' in line]
        return [
            event
            for event in events
            if event["user"]["username"] == user
            and event["verb"] in WRITING_VERBS
            and "dryRun=All" not in event["requestURI"]
        ]

    def apply(self, *files: Path, stdin: str = "") -> None:
        """Install manifests as an administrator, not as the deployer; their custom resources can be made at once."""
        sources = [argument for file in [*files, *(["-"] if stdin else [])] for argument in ("-f", str(file))]
        self._kubectl("apply", "--server-side", *sources, stdin=stdin)
        self._await(self._definitions_established, "the API server doesn't serve all custom resources")

    def _configuration(self, ports: list[int]) -> dict[str, Any]:
        bin_folder = self._root / "bin"
        names = ("etcdPort", "etcdPeerPort", "kubeApiserverPort", "kubeControllerManagerPort")
        options = {
            "runtime": "binary",
            "bindAddress": "127.0.0.1",
            "kubeVersion": f"v{toolbox.KUBERNETES}",
            "etcdBinary": str(bin_folder / "etcd"),
            "kubeApiserverBinary": str(bin_folder / "kube-apiserver"),
            "kubeControllerManagerBinary": str(bin_folder / "kube-controller-manager"),
            "kubeSchedulerBinary": str(bin_folder / "kube-scheduler"),
            "kubectlBinary": str(bin_folder / "kubectl"),
            "kwokControllerBinary": str(bin_folder / "kwok"),
            "kubeAuditPolicy": str(MANIFESTS / "audit-policy.yaml"),
            # What the injector is made of is beta in this version and off unless asked for.
            "kubeFeatureGates": "MutatingAdmissionPolicy=true",
            "kubeRuntimeConfig": "admissionregistration.k8s.io/v1beta1=true",
            "disableQPSLimits": True,
            **dict(zip((*names, "kubeSchedulerPort", "kwokControllerPort"), ports, strict=True)),
        }
        alone = {"key": "leader-elect", "value": "false"}
        controllers = ",".join(["*", *(f"-{name}-controller" for name in IDLE_CONTROLLERS)])
        patches = [
            {
                "name": "kube-apiserver",
                # A cache and a watch for each of some 150 kinds, and nobody who reads from most: a third of all that
                # an idle lab does.
                "extraArgs": [{"key": "watch-cache", "value": "false"}],
                "extraEnvs": [{"name": n, "value": v} for n, v in THRIFT.items()],
            },
            {
                "name": "kube-controller-manager",
                # Pods that an outage made unready would stay so: no kubelet comes back to say that they are well.
                "extraArgs": [
                    alone,
                    {"key": "controllers", "value": controllers},
                    {"key": "node-monitor-grace-period", "value": "24h"},
                ],
            },
            {"name": "kube-scheduler", "extraArgs": [alone]},
            # Without leases it looks after its nodes at once, and an idle cluster does half of what it did.
            {"name": "kwok-controller", "extraArgs": [{"key": "node-lease-duration-seconds", "value": "0"}]},
            # It has nobody to be heard by.
            {"name": "etcd", "extraArgs": [{"key": k, "value": v} for k, v in QUIET.items()]},
        ]
        return {
            "apiVersion": "config.kwok.x-k8s.io/v1alpha1",
            "kind": "KwokctlConfiguration",
            "options": options,
            "componentsPatches": patches,
        }

    def _port_forward(self, metrics: int) -> dict[str, Any]:
        """Where the vendor's health check looks: a forward to the metrics port of a pod ends at the relay."""
        forward = {"ports": [METRICS_PORT], "target": {"address": "127.0.0.1", "port": metrics}}
        return {
            "apiVersion": "kwok.x-k8s.io/v1alpha1",
            "kind": PORT_FORWARD,
            "metadata": {"name": "relay-metrics"},
            # The pods' names aren't known before they are made.
            "spec": {"forwards": [forward]},
        }

    def _start_stand_in(self) -> None:
        """Start what stands beside this cluster for the relay and the agents that are deployed, unless it runs."""
        if STAND_IN in self.processes():
            return
        documents = list(yaml.safe_load_all(self._configured.read_text()))
        forward = next((found["spec"]["forwards"][0] for found in documents if found["kind"] == PORT_FORWARD), None)
        if forward is None:
            raise LabError(f"{self.name} was made by an older lab. Run: python -m lab down")
        metrics = f"--metrics-port={forward['target']['port']}"
        server = f"--api-server={kubeconfig.server(self.folder)}"
        with (self.folder / f"logs/{STAND_IN}.log").open("a") as log:
            # A session of its own: Ctrl-C in the terminal is not meant for it.
            subprocess.Popen(
                [sys.executable, "-P", "-m", "lab.relay", server, metrics, self.folder],
                env={**self._environment, "PYTHONPATH": str(Path(__file__).parents[1])},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _manifest(self, name: str) -> str:
        """A manifest with this lab's addresses in it."""
        network = (self._root / ADDRESS).read_text().removesuffix("1")
        return (MANIFESTS / name).read_text().replace("127.0.0.", network)

    def _install(self) -> None:
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": kubeconfig.DEPLOYER},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "cluster-admin",
            },
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": kubeconfig.DEPLOYER}],
        }
        namespace = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": PROBED, "labels": {"istio-injection": "enabled"}},
        }
        # Told apart by a line each, because reading them all as YAML takes seconds.
        definitions = (self._root / "bin/istio-crds.yaml").read_text().split("\n---\n")
        crds = [text for text in definitions if any(f"\n  name: {name}\n" in text for name in ISTIO_CRDS)]
        if len(crds) != len(ISTIO_CRDS):
            raise LabError(f"{self.name}: istio-crds.yaml doesn't define {' and '.join(ISTIO_CRDS)} once each.")
        own = [MANIFESTS / f"{name}.yaml" for name in ("injector", "istio")]
        given = [yaml.safe_dump_all([binding, namespace]), self._manifest("nodes.yaml"), *crds]
        self.apply(*own, stdin="\n---\n".join(given))
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "probe", "namespace": PROBED},
            "spec": {"containers": [{"name": "app", "image": "app"}]},
        }
        containers = ("create", "--dry-run=server", "-o", "jsonpath={.spec.containers[*].name}", "-f", "-")

        def injects() -> bool:
            # A policy is stored at once but acts only when the server's cache has it, and a pod is refused until
            # its namespace has a service account.
            answer = self._try_kubectl(*containers, stdin=yaml.safe_dump(pod))
            return "istio-proxy" in answer.stdout

        self._await(injects, "the sidecar injector doesn't act")
        self._kubectl("label", "namespace", PROBED, "istio-injection-")

    def _definitions_established(self) -> bool:
        # `kubectl wait` would ask for one after the other.
        each = '{range .items[*]}{.status.conditions[?(@.type=="Established")].status},{end}'
        answer = self._try_kubectl("get", "crd", "-o", f"jsonpath={each}")
        return answer.returncode == 0 and set(answer.stdout.removesuffix(",").split(",")) == {"True"}

    def _settled(self) -> bool:
        """Whether kwok listens, or is gone: kwok 0.8.0 may end by itself before (two of its parts write one map)."""
        port = int(re.findall(r"kwokControllerPort: (\d+)", self._configured.read_text())[0])
        with socket.socket() as call:
            return call.connect_ex(("127.0.0.1", port)) == 0 or "kwok-controller" in self._dead()

    def _await(self, condition: Callable[[], bool], complaint: str) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            if self._cancelled.is_set():
                raise LabError(f"{self.name}: given up, because another cluster failed or the lab was interrupted.")
            # Without these two the others wait in vain.
            fallen = not set(self._dead()).isdisjoint({"etcd", "kube-apiserver"})
            if fallen or time.monotonic() > until:
                raise LabError(f"{self.name}: {complaint}. {self._reason()}")
            time.sleep(0.1)

    def _dead(self) -> list[str]:
        """The components that were started and are gone."""

        def gone(name: str, pid: int) -> bool:
            try:
                command = psutil.Process(pid).cmdline()
            except psutil.Error:
                return True
            # In its first moment a process has no command yet.
            return bool(command) and Path(command[0]) != self.folder / "bin" / name

        return [name for name, pid in self._pids().items() if gone(name, pid)]

    def _pids(self) -> dict[str, int]:
        """The components that were started and their process ids."""
        files = {file.stem: file.read_text() for file in (self.folder / "pids").glob("*.pid")}
        # A file that is still empty is being written.
        return {name: int(pid) for name, pid in files.items() if pid}

    def _reason(self) -> str:
        # In this order, because whatever asks an API server ends soon after it.
        fallen = next((name for name in COMPONENTS if name in self._dead()), "kube-apiserver")
        log = self.folder / "logs" / f"{fallen}.log"
        last = "\n".join(log.read_text().strip().splitlines()[-3:])
        return f"The end of {log}:\n{last}\nRun `python -m lab down`, then `up`."

    def _read(self, path: str) -> str:
        trust = ssl.create_default_context(cafile=self.folder / "pki/ca.crt")
        # Never by a proxy that the user's environment names: the server is on loopback.
        direct = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
        )
        with direct.open(kubeconfig.server(self.folder) + path, timeout=3) as response:
            return response.read().decode()

    def _launch(self, *arguments: str) -> None:
        """Have kwokctl start the components that have no pid file."""
        command = [self._root / "bin/kwokctl", *arguments, "--name", self.name]
        with subprocess.Popen(
            command, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as running:
            output = ""
            while running.returncode is None:
                try:
                    output, _ = running.communicate(timeout=0.1)
                except subprocess.TimeoutExpired:
                    # All it has left to do is to ask for the server, with a kubectl for each time it asks, and
                    # for two minutes even where there is none. Our own asking is lighter.
                    if len(self._pids()) == len(COMPONENTS) or self._cancelled.is_set():
                        running.kill()
        if running.returncode and len(self._pids()) < len(COMPONENTS):
            reason = "".join(output.strip().splitlines()[-1:])
            raise LabError(f"{self.name}: `kwokctl {' '.join(arguments[:2])}` failed. {reason}")

    def _kubectl(self, *arguments: str, stdin: str = "") -> None:
        done = self._try_kubectl(*arguments, stdin=stdin)
        if done.returncode:
            raise LabError(f"{self.name}: `kubectl {arguments[0]}` failed: {done.stderr.strip()}")

    def _try_kubectl(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [self._root / "bin/kubectl", "--kubeconfig", self.folder / "kubeconfig.yaml", *arguments]
        return subprocess.run(command, env=self._environment, input=stdin, capture_output=True, text=True, check=False)


def components(below: Path) -> list[tuple[Path, str, psutil.Process]]:
    """Every running component below a folder: its cluster's folder, its name, its process."""
    found: list[tuple[Path, str, psutil.Process]] = []
    for process in psutil.process_iter():
        try:
            folder, name = _component(process.cmdline())
        except psutil.Error:
            continue
        if name and folder.is_relative_to(below):
            found.append((folder, name, process))
    return found


def _component(command: list[str]) -> tuple[Path, str | None]:
    """The folder of a cluster and what this command is of it, if it is anything of one."""
    binary = Path(command[0] if command else "")
    folder = binary.parent.parent
    if binary == folder / "bin" / binary.name and binary.name in COMPONENTS:
        return folder, binary.name
    if command[2:4] == ["-m", "lab.relay"]:
        return Path(command[-1]), STAND_IN
    return folder, None


def end(processes: list[psutil.Process]) -> None:
    """Kill processes and wait until they are gone; psutil refuses where a number has changed hands."""
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    while any(runs(process) for process in processes):
        time.sleep(0.02)


def end_family(pid: int) -> None:
    """The same for a process and everything that it has started."""
    process = psutil.Process(pid)
    end([*process.children(recursive=True), process])


def runs(process: psutil.Process) -> bool:
    """Whether a process still does anything."""
    # Where nothing reaps orphans they stay zombies, which hold no memory and no port once their last thread has ended.
    try:
        return process.is_running() and (process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1)
    except psutil.NoSuchProcess:
        return False


def _free_ports(taken: Collection[int]) -> list[int]:
    """A port for each of kwokctl's six listeners and the relay's; kwokctl's own choice collides when several run."""
    free: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            if port not in taken:
                free.append(port)
        if len(free) == 7:
            break
    return free
