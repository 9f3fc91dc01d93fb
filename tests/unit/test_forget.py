"""A cluster that is gone for good: when it counts as gone, and what is dropped of it."""

import json
import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection
from urllib3.exceptions import NewConnectionError, ProxyError, ReadTimeoutError

from components.settings import Settings
from operations import forget, lock, state
from operations.api import Refused, Unanswered
from operations.forget import Farewell
from operations.preflight import remembered
from operations.preflight.clusters import ANOTHER_CLUSTER
from operations.stack import UsageError
from tests.unit.stored import document, entry, locked, on, provider, secret, urn

SECRET = object()
UNREACHED = Unanswered("refused")
UNREACHED.__cause__ = NewConnectionError(HTTPConnection("127.0.0.1"), "refused")


def fleet() -> dict[str, Any]:
    """Two workers, with what else depends on the second."""
    worker = urn("gloo-mesh:index:WorkerCluster", "cluster-2")
    resources = [
        provider("management"),
        provider("cluster-1"),
        provider("cluster-2"),
        entry("gloo-mesh:index:ManagementPlane", "management") | {"custom": False},
        entry("gloo-mesh:index:WorkerCluster", "cluster-1") | {"custom": False},
        entry("gloo-mesh:index:WorkerCluster", "cluster-2") | {"custom": False},
        entry("gloo-mesh:index:Addons", "cluster-2-addons") | {"custom": False},
        # Named as people may name a worker's neighbour; it has nothing to do with it.
        entry("gloo-mesh:index:Fleet", "cluster-2-addons") | {"custom": False},
        secret("root-1", "cluster-1"),
        secret("root-2", "cluster-2", parent=worker),
        entry("kubernetes:multicluster.solo.io/v1alpha1:KubernetesCluster", "registration-2", parent=worker)
        | {"provider": on("management")},
        secret("record", "management", dependencies=[urn("kubernetes:core/v1:Secret", "root-2"), worker])
        | {"propertyDependencies": {"data": [urn("kubernetes:core/v1:Secret", "root-2")]}},
    ]
    return document(*resources)


def test_forgetting_a_worker_drops_all_of_it_and_nothing_of_another_cluster() -> None:
    gone = set(forget._urns(fleet(), "cluster-2"))

    after = state.without(fleet(), gone)

    assert sorted(map(state.name, gone)) == ["cluster-2", "cluster-2", "cluster-2-addons", "registration-2", "root-2"]
    kept = {resource["urn"]: resource for resource in state.entries(after)}
    before = {resource["urn"]: resource for resource in state.entries(fleet())}
    record = urn("kubernetes:core/v1:Secret", "record")
    assert kept[record]["dependencies"] == []
    assert kept[record]["propertyDependencies"] == {"data": []}
    assert {u: r for u, r in kept.items() if u != record} == {
        u: r for u, r in before.items() if u not in gone | {record}
    }


def test_forgetting_the_management_cluster_keeps_every_worker() -> None:
    gone = set(forget._urns(fleet(), "management"))

    assert sorted(map(state.name, gone)) == ["management", "record", "registration-2"]


@pytest.mark.parametrize(
    ("remembered", "configured", "lives"),
    [
        (UNREACHED, UNREACHED, False),
        ("the UID", UNREACHED, True),
        (UNREACHED, "the UID", True),
        (None, UNREACHED, True),
        (Refused(401, "Unauthorized", "no"), UNREACHED, True),
        # A new cluster under the old name or at the old address is not the one that was lost.
        (UNREACHED, "another", False),
        (UNREACHED, None, False),
        ("another", "another", False),
        # Where the state's kubeconfig is a secret, what is configured is all there is to go by.
        (SECRET, None, True),
        (SECRET, "another", False),
    ],
)
def test_a_cluster_is_gone_when_the_one_that_the_state_knows_answers_nowhere(
    remembered: object, configured: object, lives: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"cluster-2": remembered, "moved": configured}

    class Answering:
        def __init__(self, cluster: Any, until: float) -> None:
            self.answer = answers[cluster.context]

        def get(self, path: str) -> Any:
            if isinstance(self.answer, Exception):
                raise self.answer
            return {"metadata": {"uid": self.answer}} if self.answer else None

    monkeypatch.setattr(forget, "Api", Answering)
    outputs = {"kind": "Namespace", "metadata": {"name": "gloo-mesh", "uid": "the UID"}}
    namespace = entry("kubernetes:core/v1:Namespace", "namespace", provider=on("cluster-2"), outputs=outputs)
    namespace["id"] = "gloo-mesh"
    settings = Settings.model_validate(
        {
            "version": "1.2.9",
            "management": {"context": "mgmt-cluster"},
            "workers": {"cluster-2": {"context": "moved"}},
            "dashboard": {"authentication": "none"},
        }
    )
    deployment: Any = SimpleNamespace(settings=settings, file=Path("Pulumi.prod.yaml"))

    known = provider("cluster-2")
    if remembered is SECRET:
        known["inputs"]["kubeconfig"] = {"ciphertext": "v1:4711"}

    answer = forget._answer(deployment, document(known, namespace), "cluster-2")

    assert bool(answer) is lives


