"""Secrets of a fleet are where they must be and nowhere else, whatever is run; and what the verbs that only look say.

One worker, one deployment. Each secret is a canary, searched for in every form it could travel in.
"""

import base64
import gzip
import io
import json
import os
import signal
import stat
import subprocess
import sys
import tarfile
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from kubernetes import client

from lab.fleet import MANAGEMENT, Lab
from lab.plugins import HOME
from tests.authority import DAY, root
from tests.awaiting import awaited
from tests.engine.fleet import CLIENT_SECRET as CLIENT_SECRET_NAME
from tests.engine.fleet import Fleet

pytestmark = pytest.mark.engine

LAB_WORKERS = 1
WORKER = "cluster-1"
VERBS: tuple[tuple[str, ...], ...] = (
    # First, because what an agent does takes a while: it asks the relay for its certificate.
    ("check", "--wait", "3m"),
    ("check", "--json"),
    ("preflight",),
    ("preflight", "--json"),
    ("recover",),
    ("recover", "--yes", "--json"),
    ("diff", "--to", "1.2.9"),
    ("diff", "--to", "1.2.9", "--json"),
    ("preview",),
    ("preview", "--json"),
    ("certificates",),
    ("certificates", "--json"),
    ("certificates", "--prometheus"),
    ("plan",),
    ("plan", "--json"),
    ("plan", "--mermaid"),
    ("plan", "--against", "PLAN"),
    ("up", "--yes", "--json"),
    ("gather", "--output", "BUNDLE"),
)
"""What is run on the deployed fleet, beside an `up` that fails, one that doesn't, and one that is killed."""
OIDC = {"issuerUrl": "https://login.example.com/", "clientId": "gloo-mesh-dashboard", "appUrl": "https://mesh.example"}
LICENCE, CLIENT_SECRET, REGISTRY, PASSED = "licence", "OpenID Connect secret", "registry's password", "passed value"
IDENTITY, FORWARDING, ROOT_KEY, SERVER_KEY, SIGNING_KEY, CLIENT_KEY, ACCESS, PASSPHRASE = (
    "identity token",
    "forwarding token",
    "root key",
    "server key",
    "signing key",
    "agent's key",
    "kubeconfig's key",
    "passphrase",
)
HELD = {
    (MANAGEMENT, "relay-server-tls-secret"): {SERVER_KEY},
    (MANAGEMENT, "relay-tls-signing-secret"): {SIGNING_KEY},
    (MANAGEMENT, "relay-identity-token-secret"): {IDENTITY},
    (MANAGEMENT, "relay-forwarding-identity-token-secret"): {FORWARDING},
    (MANAGEMENT, "gloo-mesh-enterprise-license"): {LICENCE},
    (MANAGEMENT, "dashboard"): {CLIENT_SECRET},
    (WORKER, "relay-identity-token-secret"): {IDENTITY},
    (WORKER, "relay-client-tls-secret"): {CLIENT_KEY},
    (WORKER, "gloo-mesh-registry"): {REGISTRY},
    (WORKER, "gloo-mesh-enterprise-license"): {LICENCE},
    # Helm keeps the values it was given, and what it rendered, in clear.
    (MANAGEMENT, "sh.helm.release.v1.gloo-mesh-enterprise"): {LICENCE, CLIENT_SECRET},
    (WORKER, "sh.helm.release.v1.enterprise-agent"): {PASSED},
    (WORKER, "sh.helm.release.v1.enterprise-agent-addons"): {LICENCE},
}
"""The Secrets that hold canaries, and which: no other holds any."""


class Canaries:
    """Secrets by name, found in whatever form."""

    def __init__(self, planted: dict[str, str]) -> None:
        self._forms = {name: list(_forms(value.strip())) for name, value in planted.items()}

    def found(self, content: bytes) -> set[str]:
        return {name for name, forms in self._forms.items() if any(form in content for form in forms)}


def _forms(value: str) -> Iterator[bytes]:
    """As it is and in base64 at any offset; of several lines each long one, and what they say in binary."""
    lines = [line for line in value.splitlines() if not line.startswith("-----")]
    if len(lines) > 1:
        yield base64.b64decode("".join(lines))
    for text in [line for line in lines if len(line) > 20] if len(lines) > 1 else [value]:
        yield text.encode()
        for offset in range(3):
            # Four characters at each end may depend on the neighbours.
            yield base64.b64encode(b"\0" * offset + text.encode())[4:-4]


