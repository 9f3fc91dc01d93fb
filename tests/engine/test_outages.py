"""A worker hangs, is slow or flaps during an up: the others get what is theirs, and a later up repairs."""

import base64
import json
import re
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.cluster import components
from lab.fleet import MANAGEMENT, Lab
from lab.kubeconfig import DEPLOYER, write_private
from lab.proxy import Proxy
from tests.authority import Made, root
from tests.awaiting import awaited
from tests.engine.fleet import NAMESPACES, Fleet, Report, changed, denying

pytestmark = [pytest.mark.engine, pytest.mark.lived_in_order]

SICK, HEALTHY = "cluster-1", "cluster-2"
UPGRADED = {name: {f"{name}-addons-release": "update"} for name in (SICK, HEALTHY)}
"""What another licence changes on the workers."""


@pytest.fixture(scope="module")
def proxy(lab: Lab) -> Iterator[Proxy]:
    with Proxy(lab) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def fleet(lab: Lab) -> Fleet:
    """A deployed fleet whose root is protected, and whose kubeconfig can lead elsewhere."""
    access = lead(lab, lab.kubeconfig.read_text())
    fleet = Fleet(lab, "outages", {"gloo-mesh:kubeconfig": str(access), "gloo-mesh:protect": True})
    fleet.settle()
    return fleet


def test_healthy_clusters_complete_though_one_hangs(fleet: Fleet) -> None:
    before = known(fleet)
    # What was changed by hand where somebody answers is seen all the same.
    fleet.core(HEALTHY).delete_namespaced_secret("relay-identity-token-secret", "gloo-mesh")
    with hanging(fleet.lab):
        report = up_with_another_licence(fleet, "hanging", fails=True)
        recovered = fleet.run("recover", "--json")

    assert recovered.returncode == 2, recovered.stderr
    told = json.loads(recovered.stdout)
    assert (told["findings"], set(told["unseen"])) == ([], {SICK})
    assert set(report["unreachable"]) == {SICK}
    assert report["clusters"][SICK]["failed"] == []
    assert_rest_is_done(fleet, report, "hanging", before, {f"{HEALTHY}-relay-token": "create"})
    assert changed(fleet.up()) == {SICK: UPGRADED[SICK]}


def test_a_slow_cluster_is_waited_for(fleet: Fleet, proxy: Proxy) -> None:
    before = known(fleet)
    proxy.delays[SICK] = 0.1
    with through(fleet, proxy, SICK):
        report = up_with_another_licence(fleet, "slow", fails=False)
    proxy.delays.clear()

    assert report["unreachable"] == {}
    assert changed(report, [SICK]) == {SICK: UPGRADED[SICK]}
    assert_rest_is_done(fleet, report, "slow", before)


def test_a_namespace_that_its_cluster_refuses_holds_up_that_worker_alone(fleet: Fleet) -> None:
    fleet.configure("defaults", {"namespaces": {"labels": {"team": "mesh"}}})
    with refusing_namespaces(fleet):
        done = fleet.run("up", "--yes", "--json")

    report = json.loads(done.stdout)
    namespaces = {f"{HEALTHY}-{name}": "update" for name in ("namespace", "addons-namespace")}
    assert done.returncode == 1
    assert report["unreachable"] == {}
    assert set(report["clusters"][SICK]["failed"]) == {f"{SICK}-namespace", f"{SICK}-addons-namespace"}
    assert changed(report) == {HEALTHY: namespaces}
    assert "failed to register" not in done.stderr


def test_healthy_clusters_complete_though_one_flaps(fleet: Fleet, proxy: Proxy) -> None:
    before = known(fleet)
    proxy.flapping.add(SICK)
    with through(fleet, proxy):
        report = up_with_another_licence(fleet, "flapping", fails=None)
    proxy.flapping.clear()

    assert_rest_is_done(fleet, report, "flapping", before)
    fleet.up()
    licence = "gloo-mesh-enterprise-license"
    repaired: Any = fleet.core(SICK).read_namespaced_secret(licence, "gloo-mesh-addons")
    assert repaired.data["key"] == fleet.secret(MANAGEMENT, licence)["key"]


