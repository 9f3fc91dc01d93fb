"""A lab: one folder, and the clusters, tools and settings below it.

Everything a lab writes lies in its folder, so ending its processes and deleting that is all its removal
takes. How one cluster is made is `cluster.py`'s.
"""

import fcntl
import os
import random
import secrets
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypedDict

import psutil
from rich.console import Console

from lab import LabError, kubeconfig, packages, plugins
from lab.cluster import ADDRESS, MANIFESTS, Cluster, Event, components, end
from lab.toolbox import CONTROL_PLANE, PULUMI, Toolbox

MANAGEMENT = "mgmt-cluster"
DEFAULT_ROOT = plugins.REPOSITORY / ".lab"


class Status(TypedDict):
    """What there is to know of one cluster from outside."""

    cluster: str
    ready: bool
    version: str | None
    components: dict[str, int]
    memory_mb: int


class Lab:
    """The clusters below one folder."""

    def __init__(self, root: Path | None = None, console: Console | None = None) -> None:
        """The lab at `root`, else where GLOO_MESH_LAB says, else `.lab` in the repository."""
        self.root = (root or Path(os.environ.get("GLOO_MESH_LAB") or DEFAULT_ROOT)).resolve()
        self.kubeconfig = self.root / "kubeconfig"
        self.packages = self.root / "packages"
        self._console = console or Console(stderr=True)
        self._clusters = self.root / "kwok/clusters"
        self._cancelled = threading.Event()

    def up(self, workers: int = 2) -> None:
        """Bring up the management cluster and exactly this many workers; what already runs is kept."""
        names = [MANAGEMENT, *(f"cluster-{number}" for number in range(1, workers + 1))]
        with self._alone():
            self._clusters.mkdir(parents=True, exist_ok=True)
            (self.root / "tmp").mkdir(exist_ok=True)
            self._choose_address()
            self._link_tools()
            packages.pack(self.tool("helm"), self.packages, self._own_environment())
            for surplus in set(self.clusters()) - set(names):
                self._cluster(surplus).remove()
                self._console.print(f"{surplus}: removed")
            self._bring_up(names)
            kubeconfig.write(self.kubeconfig, [self._clusters / name for name in names])
            self._write_settings()

    def down(self) -> None:
        """End every process of this lab and delete its folder."""
        if self.root.exists():
            with self._alone():
                end([process for _, _, process in components(self._clusters)])
                shutil.rmtree(self.root)
        # The folder may have been deleted by hand, from under its processes.
        end([process for _, _, process in components(self._clusters)])

    def clusters(self) -> list[str]:
        """The names of the clusters there are, the management cluster first."""
        names = [folder.name for folder in self._clusters.glob("*")]
        return sorted(names, key=lambda name: (name != MANAGEMENT, len(name), name))

    def status(self) -> list[Status]:
        """How each cluster is doing."""
        report: list[Status] = []
        for name in self.clusters():
            cluster = self._cluster(name)
            processes = cluster.processes()
            # Any of it may end while it is looked at.
            version, resident = None, 0
            with suppress(OSError):
                version = cluster.version() if cluster.complete and cluster.answers() else None
            for process in processes.values():
                with suppress(psutil.NoSuchProcess):
                    resident += process.memory_info().rss
            report.append(
                Status(
                    cluster=name,
                    ready=version is not None,
                    version=version,
                    components={component: process.pid for component, process in processes.items()},
                    memory_mb=resident // 2**20,
                )
            )
        return report

    def stop(self, cluster: str) -> None:
        """Cut a cluster's power; its data stays."""
        self._known(cluster).stop()

    def start(self, cluster: str) -> None:
        """Bring a stopped cluster back, at the same address."""
        self._known(cluster).start()

    def install(self, cluster: str, manifest: str) -> None:
        """Add to a cluster what not every cluster has: `openshift`, or another of `lab/manifests` by its name."""
        self._known(cluster).apply(MANIFESTS / f"{manifest}.yaml")

    def audit(self, cluster: str, user: str = kubeconfig.DEPLOYER) -> list[Event]:
        """What a user has written to a cluster: the audit log's mutating requests, dry runs aside."""
        return self._known(cluster).audit(user)

    @property
    def address(self) -> str:
        """The loopback address that this lab's load balancers give; no other lab's."""
        return (self.root / ADDRESS).read_text()

    @property
    def relay_address(self) -> str:
        """Where the relay of a deployed fleet answers, unless its stack has it elsewhere than at a load balancer."""
        return f"{self.address}:9900"

    def tool(self, name: str) -> Path:
        """The path of one of the lab's tools."""
        path = self.root / "bin" / name
        if not path.exists():
            raise LabError(f"The lab in {self.root} has no {name}. Run `python -m lab up`.")
        return path

    def environment(self) -> dict[str, str]:
        """This process's environment with the lab's settings over it, for whatever is run against the lab."""
        lines = (self.root / "environment").read_text().splitlines()
        settings = dict(shlex.split(line)[0].split("=", 1) for line in lines)
        settings["PATH"] = settings["PATH"].replace("$PATH", os.environ.get("PATH", os.defpath))
        return {**os.environ, **settings}

    def _cluster(self, name: str) -> Cluster:
        return Cluster(name, self.root, self._own_environment(), self._cancelled)

    def _known(self, name: str) -> Cluster:
        if name not in self.clusters():
            known = ", ".join(self.clusters()) or "none"
            raise LabError(f"The lab in {self.root} has no cluster {name}; it has {known}.")
        return self._cluster(name)

    def _bring_up(self, names: list[str]) -> None:
        def bring_up(name: str) -> None:
            start = time.monotonic()
            cluster = self._cluster(name)
            if cluster.complete:
                cluster.start()
            else:
                cluster.create()
            self._console.print(f"{name}: ready after {time.monotonic() - start:.1f} s")

        # More at once would only wait for each other on a small machine, and controllers don't wait for long.
        with ThreadPoolExecutor(max_workers=3) as pool:
            futures = [pool.submit(bring_up, name) for name in names]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                self._cancelled.set()
                pool.shutdown(cancel_futures=True)
                raise

    def _choose_address(self) -> None:
        """An address for the lab's whole life: every relay has the same port, and labs run side by side."""
        file = self.root / ADDRESS
        # Elsewhere than on Linux the loopback has this one address.
        common = self.root == DEFAULT_ROOT or sys.platform != "linux"
        if not file.exists():
            file.write_text("127.0.0.1" if common else f"127.{random.randint(1, 254)}.{random.randint(0, 254)}.1")

    def _link_tools(self) -> None:
        toolbox = Toolbox(self._console)
        folders = [toolbox.obtain(family) for family in CONTROL_PLANE]
        try:
            folders.append(toolbox.obtain(PULUMI))
        except LabError as problem:
            self._console.print(f"No Pulumi CLI: {problem}\nThe clusters don't need it; deploying does.")
        (self.root / "bin").mkdir(exist_ok=True)
        for file in [file for folder in folders for file in folder.iterdir()]:
            link = self.root / "bin" / file.name
            link.unlink(missing_ok=True)
            link.symlink_to(file)

    def _write_settings(self) -> None:
        (self.root / "state").mkdir(exist_ok=True)
        passphrase = self.root / "passphrase"
        if not passphrase.exists():
            kubeconfig.write_private(passphrase, secrets.token_urlsafe(24).encode())
        # Stand-ins come first: where they are asked for, they must win over plugins that are there.
        path = [*plugins.write_shims(self.root), self.root / "bin", "$PATH"]
        settings = {
            "PULUMI_HOME": str(plugins.make_home(self.root)),
            "PULUMI_BACKEND_URL": f"file://{self.root}/state",
            "PULUMI_CONFIG_PASSPHRASE_FILE": str(passphrase),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "PULUMI_IGNORE_AMBIENT_PLUGINS": "false",
            **self._caches(),
            "PATH": ":".join(map(str, path)),
        }
        lines = (f'{name}="{value}"\n' for name, value in settings.items())
        (self.root / "environment").write_text("".join(lines))

    def _caches(self) -> dict[str, str]:
        """Where kubectl and helm keep what they would otherwise keep in the user's home."""
        places = {"KUBECACHEDIR": "kubectl", "HELM_CACHE_HOME": "helm/cache"}
        places |= {"HELM_CONFIG_HOME": "helm/config", "HELM_DATA_HOME": "helm/data"}
        return {name: str(self.root / "tmp" / place) for name, place in places.items()}

    def _own_environment(self) -> dict[str, str]:
        path = f"{self.root / 'bin'}:{os.environ.get('PATH', os.defpath)}"
        # Clusters outnumber the cores here: a runtime with two threads looks for work on the second in vain.
        own = {"PATH": path, "KWOK_WORKDIR": str(self.root / "kwok"), "GOMAXPROCS": "1"}
        return {**os.environ, **self._caches(), **own}

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One command at a time changes a lab."""
        others = [entry for entry in self.root.glob("*") if not self._clusters.exists()]
        if self.root != DEFAULT_ROOT and others:
            raise LabError(
                f"{self.root} holds other things than a lab, {others[0].name} for one. "
                "Let GLOO_MESH_LAB name an empty or a new folder."
            )
        self.root.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.root, os.O_RDONLY)
        try:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LabError(f"Another command is changing the lab in {self.root}. Repeat when it is done.") from None
            yield
        finally:
            os.close(folder)