class Arguments(threading.Thread):
    """The argument lists of every process that lives long enough to be seen."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[bytes] = set()
        self._looks: Counter[str] = Counter()
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(0.05):
            for entry in os.listdir("/proc"):
                # The first looks may see what starts a program, before it becomes that program.
                if entry.isdigit() and self._looks[entry] < 4:
                    self._looks[entry] += 1
                    try:
                        self.seen.add(Path("/proc", entry, "cmdline").read_bytes())
                    except OSError:
                        continue

    def stop(self) -> None:
        self._stopped.set()
        self.join()


@dataclass
class Lived:
    """What a fleet's life left behind."""

    canaries: Canaries
    outputs: dict[str, subprocess.CompletedProcess[str]]
    arguments: set[bytes]
    bundle: dict[str, bytes] = field(default_factory=dict)


@pytest.fixture(scope="module")
def planted() -> dict[str, str]:
    """What is given to the fleet's configuration."""
    payload = {"exp": (datetime.now(UTC) + timedelta(days=400)).timestamp(), "canary": os.urandom(12).hex()}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({"a": 1}, payload)]
    names = (CLIENT_SECRET, REGISTRY, PASSED)
    return {LICENCE: ".".join([*parts, os.urandom(16).hex()])} | {
        name: f"canary-{os.urandom(12).hex()}" for name in names
    }


@pytest.fixture(scope="module")
def home(lab: Lab) -> Iterator[Path]:
    """Pulumi's own folder, with a log of each run, as everybody's."""
    folder = lab.root / HOME
    (folder / "logs").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GOGC")
        yield folder


@pytest.fixture(scope="module")
def fleet(lab: Lab, home: Path, planted: dict[str, str]) -> Fleet:
    """The lab stack with every kind of secret there is; not deployed yet."""
    passed = {"agent": {"enterpriseAgent": {"env": [{"name": "PASSED", "value": {"secret": "passed"}}]}}}
    fleet = Fleet(
        lab,
        "canaries",
        {
            "gloo-mesh:kubeconfig": {"secret": "access"},
            "gloo-mesh:dashboard": {"authentication": "oidc", "oidc": OIDC},
            "gloo-mesh:workers": {WORKER: {"images": {"pullSecret": {"secret": "registry"}}, "values": passed}},
        },
    )
    secrets = {
        "licenseKey": planted[LICENCE],
        "oidcClientSecret": planted[CLIENT_SECRET],
        "registry": json.dumps({"auths": {"registry.example": {"password": planted[REGISTRY]}}}),
        "passed": planted[PASSED],
        "access": lab.kubeconfig.read_text(),
    }
    for key, value in secrets.items():
        fleet.pulumi("config", "set", "--secret", f"gloo-mesh:{key}", given=value)
    return fleet