def test_a_protected_root_is_kept_though_a_worker_is_dead(fleet: Fleet) -> None:
    before = known(fleet)
    own = root()
    pems = {"root": own.pem, **pair("server", own.server()), **pair("signing", own.signing())}
    for key, pem in pems.items():
        fleet.pulumi("config", "set", "--secret", f"gloo-mesh:{key}", given=pem)
    pairs = {
        name: {part: {"secret": f"{name}{part.title()}"} for part in ("certificate", "key")}
        for name in ("server", "signing")
    }
    fleet.configure("pki", {"source": "supplied", "root": {"secret": "root"}, **pairs})
    trusted = fleet.secret(MANAGEMENT, "relay-root-tls-secret")
    with stopped(fleet.lab):
        done = fleet.run("up", "--yes", "--json")
    after = known(fleet), fleet.secret(MANAGEMENT, "relay-root-tls-secret")
    for key in ("pki", *pems):
        fleet.configure(key, None)
    fleet.settle()

    assert done.returncode == 1
    assert set(json.loads(done.stdout)["unreachable"]) == {SICK}
    assert "protect" in done.stderr
    assert after == (before, trusted)


def test_a_dead_worker_that_leaves_holds_up_no_other(fleet: Fleet) -> None:
    fleet.configure("workers", {HEALTHY: {}})
    with gone(fleet):
        report = up_with_another_licence(fleet, "leaving", fails=True)
    fleet.configure("workers", {SICK: {}, HEALTHY: {}})

    assert set(report["unreachable"]) == {SICK}
    assert [finding["code"] for finding in report["findings"]] == ["no-answer"]
    assert changed(report, [HEALTHY]) == {HEALTHY: UPGRADED[HEALTHY]}
    fleet.settle()


def test_a_dead_workers_namespaces_that_change_hands_stay(fleet: Fleet) -> None:
    before, uids = known(fleet), namespaces(fleet)
    fleet.configure("workers", {SICK: {"namespaces": {"create": False}}, HEALTHY: {}})
    with gone(fleet):
        report = up_with_another_licence(fleet, "handed over", fails=True)

    assert_rest_is_done(fleet, report, "handed over", before)
    fleet.settle()
    assert {urn.rpartition("::")[2] for urn in known(fleet) if "NamespacePatch::" in urn} == {
        f"{SICK}-namespace",
        f"{SICK}-addons-namespace",
    }
    assert namespaces(fleet) == uids
    fleet.configure("workers", {SICK: {}, HEALTHY: {}})
    fleet.settle()
    assert namespaces(fleet) == uids


def test_a_look_that_is_ended_leaves_no_credentials_behind(fleet: Fleet) -> None:
    with hanging(fleet.lab), fleet.start("check") as running:
        awaited(lambda: any(fleet.scratch.iterdir()))
        running.terminate()
        told, complained = running.communicate()

    assert list(fleet.scratch.iterdir()) == []
    assert (running.returncode, told) == (130, "")
    assert "Traceback" not in complained


def test_after_all_outages_nothing_is_left_to_change(fleet: Fleet) -> None:
    assert fleet.preview()["changes"] == {}


def up_with_another_licence(fleet: Fleet, licence: str, *, fails: bool | None) -> Report:
    """What an up reports that changes something on every cluster; None where it may fail."""
    fleet.pulumi("config", "set", "--secret", "gloo-mesh:licenseKey", given=licence)
    done = fleet.run("up", "--yes", "--json")
    assert fails is None or done.returncode == int(fails), done.stderr
    assert "Traceback" not in done.stderr
    report = json.loads(done.stdout)
    for name in report["unreachable"]:
        assert re.search(rf"{name} (doesn't answer|has stopped answering): ", done.stderr)
        assert report["errors"] or f"{name}: no answer. What is there was left alone." in done.stderr
    if report["errors"]:
        assert "Not done on" in done.stderr
        assert SICK in done.stderr.rpartition("Not done on")[2]
    return report