def test_a_cluster_that_cant_be_entered_isnt_taken_for_gone_unless_its_context_is_gone_too(
    config: dict[str, Any],
) -> None:
    settings = Settings.parse(config, ("licenseKey",))
    deployment: Any = SimpleNamespace(settings=settings, file=Path("Pulumi.prod.yaml"))
    kubeconfig = {
        "contexts": [{"name": "cluster-2", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"exec": {"command": "/bin/false"}}}],
    }
    Path("kubeconfig").write_text(json.dumps(kubeconfig))
    known = provider("cluster-2") | {"inputs": {"kubeconfig": "kubeconfig", "context": "cluster-2"}}

    with pytest.raises(
        UsageError, match=r"Whether cluster-2 \(context cluster-2\) lives can't be seen: .*false failed"
    ):
        forget._answer(deployment, document(known), "cluster-2")

    Path("kubeconfig").unlink()
    with pytest.raises(UsageError, match=r"lives can't be seen: its kubeconfig is kubeconfig"):
        forget._answer(deployment, document(known), "cluster-2")

    Path("kubeconfig").write_text(json.dumps(kubeconfig | {"contexts": []}))
    assert forget._answer(deployment, document(known), "cluster-2") is None


@pytest.mark.parametrize(
    "cause",
    [
        ssl.SSLCertVerificationError(1, "self-signed certificate"),
        ReadTimeoutError(HTTPConnectionPool("127.0.0.1"), "/", "slow"),
        ProxyError("down", NewConnectionError(HTTPConnection("127.0.0.1"), "refused")),
        ModuleNotFoundError("socks"),
        TimeoutError(),
        None,
    ],
)
def test_what_may_be_this_machines_fault_is_no_proof_that_a_cluster_is_gone(
    cause: Exception | None, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent:
        def __init__(self, *_: object) -> None:
            raise Unanswered("silence") from cause

    monkeypatch.setattr(forget, "Api", Silent)
    deployment: Any = SimpleNamespace(settings=Settings.parse(config, ("licenseKey",)), file=Path("Pulumi.prod.yaml"))

    with pytest.raises(UsageError, match=r"lives can't be seen: silence"):
        forget._answer(deployment, document(provider("cluster-2")), "cluster-2")


@pytest.mark.parametrize("meanwhile", ["a lock", "an operation"])
def test_nothing_is_forgotten_where_an_update_has_begun_meanwhile(
    meanwhile: str, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = [{"type": "creating", "resource": secret("root", "cluster-1")}] if meanwhile == "an operation" else []
    monkeypatch.setattr(state, "opened", lambda _: None)
    monkeypatch.setattr(state, "exported", lambda _: document(pending=begun))
    monkeypatch.setattr(lock, "locks", lambda _: [locked()] if meanwhile == "a lock" else [])
    deployment: Any = SimpleNamespace(name="prod", settings=Settings.parse(config, ("licenseKey",)))

    with pytest.raises(UsageError, match="has begun meanwhile; nothing is forgotten"):
        forget.forget(deployment, Farewell(deregistered=["cluster-2"]))


def test_a_registration_on_a_strangers_cluster_is_left_alone(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    registered = entry("kubernetes:multicluster.solo.io/v1alpha1:KubernetesCluster", "registration-2") | {
        "inputs": {"metadata": {"name": "cluster-2"}},
        "provider": on("management"),
        "parent": urn("gloo-mesh:index:WorkerCluster", "cluster-2"),
    }
    worker = entry("gloo-mesh:index:WorkerCluster", "cluster-2")
    stranger = ANOTHER_CLUSTER.found("management", "Namespace gloo-mesh has another UID.", "Mend the context.")
    monkeypatch.setattr(lock, "locks", lambda _: [])
    monkeypatch.setattr(forget, "_answer", lambda *_: None)
    monkeypatch.setattr(remembered, "strangers", lambda *_: ([stranger], {}))
    deployment: Any = SimpleNamespace(
        name="prod",
        settings=Settings.parse(config, ("licenseKey",)),
        exported=document(provider("cluster-2"), worker, registered),
    )

    farewell = forget.farewell(deployment, "cluster-2")

    assert "Another fleet's cluster-2 may be registered there." in farewell.refusal
    assert not farewell.deregistered

    monkeypatch.setattr(remembered, "strangers", lambda *_: ([], {"management": Refused(403, "Forbidden", "no")}))
    with pytest.raises(UsageError, match=r"cluster-2 is registered, can't be asked: answers 403 Forbidden"):
        forget.farewell(deployment, "cluster-2")


def test_a_registration_stays_where_the_state_could_not_be_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(_stack: str) -> None:
        raise UsageError("incorrect passphrase")

    def entered(*_: Any) -> None:
        pytest.fail("the management cluster was entered")

    deployment: Any = SimpleNamespace(
        name="prod", settings=SimpleNamespace(management_cluster=None, namespace="gloo-mesh")
    )
    monkeypatch.setattr(state, "opened", closed)
    monkeypatch.setattr(forget, "Api", entered)

    with pytest.raises(UsageError, match="incorrect passphrase"):
        forget.forget(deployment, forget.Farewell(deregistered=["cluster-2"]))