@pytest.fixture(scope="module")
def lived(fleet: Fleet, planted: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Lived:
    """Deploy it, once in vain, and run everything."""
    folder = tmp_path_factory.mktemp("bundle")
    bundle, plan = folder / "bundle.tar.gz", folder / "plan.json"
    files = {"BUNDLE": str(bundle), "PLAN": str(plan)}
    watch = Arguments()
    watch.start()
    try:
        outputs = {"failing up": _failing_up(fleet), "up": fleet.run("up", "--yes")}
        plan.write_text(fleet.run("plan", "--json").stdout)
        fleet.configure("defaults", {"resources": {"requests": {"cpu": "70m"}}})
        outputs["killed up"] = _killed_up(fleet)
        outputs |= {f"{verb} after that": fleet.run(verb, "--yes") for verb in ("recover", "up")}
        for verb in VERBS:
            outputs[" ".join(verb)] = fleet.run(*(files.get(word, word) for word in verb))
    finally:
        watch.stop()
    lived = Lived(Canaries(planted | _made(fleet)), outputs, watch.seen)
    with tarfile.open(bundle) as tar:
        files = {member.name.partition("/")[2]: tar.extractfile(member) for member in tar}
        lived.bundle = {name: file.read() for name, file in files.items() if file}
    lived.bundle["(mode)"] = oct(stat.S_IMODE(bundle.stat().st_mode)).encode()
    return lived


def test_the_search_finds_what_is_planted(tmp_path: Path) -> None:
    key = root().key_pem
    canaries = Canaries({"word": "canary-0815-4711-abcdef", "key": key})
    body = "".join(key.splitlines()[1:-1])
    (tmp_path / "below").mkdir()
    for number, content in enumerate(
        (
            b"x canary-0815-4711-abcdef y",
            base64.b64encode(b"ab canary-0815-4711-abcdef"),
            key.splitlines()[2].encode(),
            base64.b64encode(key.encode()),
            b"\1" + base64.b64decode(body),
        )
    ):
        (tmp_path / "below" / str(number)).write_bytes(content)

    found = dict(_in_files(canaries, [tmp_path]))

    assert [found[str(tmp_path / "below" / str(number))] for number in range(5)] == [
        {"word"},
        {"word"},
        {"key"},
        {"key"},
        {"key"},
    ]
    watch = Arguments()
    watch.start()
    with subprocess.Popen(
        [sys.executable, "-c", "input()", "canary-0815-4711-abcdef"], stdin=subprocess.PIPE
    ) as process:
        while not any(canaries.found(arguments) for arguments in list(watch.seen)):
            assert process.poll() is None
        process.communicate(b"\n")
    watch.stop()


def test_the_failing_up_failed_with_secrets_at_hand_and_the_next_went_through(lived: Lived) -> None:
    failing = lived.outputs["failing up"]

    assert failing.returncode == 1
    assert "management-release" in failing.stdout + failing.stderr
    assert lived.outputs["up"].returncode == 0, lived.outputs["up"].stderr


def test_every_verb_did_what_it_is_for(lived: Lived) -> None:
    codes = {verb: done.returncode for verb, done in lived.outputs.items() if done.returncode}

    # A lab's pods run nothing, so they have no logs to gather.
    assert codes == {
        "failing up": 1,
        "killed up": -signal.SIGKILL,
        "plan --against PLAN": 1,
        "gather --output BUNDLE": 2,
    }, lived.outputs["check --wait 3m"].stdout
    assert "lock-left" in lived.outputs["recover after that"].stdout
    assert "credentials-left" in lived.outputs["recover after that"].stdout


def test_no_output_holds_a_secret(lived: Lived) -> None:
    found = {verb: lived.canaries.found((done.stdout + done.stderr).encode()) for verb, done in lived.outputs.items()}

    assert {verb: names for verb, names in found.items() if names} == {}
    assert not [done.stderr for done in lived.outputs.values() if "Traceback" in done.stdout + done.stderr]


def test_no_process_was_given_a_secret_as_an_argument(lived: Lived) -> None:
    assert any(b"operations" in arguments for arguments in lived.arguments)
    assert [lived.canaries.found(arguments) for arguments in lived.arguments if lived.canaries.found(arguments)] == []


def test_no_state_log_or_temporary_file_holds_a_secret(fleet: Fleet, home: Path, lived: Lived) -> None:
    clusters = [fleet.lab.root / "kwok/clusters" / cluster / "logs" for cluster in fleet.lab.clusters()]
    apart = ("kwok", "bin", "kubeconfig", "passphrase", HOME)
    others = [path for path in fleet.lab.root.iterdir() if path.name not in apart]
    own = [path for path in home.iterdir() if path.name != "plugins"]

    searched = dict(_in_files(lived.canaries, [*clusters, *others, *own]))

    state = str(fleet.lab.root / "state/.pulumi")
    for kind in ("stacks", "history", "backups"):
        assert any(path.startswith(f"{state}/{kind}") for path in searched), f"no {kind} to search"
    assert any(path.endswith("logs/audit.log") for path in searched)
    assert any(path.startswith(str(home / "logs")) for path in searched)
    assert {path: names for path, names in searched.items() if names} == {}


def test_secrets_lie_in_the_secrets_that_are_for_them_and_in_no_other_object(fleet: Fleet, lived: Lived) -> None:
    held: dict[tuple[str, str], set[str]] = {}
    for cluster in fleet.lab.clusters():
        kinds = _kubectl(fleet, cluster, "api-resources", "--verbs=list", "-o", "name").split()
        others = ",".join(kind for kind in kinds if kind != "secrets")
        assert lived.canaries.found(_kubectl(fleet, cluster, "get", others, "-A", "-o", "json").encode()) == (
            {PASSED} if cluster == WORKER else set()
        )
        for secret in json.loads(_kubectl(fleet, cluster, "get", "secrets", "-A", "-o", "json"))["items"]:
            name, data = secret["metadata"]["name"], secret.get("data") or {}
            contents = [base64.b64decode(value) for value in data.values()]
            if secret["type"] == "helm.sh/release.v1":
                name = name.rpartition(".")[0]
                contents = [gzip.decompress(base64.b64decode(content)) for content in contents]
            if found := set().union(*map(lived.canaries.found, contents)):
                held[cluster, name] = held.get((cluster, name), set()) | found

    assert held == HELD


def test_the_bundle_holds_no_secret_and_its_owner_alone_may_read_it(lived: Lived) -> None:
    assert {path: found for path, content in lived.bundle.items() if (found := lived.canaries.found(content))} == {}
    assert lived.bundle["(mode)"] == b"0o600"


def test_the_bundle_tells_what_support_needs(lived: Lived) -> None:
    at = f"clusters/{WORKER}/gloo-mesh"
    told = {path: json.loads(content) for path, content in lived.bundle.items() if path.endswith(".json")}
    keys = {secret["name"]: secret["keys"] for secret in told["clusters/management/gloo-mesh/secrets.json"]}
    pods = {pod["metadata"]["name"] for pod in told[f"{at}/pods.json"]}
    missing = [entry["what"] for entry in told["manifest.json"]["missing"]]

    assert keys["relay-server-tls-secret"]["tls.crt"]["certificates"][0]["names"]
    assert {release["name"] for release in told[f"{at}/releases.json"]} == {"enterprise-agent", "enterprise-agent-crds"}
    assert any(name.startswith("enterprise-agent") for name in pods)
    assert told["clusters/management/multicluster.solo.io/kubernetesclusters.json"][0]["metadata"]["name"] == WORKER
    assert told["versions.json"]["pulumi"]
    assert told["clusters/management/version.json"]["gitVersion"]
    assert told["plan.json"]["clusters"]["management"]
    assert told["findings.json"] == {"preflight": [], "check": [], "certificates": []}
    # A lab's pods run nothing, so they have no logs.
    assert [what for what in missing if " log of " not in what] == []


def test_certificates_are_the_recorded_ones_and_an_up_renews_them(lived: Lived) -> None:
    done = lived.outputs["certificates --json"]
    report = json.loads(done.stdout)
    certificates = {(c["certificate"], c["cluster"]): c for c in report["certificates"]}

    assert done.returncode == 0, report["findings"]
    assert certificates["relay-client", WORKER]["renewal"] == "relay"
    assert certificates.keys() >= {
        ("relay-server", "management"),
        ("relay-signing", "management"),
        ("relay-root", "management"),
        ("relay-root", WORKER),
    }
    server = certificates["relay-server", "management"]
    assert (server["renewal"], server["live"], server["recorded"], server["daysLeft"]) == ("up", True, True, 364)
    assert report["licence"]["daysLeft"] == 399
    assert "operations up" in lived.outputs["certificates"].stdout
    assert "gloo_mesh_certificate_not_after_seconds{" in lived.outputs["certificates --prometheus"].stdout


def test_a_plan_says_what_the_deployment_did_without_an_engine(fleet: Fleet, lived: Lived) -> None:
    plan = json.loads(lived.outputs["plan --json"].stdout)
    planned = {resource["name"] for resources in plan["clusters"].values() for resource in resources}
    state = json.loads(fleet.pulumi("stack", "export"))["deployment"]["resources"]
    deployed = {
        resource["urn"].rpartition("::")[2]
        for resource in state
        if not resource["type"].startswith(("pulumi:", "gloo-mesh:"))
    }

    assert planned == deployed


def test_a_certificate_that_ends_and_a_worker_that_is_down_are_told(fleet: Fleet, lived: Lived) -> None:
    core = fleet.core(MANAGEMENT)
    name = "relay-server-tls-secret"
    before: Any = core.read_namespaced_secret(name, "gloo-mesh")
    ending = root().issue("server", begins=-360 * DAY, ends=5 * DAY)
    core.patch_namespaced_secret(name, "gloo-mesh", {"stringData": {"tls.crt": ending.pem}})
    fleet.lab.stop(WORKER)
    try:
        done = fleet.run("certificates", "--json")
        bundle = fleet.lab.root / "down.tar.gz"
        gathered = fleet.run("gather", "--output", str(bundle))
    finally:
        core.patch_namespaced_secret(name, "gloo-mesh", {"data": {"tls.crt": before.data["tls.crt"]}})

    report = json.loads(done.stdout)
    assert done.returncode == 2
    assert {(f["code"], f["where"]) for f in report["findings"]} == {
        ("certificate-due", "management"),
        ("expiry-unseen", WORKER),
    }
    rows = {(c["certificate"], c["cluster"]): c for c in report["certificates"]}
    assert rows["relay-server", "management"]["recorded"] is False
    assert rows["relay-root", WORKER]["live"] is False
    assert gathered.returncode == 2
    assert f"could not be had: {WORKER}: " in gathered.stderr
    assert dict(_in_files(lived.canaries, [bundle])) == {str(bundle): set()}
    assert lived.canaries.found((done.stdout + gathered.stdout + gathered.stderr).encode()) == set()


def _failing_up(fleet: Fleet) -> subprocess.CompletedProcess[str]:
    """An `up` whose management release fails, with the licence in its values: a webhook that is down has a say."""
    admission: Any = client.AdmissionregistrationV1Api(fleet.api(MANAGEMENT))
    roles = client.RbacAuthorizationV1Api(fleet.api(MANAGEMENT))
    rule = {"apiGroups": ["rbac.authorization.k8s.io"], "apiVersions": ["v1"], "operations": ["CREATE"]}
    webhook: Any = {
        "name": "nobody.gloo-mesh.test",
        "clientConfig": {"url": "https://127.0.0.1:9/"},
        "rules": [rule | {"resources": ["clusterroles"]}],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    admission.create_validating_webhook_configuration({"metadata": {"name": "nobody"}, "webhooks": [webhook]})
    try:
        awaited(lambda: _refuses(roles))
        return fleet.run("up", "--yes")
    finally:
        admission.delete_validating_webhook_configuration("nobody")
        awaited(lambda: not _refuses(roles))


def _killed_up(fleet: Fleet) -> subprocess.CompletedProcess[str]:
    """An `up` that is killed, and all that it started, while it holds the stack."""
    with fleet.start("up", "--yes") as running:
        awaited(lambda: list((fleet.lab.root / "state/.pulumi/locks").rglob("*.json")) or running.poll() is not None)
        process = psutil.Process(running.pid)
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                each.kill()
        told, complained = running.communicate()
    return subprocess.CompletedProcess(running.args, running.returncode, told, complained)


def _refuses(roles: Any) -> bool:
    try:
        roles.create_cluster_role({"metadata": {"name": "anybody"}}, dry_run="All")
    except client.ApiException:
        return True
    return False


def _made(fleet: Fleet) -> dict[str, str]:
    """The secrets that a deployment makes, and those it is reached with."""
    state = json.loads(fleet.pulumi("stack", "export", "--show-secrets"))["deployment"]["resources"]
    outputs = {resource["urn"].rpartition("::")[2]: resource.get("outputs") or {} for resource in state}

    def plain(name: str, output: str) -> str:
        return json.loads(outputs[name][output]["plaintext"])

    keys = {ROOT_KEY: "relay-root-key", SERVER_KEY: "relay-server-key", SIGNING_KEY: "relay-signing-key"}
    tokens = {IDENTITY: "relay-identity-token", FORWARDING: "relay-forwarding-token"}
    (user, *_) = yaml.safe_load(fleet.lab.kubeconfig.read_text())["users"]
    return {
        **{name: plain(resource, "privateKeyPem") for name, resource in keys.items()},
        **{name: plain(resource, "result") for name, resource in tokens.items()},
        CLIENT_KEY: base64.b64decode(fleet.secret(WORKER, CLIENT_SECRET_NAME)["tls.key"]).decode(),
        ACCESS: base64.b64decode(user["user"]["client-key-data"]).decode(),
        PASSPHRASE: (fleet.lab.root / "passphrase").read_text(),
    }


def _in_files(canaries: Canaries, below: Iterable[Path]) -> Iterator[tuple[str, set[str]]]:
    """Every file below some folders, and what was found in it, in its name, or in what it packs."""
    for path in (path for start in below for path in ([start] if start.is_file() else start.rglob("*"))):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            if content.startswith(b"\x1f\x8b"):
                content = gzip.GzipFile(fileobj=io.BytesIO(content)).read()
            yield str(path), canaries.found(content) | canaries.found(str(path).encode())


def _kubectl(fleet: Fleet, cluster: str, *arguments: str) -> str:
    command = [str(fleet.lab.tool("kubectl")), "--kubeconfig", str(fleet.lab.kubeconfig), "--context", cluster]
    return subprocess.run(
        [*command, *arguments], env=fleet.lab.environment(), capture_output=True, text=True, check=True
    ).stdout