def assert_rest_is_done(
    fleet: Fleet, report: Report, licence: str, before: set[str], repaired: dict[str, str] | None = None
) -> None:
    """Everything is deployed that doesn't need the sick cluster, and the state knows what it knew."""
    assert {name for name, cluster in report["clusters"].items() if cluster["failed"]} <= {SICK}
    assert changed(report, [HEALTHY]) == {HEALTHY: UPGRADED[HEALTHY] | (repaired or {})}
    assert base64.b64decode(fleet.secret(MANAGEMENT, "gloo-mesh-enterprise-license")["key"]).decode() == licence
    assert known(fleet) == before


def pair(name: str, made: Made) -> dict[str, str]:
    """A certificate and its key, by the secret keys of the configuration they go to."""
    return {f"{name}Certificate": made.pem, f"{name}Key": made.key_pem}


def namespaces(fleet: Fleet) -> dict[str, str]:
    """The UIDs of the sick cluster's namespaces of this program's."""
    core: Any = fleet.core(SICK)
    return {name: core.read_namespace(name).metadata.uid for name in NAMESPACES}


def known(fleet: Fleet) -> set[str]:
    """Every resource in the state."""
    state: Any = json.loads(fleet.pulumi("stack", "export"))
    return {resource["urn"] for resource in state["deployment"]["resources"]}


@contextmanager
def refusing_namespaces(fleet: Fleet) -> Iterator[None]:
    """The sick cluster lets the deployer change no namespace, except on trial."""
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["namespaces"]}
    policy = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [rule]},
        "matchConditions": [
            {"name": "deployer", "expression": f"request.userInfo.username == '{DEPLOYER}'"},
            {"name": "earnest", "expression": "!has(request.dryRun) || !request.dryRun"},
        ],
        "validations": [{"expression": "false"}],
    }

    def attempt() -> None:
        # Another each time, because what changes nothing isn't asked about.
        fleet.core(SICK).patch_namespace("default", {"metadata": {"labels": {"asked": secrets.token_hex(4)}}})

    with denying(fleet, SICK, policy, attempt):
        yield


@contextmanager
def stopped(lab: Lab) -> Iterator[None]:
    """Nothing listens at the sick cluster's address."""
    lab.stop(SICK)
    try:
        yield
    finally:
        lab.start(SICK)


@contextmanager
def gone(fleet: Fleet) -> Iterator[None]:
    """The sick cluster's address is one where nobody listens; it runs, and nothing is written to it."""
    before = fleet.lab.audit(SICK)
    document = yaml.safe_load(fleet.lab.kubeconfig.read_text())
    for entry in document["clusters"]:
        if entry["name"] == SICK:
            entry["cluster"]["server"] = "https://127.0.0.1:1"
    with led(fleet, yaml.safe_dump(document)):
        yield
    assert fleet.lab.audit(SICK) == before


@contextmanager
def through(fleet: Fleet, proxy: Proxy, *written: str) -> Iterator[None]:
    """The clusters are reached through the proxy, and those that an up must have written to were."""
    proxy.count()
    with led(fleet, proxy.kubeconfig.read_text()):
        yield
    assert {write.cluster for write in proxy.writes} >= {MANAGEMENT, HEALTHY, *written}


@contextmanager
def led(fleet: Fleet, elsewhere: str) -> Iterator[None]:
    """The fleet's kubeconfig is another for a while."""
    lead(fleet.lab, elsewhere)
    try:
        yield
    finally:
        lead(fleet.lab, fleet.lab.kubeconfig.read_text())


def lead(lab: Lab, kubeconfig: str) -> Path:
    """Write the fleet's kubeconfig; where it is."""
    write_private(lab.root / "access", kubeconfig.encode())
    return lab.root / "access"


@contextmanager
def hanging(lab: Lab) -> Iterator[None]:
    """The API server takes connections and never answers."""
    below = lab.root / "kwok/clusters" / SICK
    (server,) = [process for _, name, process in components(below) if name == "kube-apiserver"]
    server.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.send_signal(signal.SIGCONT)
