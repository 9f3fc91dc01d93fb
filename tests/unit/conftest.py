"""A stack to run the program on: real files for kubeconfig and charts, a recorder for the engine."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import yaml
from pulumi.runtime.mocks import MockResourceArgs

from components.charts import Chart, digest, read_lock, required, write_lock
from components.settings import ClusterSettings, ConfigurationError, Settings
from operations import everywhere, program
from operations.program import Recorder, Registered, is_secret

# On a busy machine an example may take any time, and what fails must fail again.
hypothesis.settings.register_profile(
    "steady",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("steady")

LICENSE = "licence-canary-4711"
VERSION = dict.fromkeys(
    ["major", "minor", "gitVersion", "gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"], "1"
)
CONTEXTS = ("mgmt-cluster", "cluster-1", "cluster-2", "cluster-3")
Found = Callable[[MockResourceArgs, dict[str, Any]], dict[str, Any]]
"""Of a resource and what a recorder has of it, the outputs that are others."""


class Run:
    """What one run of the program registered."""

    def __init__(self, recorder: Recorder) -> None:
        self.registered = recorder.registered
        self.hooks = recorder.hooks

    def named(self, name: str, of_type: str = "") -> Registered:
        found = [r for r in self.registered if r.name == name and r.type.endswith(of_type)]
        assert len(found) == 1, f"{len(found)} resources are named {name}: {[r.key for r in self.registered]}"
        return found[0]

    def of_type(self, suffix: str) -> list[Registered]:
        return [r for r in self.registered if r.type.endswith(suffix)]

    @property
    def kubernetes(self) -> list[Registered]:
        return [r for r in self.registered if r.type.startswith("kubernetes:")]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The seeds' fleet, in plain values; change it before `deploy`."""
    monkeypatch.chdir(tmp_path)
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump({"contexts": [{"name": name, "context": {}} for name in CONTEXTS]}))
    vendor(tmp_path / "charts", "1.2.9")
    return {
        "version": "1.2.9",
        "charts": "charts",
        "kubeconfig": str(kubeconfig),
        "management": {"context": "mgmt-cluster"},
        "workers": {"cluster-1": {}, "cluster-2": {}},
        "dashboard": {"authentication": "none"},
        "licenseKey": LICENSE,
    }


def vendor(folder: Path, version: str) -> None:
    """Archives with a lock; the program never opens them, the engine does."""
    folder.mkdir(exist_ok=True)
    charts = read_lock(folder)
    for name in required():
        path = folder / f"{name}-{version}.tgz"
        path.write_bytes(f"{name} {version}".encode())
        charts.append(Chart(file=path.name, name=name, version=version, sha256=digest(path), origin="a test"))
    write_lock(folder, charts)


@pytest.fixture
def deploy() -> Callable[..., Run]:
    """Run the real `__main__.py` on a configuration, to the end of everything it started."""

    def deploy(config: Mapping[str, Any], secret: tuple[str, ...] = ("licenseKey",)) -> Run:
        with program.recording("test", program.given(config), [f"gloo-mesh:{key}" for key in secret]) as recorder:
            program.drained(program.run)
        return Run(recorder)

    return deploy


@pytest.fixture
def stack(config: dict[str, Any], deploy: Callable[..., Run]) -> Run:
    """The seeds' fleet, run once."""
    return deploy(config)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Callable[[Found], None]:
    """Have the next deployment find something else of its resources than a recorder has."""

    def found(other: Found) -> None:
        before = program._Outputs.new_resource

        def new_resource(self: program._Outputs, args: MockResourceArgs) -> tuple[str, dict[str, Any]]:
            resource_id, outputs = before(self, args)
            return resource_id, outputs | other(args, outputs)

        monkeypatch.setattr(program._Outputs, "new_resource", new_resource)

    return found


def unwrapped(value: Any) -> Any:
    """A recorded input without the SDK's envelope of secrets."""
    return value["value"] if is_secret(value) else value


def faults(config: Mapping[str, Any], secret: tuple[str, ...] = ("licenseKey",)) -> list[str]:
    """What a configuration is refused for."""
    with pytest.raises(ConfigurationError) as refused:
        Settings.parse(config, secret)
    return refused.value.faults


def only_fault(config: Mapping[str, Any], secret: tuple[str, ...] = ("licenseKey",)) -> str:
    (fault,) = faults(config, secret)
    return fault


class Answers:
    """An API server that answers from a dictionary, by path; what is an exception there is raised."""

    def __init__(self, held: Mapping[str, Any]) -> None:
        self._held = held

    def enter(self) -> None:
        """It answers."""

    def get(self, path: str) -> Any:
        found = self._held.get(path)
        if isinstance(found, Exception):
            raise found
        return found

    def left(self) -> Any:
        return self.get("left")

    def text(self, path: str, _seconds: float) -> str:
        return self.get(path)

    def credentials(self) -> list[str]:
        return ["kubeconfig-canary"]


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, Any]], None]:
    """Have clusters answer from what each has, by name; one that is an exception isn't reached for it."""

    def answering(fleet: Mapping[str, Any]) -> None:
        def api(cluster: ClusterSettings, _seconds: float) -> Answers:
            held = fleet[cluster.name]
            if isinstance(held, Exception):
                raise held
            return Answers(held)

        monkeypatch.setattr(everywhere, "Api", api)

    return answering


class Server:
    """An API server, or a proxy before one, that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.busy: list[str] = []
        """Of each of the next questions, for how many seconds it is put off."""
        self.answer: tuple[int, str] = (200, json.dumps(VERSION))
        self.trickles = threading.Event()
        """Whether an answer's body comes a byte at a time, and never comes to its end."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, dict(self.headers)))
                if outer.busy:
                    self.send_response(429)
                    self.send_header("Retry-After", outer.busy.pop())
                else:
                    self.send_response(outer.answer[0])
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                with suppress(OSError):
                    while outer.trickles.is_set():
                        self.wfile.write(b" ")
                        time.sleep(0.05)
                    self.wfile.write(outer.answer[1].encode())

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"

    @property
    def headers(self) -> dict[str, str]:
        """Of the only request there was."""
        ((_, headers),) = self.asked
        return headers


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    threading.Thread(target=server.server.serve_forever, kwargs={"poll_interval": 0.01}).start()
    yield server
    server.trickles.clear()
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture
def cluster(config: dict[str, Any], server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ClusterSettings]:
    """The management cluster, its kubeconfig written with this user."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    settings = Settings.parse(config, ("licenseKey",)).management_cluster

    def cluster(user: dict[str, Any], host: str = server.host, **reached: Any) -> ClusterSettings:
        document = {
            "contexts": [{"name": settings.context, "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": f"http://{host}", **reached}}],
            "users": [{"name": "u", "user": user}],
        }
        Path("kubeconfig").write_text(yaml.safe_dump(document))
        return settings

    return cluster
