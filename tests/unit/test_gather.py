"""The support bundle, of clusters that answer from a dictionary: what is in it, what never is."""

import base64
import gzip
import json
import stat
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.settings import Settings
from operations import decryption, gather, program
from operations.api import Api, Refused, Unanswered
from operations.gather import Bundle, machine
from operations.redaction import Redactor
from operations.releases import packed
from operations.stack import Stack, UsageError
from tests import authority

LICENCE, TOKEN, PASSPHRASE = "licence-canary-4711", "token-canary-0815-abcdefgh", "passphrase-canary"
REGISTRY, SLIPPED = "registry-canary-password", "in-a-log-canary"
ROOT = authority.root()
SERVER = ROOT.server()
CANARIES = (LICENCE, TOKEN, PASSPHRASE, REGISTRY, SLIPPED, *SERVER.key_pem.splitlines()[1:-1])
DOCKER = json.dumps({"auths": {"r": {"password": REGISTRY}}})
VALUES = {"licenseKey": LICENCE, "relay": {"cluster": "cluster-1"}}


def secret(name: str, kind: str = "Opaque", **content: str) -> dict[str, Any]:
    data = {key.replace("_", "."): base64.b64encode(text.encode()).decode() for key, text in content.items()}
    return {"metadata": {"name": name, "annotations": {"note": LICENCE}}, "type": kind, "data": data}


def helm() -> dict[str, Any]:
    made = secret("sh.helm.release.v1.agent.v1", "helm.sh/release.v1")
    metadata = {"metadata": {"name": "enterprise-agent", "version": "1.2.9"}}
    manifest = "---\nkind: Secret\napiVersion: v1\nmetadata:\n  name: license\ndata:\n  key: " + LICENCE
    record = {"name": "agent", "version": 1, "chart": metadata, "info": {"status": "deployed"}, "config": VALUES}
    return made | {"data": {"release": packed(record | {"manifest": manifest})}}


@pytest.fixture
def cluster() -> dict[str, Any]:
    """What every cluster answers, by path; change it before `bundle`."""
    at = "/api/v1/namespaces/gloo-mesh"
    container = {
        "name": "agent",
        "env": [{"name": "PLAIN_PASSWORD", "value": "by-name-canary"}, {"name": "A", "value": f"x{TOKEN}"}],
    }
    pod = {"metadata": {"name": "agent-1"}, "spec": {"nodeName": "node-1", "containers": [container]}}
    group = "multicluster.solo.io"
    return {
        "/version": {"gitVersion": "v1.34.0"},
        at: {"metadata": {"name": "gloo-mesh"}},
        f"{at}/secrets": {
            "items": [
                secret("relay-identity-token-secret", token=TOKEN),
                secret("relay-server-tls-secret", tls_key=SERVER.key_pem, tls_crt=SERVER.pem, ca_crt=ROOT.pem),
                secret("registry", **{"_dockerconfigjson": DOCKER}),
                secret("slipped", value=SLIPPED),
                helm(),
            ]
        },
        f"{at}/pods": {"items": [pod]},
        f"{at}/configmaps": {"items": [{"metadata": {"name": "c"}, "data": {"x": f"{LICENCE} and {REGISTRY}"}}]},
        f"{at}/pods/agent-1/log?container=agent&tailLines=500": f"started with {SLIPPED}\nand then well",
        "/apis": {"groups": [{"name": group, "preferredVersion": {"groupVersion": f"{group}/v1alpha1"}}]},
        f"/apis/{group}/v1alpha1": {
            "resources": [{"name": "kubernetesclusters", "verbs": ["list"]}, {"name": "x/status", "verbs": ["get"]}]
        },
        f"/apis/{group}/v1alpha1/kubernetesclusters": {"items": [{"metadata": {"name": "cluster-1"}}]},
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions": {
            "items": [{"metadata": {"name": "crd"}, "spec": {"versions": [{"name": "v1"}]}}]
        },
    }


@pytest.fixture
def bundle(
    cluster: dict[str, Any],
    config: dict[str, Any],
    answering: Callable[[Mapping[str, Any]], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Bundle]:
    """Gather from a fleet of such clusters, `unseen` ones aside."""
    file = tmp_path / "Pulumi.test.yaml"
    encrypted = config | {"licenseKey": {"secure": "v1:cipher-canary"}}
    keys = {f"gloo-mesh:{key}": value for key, value in encrypted.items()}
    file.write_text(yaml.safe_dump({"encryptionsalt": "salt-canary", "config": keys}))
    passphrase = tmp_path / "passphrase"
    passphrase.write_text(PASSPHRASE + "\n")
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE_FILE", str(passphrase))
    monkeypatch.setattr(decryption, "secrets", lambda stack: {"gloo-mesh:licenseKey": LICENCE})
    monkeypatch.setattr(machine, "FINDERS", {})
    monkeypatch.setattr(machine, "COMMANDS", {})
    monkeypatch.setattr(program, "recorded", lambda *given: [])

    def bundle(unseen: dict[str, Exception] | None = None) -> Bundle:
        answering(dict.fromkeys(("management", "cluster-1", "cluster-2"), cluster) | (unseen or {}))
        return gather.gather(Stack("test", file, {}), tmp_path / "bundle.tar.gz")

    return bundle


def files(bundle: Bundle) -> dict[str, str]:
    with tarfile.open(bundle.path) as tar:
        read = {member.name.partition("/")[2]: tar.extractfile(member) for member in tar}
        return {name: file.read().decode() for name, file in read.items() if file}


def test_no_canary_is_in_the_bundle_and_only_its_owner_may_read_it(bundle: Callable[..., Bundle]) -> None:
    made = bundle()
    content = gzip.decompress(made.path.read_bytes()).decode()

    for canary in (*CANARIES, "by-name-canary", "cipher-canary", "salt-canary", "kubeconfig-canary"):
        assert canary not in content
        assert base64.b64encode(canary.encode()).decode().rstrip("=")[:-1] not in content
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    assert [path.name for path in made.path.parent.glob(".*.part")] == []


def test_what_support_needs_is_in_it(bundle: Callable[..., Bundle]) -> None:
    found = files(bundle())
    at = "clusters/cluster-1/gloo-mesh"
    secrets = {entry["name"]: entry for entry in json.loads(found[f"{at}/secrets.json"])}
    (release,) = json.loads(found[f"{at}/releases.json"])

    assert found[f"{at}/logs/agent-1/agent.log"] == "started with (secret)\nand then well"
    assert secrets["relay-identity-token-secret"]["keys"] == {"token": {"bytes": len(TOKEN)}}
    (certificate,) = secrets["relay-server-tls-secret"]["keys"]["tls.crt"]["certificates"]
    assert certificate["names"] == [authority.AUTHORITY]
    assert release["values"] == {"licenseKey": "(secret)", "relay": {"cluster": "(redacted)"}}
    assert (release["chart"], release["objects"]) == ("enterprise-agent 1.2.9", ["Secret license"])
    assert json.loads(found["clusters/cluster-1/multicluster.solo.io/kubernetesclusters.json"])
    assert len(json.loads(found["clusters/cluster-1/crds.json"])["crd"]["sha256"]) == 64
    assert json.loads(found["settings.json"])["config"]["gloo-mesh:licenseKey"] == "(secret)"
    assert json.loads(found["versions.json"])["packages"]["pulumi"]
    listed = json.loads(found["manifest.json"])["files"]
    assert listed.keys() == found.keys() - {"manifest.json"}


def test_what_could_not_be_had_is_told_and_the_rest_is_there(
    cluster: dict[str, Any], bundle: Callable[..., Bundle]
) -> None:
    cluster["/api/v1/namespaces/gloo-mesh/configmaps"] = Refused(403, "Forbidden", f"not for you, {TOKEN}")
    cluster["/api/v1/nodes"] = Unanswered("no answer")

    made = bundle({"cluster-2": Unanswered("connection refused")})

    assert ("cluster-2", "connection refused") in made.missing
    assert ("cluster-1: configmaps in gloo-mesh", "403 not for you, (secret)") in made.missing
    assert ("cluster-1: the rest", "no answer") in made.missing
    found = files(made)
    assert "clusters/cluster-1/gloo-mesh/pods.json" in found
    assert {"what": "cluster-2", "why": "connection refused"} in json.loads(found["manifest.json"])["missing"]


def log(pod: str) -> str:
    return f"/api/v1/namespaces/gloo-mesh/pods/{pod}/log?container=agent&tailLines=500"


@pytest.fixture
def scattered(cluster: dict[str, Any]) -> dict[str, Any]:
    """A cluster with three pods, of which two are on a node whose kubelet doesn't answer."""
    nodes = {"agent-1": "node-1", "agent-2": "node-1", "agent-3": "node-2"}
    cluster["/api/v1/namespaces/gloo-mesh/pods"]["items"] = [
        {"metadata": {"name": pod}, "spec": {"nodeName": node, "containers": [{"name": "agent"}]}}
        for pod, node in nodes.items()
    ]
    cluster |= {log("agent-1"): Unanswered("no kubelet"), log("agent-2"): "never asked", log("agent-3"): "well"}
    return cluster


def test_a_kubelet_that_doesnt_answer_costs_the_logs_of_its_node_alone(
    scattered: dict[str, Any], bundle: Callable[..., Bundle]
) -> None:
    made = bundle()

    logs = [path for path in files(made) if path.startswith("clusters/cluster-1/") and "/logs/" in path]
    assert logs == ["clusters/cluster-1/gloo-mesh/logs/agent-3/agent.log"]
    assert [entry for entry in made.missing if entry[0].startswith("cluster-1: log")] == [
        ("cluster-1: log of gloo-mesh/agent-1 agent", "no kubelet"),
        ("cluster-1: log of gloo-mesh/agent-2 agent", "its node node-1 has given no other log in time"),
    ]


def test_with_the_time_for_a_cluster_gone_no_other_log_is_asked_for(
    scattered: dict[str, Any], bundle: Callable[..., Bundle]
) -> None:
    scattered["left"] = Unanswered("the time for all of it ran out")

    made = bundle()

    assert ("cluster-1: the rest", "the time for all of it ran out") in made.missing
    assert "clusters/cluster-1/gloo-mesh/logs/agent-3/agent.log" not in files(made)


def test_what_this_program_stumbles_over_is_told_without_its_words_and_the_rest_is_there(
    bundle: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*_: object) -> None:
        raise ValueError(LICENCE)

    monkeypatch.setitem(machine.FINDERS, "check", stumble)

    made = bundle()

    assert ("check", "this program stumbled: ValueError") in made.missing
    assert "plan.json" in files(made)


def test_a_passphrase_that_is_no_text_and_a_record_that_helm_didnt_write_hide_nothing_else(
    bundle: Callable[..., Bundle], cluster: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "passphrase").write_bytes(b"\xff\xfe")
    unreadable = {"metadata": {"name": "sh.helm.release.v1.agent.v2", "namespace": "gloo-mesh"}}
    at = "/api/v1/namespaces/gloo-mesh/secrets"
    cluster[at]["items"].append({**unreadable, "type": "helm.sh/release.v1", "data": {"release": "eA=="}})

    made = bundle()

    (told, *_) = [why for what, why in made.missing if what == "cluster-1: releases"]
    assert told.startswith("Secret sh.helm.release.v1.agent.v2 in namespace gloo-mesh is labelled")
    releases = json.loads(files(made)["clusters/cluster-1/gloo-mesh/releases.json"])
    assert [release["revision"] for release in releases] == [1]


def test_a_bundle_that_would_still_hold_a_secret_is_not_written(
    bundle: Callable[..., Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Redactor, "text", lambda self, text: text)

    with pytest.raises(UsageError) as refused:
        bundle()

    assert "the secret gloo-mesh:licenseKey" in str(refused.value)
    assert "clusters/cluster-1/gloo-mesh/configmaps.json" in str(refused.value)
    assert not [canary for canary in CANARIES if canary in str(refused.value)]
    assert not (tmp_path / "bundle.tar.gz").exists()


def test_a_file_that_is_there_is_not_overwritten(bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    (tmp_path / "bundle.tar.gz").write_text("mine")

    with pytest.raises(UsageError, match=r"bundle\.tar\.gz exists"):
        bundle()

    assert (tmp_path / "bundle.tar.gz").read_text() == "mine"


def test_what_a_client_logs_in_with_is_known_whatever_the_kubeconfig_says(
    config: dict[str, Any], tmp_path: Path
) -> None:
    key = base64.b64encode(SERVER.key_pem.encode()).decode()
    certificate = base64.b64encode(SERVER.pem.encode()).decode()
    users = {
        "mgmt-cluster": {"token": "token-canary"},
        "cluster-1": {"client-certificate-data": certificate, "client-key-data": key},
        "cluster-2": {"username": "u", "password": "password-canary"},
    }
    entries = {
        "contexts": [{"name": name, "context": {"cluster": "c", "user": name}} for name in users],
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": name, "user": user} for name, user in users.items()],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(entries))

    known = [Api(cluster, 0).credentials() for cluster in Settings.parse(config, {"licenseKey"}).clusters]

    assert known[0] == ["token-canary"]
    assert known[1] == [SERVER.key_pem]
    assert known[2] == [base64.b64encode(b"u:password-canary").decode(), "password-canary"]
