"""What a check makes of what it sees, where a lab can't show it."""

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import product
from components.settings import Settings
from components.settings.pem import end, fingerprint
from components.values_digest import digest
from lab.plugins import REPOSITORY
from operations import everywhere
from operations.api import Refused, Unanswered
from operations.check import certificates, check, definitions, hand_changes, relay, releases, workloads
from operations.check.relay import Gauges
from operations.check.view import Fleet, View
from operations.deadline import within
from operations.everywhere import Looked
from operations.findings import Finding
from operations.helm_records import REFUSED
from operations.record import Record
from operations.releases import Deployed
from tests import authority
from tests.relay import Relay, self_signed
from tests.unit.stored import record
from tests.unit.test_pages import blocks

METRICS = """\
# HELP relay_push_clients_connected a gauge
# TYPE relay_push_clients_connected gauge
relay_push_clients_connected{cluster="cluster-1"} 1
relay_push_clients_connected{instance="a", cluster="cluster-2"} 0
relay_push_clients_connected_total{cluster="cluster-2"} 9
relay_pull_clients_connected{cluster="cluster-1"} 1
relay_pull_clients_connected{cluster="cluster-2"} 1e+00
relay_pull_clients_connected{cluster="dashboard"} 1
"""


@pytest.fixture
def fleet(config: dict[str, Any], tmp_path: Path) -> Fleet:
    """The seeds' fleet, both workers registered."""
    file = tmp_path / "Pulumi.test.yaml"
    secret = {"licenseKey": {"secure": "…"}}
    file.write_text(yaml.safe_dump({"config": {f"gloo-mesh:{key}": value for key, value in (config | secret).items()}}))
    return Fleet(stack="test", settings=Settings.read(file), registered=frozenset({"cluster-1", "cluster-2"}))


class Answers:
    """An API server that has these lists and objects, by path, and writes nothing."""

    def __init__(self, found: dict[str, Any], metrics: str | None = None, proxied: str | None = None) -> None:
        self.found = found
        self.asked: list[str] = []
        self._metrics, self._proxied = metrics, proxied

    def get(self, path: str, **_: str) -> Any:
        self.asked.append(path)
        found = self.found.get(path)
        if isinstance(found, Exception):
            raise found
        return {"items": found} if isinstance(found, list) else found

    def names(self, path: str, **query: str) -> list[Any]:
        found = self.get(path, **query)
        return [item["metadata"] for item in found["items"]] if found else []

    def collection(self, api_version: str, kind: str, namespace: str) -> str:
        return f"/apis/{api_version}/namespaces/{namespace}/{kind.lower().removesuffix('s')}s"

    def tried(self, *_: Any) -> Any:
        raise Refused(403, "Forbidden", "no")

    def forwarded(self, *_: Any) -> str:
        if self._metrics is None:
            raise Unanswered("the forward failed")
        return self._metrics

    def text(self, path: str, _: float) -> str:
        if self._proxied is None:
            raise Refused(503, "Unavailable", "nobody there")
        assert path == "/api/v1/namespaces/gloo-mesh/services/enterprise-networking-admin:http/proxy/metrics"
        return self._proxied


def view(fleet: Fleet, name: str, api: Answers) -> View:
    cluster = next(cluster for cluster in fleet.settings.clusters if cluster.name == name)
    return View(cluster, api, fleet)  # pyright: ignore[reportArgumentType]


def codes(findings: Any) -> list[tuple[str, str]]:
    found: list[Finding] = list(findings)
    return [(finding.kind.code, finding.where) for finding in found]


RELAY = {
    "/apis/apps/v1/namespaces/gloo-mesh/deployments": [
        {"metadata": {"name": "enterprise-networking"}, "spec": {"selector": {"matchLabels": {"app": "relay"}}}}
    ],
    "/api/v1/namespaces/gloo-mesh/pods": [
        {"metadata": {"name": "relay-1", "labels": {"app": "relay"}}, "status": {"phase": "Running"}}
    ],
}


def test_the_gauges_are_read_through_a_port_forward(fleet: Fleet) -> None:
    found = relay.gauges(view(fleet, "management", Answers(RELAY, METRICS)))

    assert found == Gauges(pull={"cluster-1": 1, "cluster-2": 1, "dashboard": 1}, push={"cluster-1": 1, "cluster-2": 0})


@pytest.mark.parametrize("found", [RELAY, {}], ids=["no forward", "no pod"])
def test_without_a_port_forward_the_api_servers_proxy_is_asked(fleet: Fleet, found: dict[str, Any]) -> None:
    assert relay.gauges(view(fleet, "management", Answers(found, proxied=METRICS))).push["cluster-1"] == 1


def test_that_both_ways_are_closed_is_told_with_both_reasons(fleet: Fleet) -> None:
    at = view(fleet, "management", Answers(RELAY))
    with pytest.raises(Unanswered) as told:
        relay.gauges(at)

    finding = relay.metrics_unread(at, told.value)
    assert finding.kind.code == "relay-metrics-unread"
    assert "the forward failed" in finding.what
    assert "nobody there" in finding.what


def test_a_pull_without_push_is_half_a_connection_and_the_dashboard_is_none(fleet: Fleet) -> None:
    found = Gauges(pull={"cluster-1": 1, "cluster-2": 1, "dashboard": 1}, push={"cluster-1": 1})

    assert codes(relay.connections(fleet, found)) == [("agent-half-connected", "cluster-2")]


def test_a_push_without_pull_is_half_a_connection_too(fleet: Fleet) -> None:
    found = Gauges(pull={"cluster-1": 1}, push={"cluster-1": 1, "cluster-2": 1})

    assert codes(relay.connections(fleet, found)) == [("agent-half-connected", "cluster-2")]


def test_a_cluster_that_somebody_else_registered_and_that_is_connected_is_well(fleet: Fleet) -> None:
    both = {"cluster-1": 1, "cluster-2": 1, "theirs": 1}

    others = replace(fleet, registered=frozenset({"cluster-1", "cluster-2", "theirs"}))
    assert codes(relay.connections(others, Gauges(both, both))) == []
    assert codes(relay.connections(fleet, Gauges(both, both))) == [("connected-unregistered", "management")]


def test_without_a_look_at_the_management_cluster_nothing_is_said_of_registrations(fleet: Fleet) -> None:
    container = {"args": ["--cluster=cluster-9"]}
    agent = {"metadata": {"name": "enterprise-agent"}, "spec": {"template": {"spec": {"containers": [container]}}}}
    api: Any = Answers({"/apis/apps/v1/namespaces/gloo-mesh/deployments": [agent]})
    worker = fleet.settings.worker_clusters[0]

    assert codes(relay.unregistered(View(worker, api, fleet))) == [("agent-unregistered", worker.name)]
    assert codes(relay.unregistered(View(worker, api, replace(fleet, registered=None)))) == []


def test_a_management_cluster_that_failed_its_first_look_is_not_seen_though_it_answers_the_second(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def look(clusters: list[Any], *_: Any) -> Looked[Any]:
        asked.append([cluster.name for cluster in clusters])
        return Looked({}, {"management": Unanswered("refused")} if len(asked) == 1 else {})

    monkeypatch.setattr(everywhere, "look", look)

    assert codes(check("test", fleet.settings).findings) == [("cluster-not-seen", "management")]
    assert asked == [["management"], ["cluster-1", "cluster-2"]]


def test_a_refused_look_is_told_with_what_was_asked(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = Refused(403, "Forbidden", "no", "GET /api/v1/namespaces/gloo-mesh/services")
    monkeypatch.setattr(everywhere, "look", lambda asked, *_: Looked({}, {it.name: refused for it in asked}))

    assert ": GET /api/v1/namespaces/gloo-mesh/services: no." in check("test", fleet.settings).findings[0].what


VERSIONS = {"Deployment": "apps/v1", "Settings": "settings.mesh.gloo.solo.io/v1"}
VERSIONS |= {"Dashboard": VERSIONS["Settings"], "ValidatingWebhookConfiguration": "admissionregistration.k8s.io/v1"}
VERSIONS |= dict.fromkeys(("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"), "rbac.authorization.k8s.io/v1")


def test_the_page_has_roles_for_what_a_check_reads_and_nothing_else(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    for archive in Path("charts").glob("*.tgz"):
        archive.unlink()
    kinds = [*hand_changes.NAMESPACED, *hand_changes.CLUSTER_WIDE, "Settings", "Dashboard"]
    made = [{"apiVersion": VERSIONS.get(kind, "v1"), "kind": kind, "metadata": {"name": "agent"}} for kind in kinds]
    manifest = yaml.safe_dump_all(it | {"spec": {}} for it in made)
    release = record(1, manifest=manifest, info={"description": product.RELEASE_DESCRIPTION})
    release["metadata"]["name"] = "sh.helm.release.v1.x.v1"
    changed = deployment(replicas=3)
    changed["metadata"]["generation"] = 0
    asked: set[tuple[bool, str, str, str]] = set()

    def look(clusters: list[Any], at: Callable[[Any, Any], Any], _seconds: float) -> Looked[Any]:
        seen: dict[str, Any] = {}
        for cluster in clusters:
            release["metadata"]["labels"]["name"] = cluster.release
            api = Answers({"/api/v1/namespaces/gloo-mesh/secrets": [release], **RELAY})
            api.found["/api/v1/namespaces/gloo-mesh-addons/secrets"] = []
            api.found["/apis/apps/v1/namespaces/gloo-mesh/deployments"] = [changed]
            seen[cluster.name] = at(cluster, api)
            asked.update(map(_right, api.asked))
        return Looked(seen, {})

    monkeypatch.setattr(everywhere, "look", look)
    check("test", fleet.settings)

    # What only an edited CRD, and a relay that runs, are asked for.
    asked.add((False, "apiextensions.k8s.io", "customresourcedefinitions", "get"))
    asked |= {(True, "", "pods/portforward", verb) for verb in ("get", "create")}
    asked.add((True, "", "services/proxy", "get"))
    (block,) = blocks(REPOSITORY / "docs/runbooks/permissions.md", "yaml")
    assert asked == {
        (role["metadata"]["name"] == "gloo-mesh-check-namespace", group, resource, verb)
        for role in yaml.safe_load_all(block)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def _right(path: str) -> tuple[bool, str, str, str]:
    """What a path takes: whether in a namespace alone, group, resource and verb."""
    found = re.fullmatch(r"/(?:api|apis/([^/]+))/\w+(/namespaces/[^/]+)?/([^/]+)(/[^/]+)?", path)
    assert found, path
    return bool(found[2]), found[1] or "", found[3], "get" if found[4] else "list"


NAMED = {"project": "p", "stack": "s", "version": "1"}


DATES = (
    '{"relay-root": {}}',
    '{"relay-root": {"sha256": "0", "notAfter": "soon"}}',
    '{"relay-root": {"notAfter": "2031-01-01T00:00:00Z"}}',
    '{"relay-root": {"sha256": "0", "notAfter": "2031-01-01"}}',
)


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        *(NAMED | {"versions": text} for text in ("{", "null", "5", "[]")),
        *(NAMED | {"certificates": text} for text in DATES),
        NAMED | {"masked": '{"cluster-1/enterprise-agent": [{}]}'},
    ],
)
def test_a_config_map_that_is_no_record_is_none(data: Any) -> None:
    api: Any = Answers({"/api/v1/namespaces/gloo-mesh/configmaps/gloo-mesh-fleet": {"data": data}})

    assert Record.read(api, "gloo-mesh") is None


def test_charts_that_are_locked_and_gone_from_the_folder_hide_nothing_else(fleet: Fleet) -> None:
    api: Any = Answers({})
    for archive in Path("charts").glob("*.tgz"):
        archive.unlink()

    assert list(definitions.findings(View(fleet.settings.management_cluster, api, fleet), {})) == []


@pytest.mark.parametrize(
    "lost", [Path.unlink, lambda path: path.write_text("version https://git-lfs.github.com/spec/v1")]
)
def test_without_the_charts_archive_crds_are_looked_for_as_helm_remembers_them(
    fleet: Fleet, lost: Callable[[Path], object]
) -> None:
    for archive in Path("charts").glob("*.tgz"):
        lost(archive)
    manifest = "---\n# Source: crds\nkind: CustomResourceDefinition\nmetadata:\n  name: things.example\nspec: {}\n"
    release = Deployed("1.2.9", {}, manifest, "gloo-mesh")
    api: Any = Answers({"/apis/apiextensions.k8s.io/v1/customresourcedefinitions": []})
    at = View(fleet.settings.management_cluster, api, fleet)

    assert codes(definitions.findings(at, {"gloo-mesh-enterprise-crds": release})) == [("crd-missing", "management")]


def test_another_authoritys_certificate_is_told_apart_from_no_answer(fleet: Fleet) -> None:
    ours, theirs = self_signed("enterprise-networking.gloo-mesh"), self_signed("enterprise-networking.gloo-mesh")
    trusting = replace(fleet, trust={"relay-root-tls-secret": {"ca.crt": ours[0]}})
    with Relay(*ours).start() as right, Relay(*theirs).start() as wrong, Relay(*ours) as silent:
        found = list(relay.dialled(trusting, [right.address, wrong.address, silent.address, right.address]))
        asked = right.asked_for

    assert sorted(finding.kind.code for finding in found) == ["relay-not-answering", "relay-not-trusted"]
    assert asked == ["enterprise-networking.gloo-mesh"]


def test_another_servers_certificate_under_the_same_root_is_not_trusted(fleet: Fleet) -> None:
    """A company's root signs more than relays, and a load balancer that ends TLS may have one of those."""
    company = authority.root()
    trusting = replace(fleet, trust={"relay-root-tls-secret": {"ca.crt": company.pem}})
    ours, theirs = company.server("*.gloo-mesh"), company.server("ingress.example.com", "*.enterprise-networking")
    with Relay(ours.pem, ours.key_pem).start() as right, Relay(theirs.pem, theirs.key_pem).start() as wrong:
        (finding,) = relay.dialled(trusting, [right.address, wrong.address])

    assert finding.kind.code == "relay-not-trusted"
    assert wrong.address in finding.what
    assert "its certificate is for ingress.example.com, *.enterprise-networking" in finding.what


def test_an_address_that_is_none_is_told_as_such(fleet: Fleet) -> None:
    trusting = replace(fleet, trust={"relay-root-tls-secret": {"ca.crt": authority.root().pem}})

    for address in ("relay.example.com", "relay.example.com:many", "127.0.0.1:99999"):
        (finding,) = relay.dialled(trusting, [address])

        assert finding.kind.code == "relay-not-answering"
        assert f"at {address} for the server name" in finding.what
        assert "that is no host:port" in finding.what


def test_addresses_are_dialled_at_the_same_time(fleet: Fleet) -> None:
    both = threading.Barrier(2)

    class Waiting(Relay):
        def finish_request(self, request: Any, client_address: Any) -> None:
            both.wait(relay.DIAL_SECONDS)
            super().finish_request(request, client_address)

    ours = self_signed("enterprise-networking.gloo-mesh")
    trusting = replace(fleet, trust={"relay-root-tls-secret": {"ca.crt": ours[0]}})
    with Waiting(*ours).start() as one, Waiting(*ours).start() as other:
        assert list(relay.dialled(trusting, [one.address, other.address])) == []


def test_a_connected_agent_without_its_certificate_is_told(fleet: Fleet) -> None:
    [finding] = certificates.lost(fleet, ["cluster-1"])

    assert finding.kind.code == "client-certificate-missing"
    assert "--context cluster-1 -n gloo-mesh rollout restart deployment enterprise-agent" in finding.remedy


DAY = authority.DAY
ROOT = authority.root()
SIGNING = ROOT.signing()


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (SIGNING.client("cluster-2"), "is for cluster-2, not for the cluster cluster-1"),
        (authority.root("another").client("cluster-1"), "was not issued by"),
        (SIGNING.issue("client", names=["cluster-1"], uses=[authority.CLIENT], ends=-authority.DAY), "ended on"),
    ],
    ids=["another name", "another authority", "ended"],
)
def test_a_client_certificate_that_the_relay_would_refuse_is_told(
    fleet: Fleet, made: authority.Made, told: str
) -> None:
    trust = {"relay-root-tls-secret": {"ca.crt": ROOT.pem}, "relay-tls-signing-secret": {"tls.crt": SIGNING.pem}}
    trusting = replace(fleet, trust=trust | {"relay-identity-token-secret": {"token": "t"}})
    held = {
        "relay-root-tls-secret": {"ca.crt": ROOT.pem},
        "relay-identity-token-secret": {"token": "t"},
        "relay-client-tls-secret": {"tls.crt": made.pem},
    }

    found = list(certificates.worker(view(trusting, "cluster-1", Answers({})), held))
    assert codes(found) == [("certificate-unusable", "cluster-1")]
    assert told in found[0].what
    held["relay-client-tls-secret"] = {"tls.crt": SIGNING.client("cluster-1").pem}
    assert codes(certificates.worker(view(trusting, "cluster-1", Answers({})), held)) == []


def held(root: authority.Made) -> dict[str, dict[str, str]]:
    """The management cluster's Secrets under a root."""
    made = {"relay-server-tls-secret": root.server(), "relay-tls-signing-secret": root.signing()}
    pairs = {name: {"tls.crt": it.pem, "tls.key": it.key_pem, "ca.crt": root.pem} for name, it in made.items()}
    tokens = {f"relay-{name}-token-secret": {"token": "t"} for name in ("identity", "forwarding-identity")}
    return {**pairs, **tokens, "relay-root-tls-secret": {"ca.crt": root.pem}}


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("generated", "python -m operations up --stack test"),
        ("existing", "have it made anew by whoever makes it: kubectl --kubeconfig"),
    ],
)
def test_a_secret_that_is_missing_comes_from_whoever_makes_it(fleet: Fleet, source: Any, told: str) -> None:
    settings = fleet.settings.model_copy(update={"pki": fleet.settings.pki.model_copy(update={"source": source})})
    there = held(ROOT)
    del there["relay-server-tls-secret"]

    (finding,) = certificates.management(view(replace(fleet, settings=settings), "management", Answers({})), there)

    assert finding.kind.code == "relay-secret-missing"
    assert finding.remedy.startswith(told)


def test_a_certificate_ends_with_the_intermediate_below_it(fleet: Fleet) -> None:
    middle = ROOT.issue("middle", ca=True, begins=-400 * DAY, ends=10 * DAY)
    uses = (authority.SERVER, authority.CLIENT)
    server = middle.issue("server", names=(authority.AUTHORITY,), uses=uses, begins=-300 * DAY)
    chain = server.pem + middle.pem
    there = held(ROOT)
    there["relay-server-tls-secret"] |= {"tls.crt": chain, "tls.key": server.key_pem}
    known = {"relay-server": {"sha256": fingerprint(chain), "notAfter": end(chain)}}
    recorded = replace(fleet, record=Record("test", "1.2.9", {}, {}, known, {}, {}))

    found = list(certificates.management(view(recorded, "management", Answers({})), there))

    assert codes(found) == [("certificate-expiring", "management")]
    assert "tls.crt of Secret relay-server-tls-secret" in found[0].what


def test_a_key_of_another_certificate_is_told_before_a_pod_starts_with_it(fleet: Fleet) -> None:
    there = held(ROOT)
    there["relay-server-tls-secret"]["tls.key"] = ROOT.server().key_pem

    (finding,) = certificates.management(view(fleet, "management", Answers({})), there)

    assert finding.kind.code == "certificate-unusable"
    assert "tls.key of Secret relay-server-tls-secret" in finding.what


def test_a_root_that_ended_is_not_for_an_up_to_renew(fleet: Fleet) -> None:
    found = list(certificates.management(view(fleet, "management", Answers({})), held(authority.root(ends=-DAY / 2))))

    remedies = {finding.remedy for finding in found if "ca.crt of Secret relay-root-tls-secret ended" in finding.what}
    assert remedies == {
        "plan a new root, as docs/own-pki.md says: python -m operations up --stack test --renew relay-root"
    }


def test_a_rollout_that_hangs_is_not_ready_though_old_pods_are_available(fleet: Fleet) -> None:
    status = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1}
    waiting = {"waiting": {"reason": "ImagePullBackOff"}}
    found = {
        "/apis/apps/v1/namespaces/gloo-mesh/deployments": [
            {"metadata": {"name": "dashboard", "generation": 2}, "spec": {"replicas": 1}, "status": status}
        ],
        "/api/v1/namespaces/gloo-mesh/pods": [
            {
                "metadata": {"ownerReferences": [{"kind": "ReplicaSet", "name": "dashboard-5d4"}]},
                "status": {"containerStatuses": [{"state": waiting}]},
            }
        ],
    }

    [finding] = workloads.findings(view(fleet, "management", Answers(found)), ())
    assert finding.kind.code == "deployment-not-ready"
    assert "is being rolled out: 1 of 2 replicas are new (ImagePullBackOff)" in finding.what


def test_a_label_that_istio_goes_by_before_the_revisions_is_told(fleet: Fleet, config: dict[str, Any]) -> None:
    settings = Settings.parse(config | {"defaults": {"istio": {"revision": "1-12"}}}, ("licenseKey",))
    labels = {"istio.io/rev": "1-12", "istio-injection": "enabled"}
    found = {"/api/v1/namespaces/gloo-mesh-addons": {"metadata": {"labels": labels}}}

    [finding] = workloads.findings(view(replace(fleet, settings=settings), "cluster-1", Answers(found)), ())
    assert finding.kind.code == "addons-not-labelled"
    assert "is labelled istio-injection=enabled beside istio.io/rev=1-12" in finding.what
    assert finding.remedy.endswith("label namespace gloo-mesh-addons istio-injection-")


def test_image_tags_that_are_no_versions_are_not_compared(fleet: Fleet) -> None:
    assert codes(releases.skewed(fleet, "1.2.9", {"cluster-1": "1.3.0-fips", "cluster-2": "1.2.1"})) == [
        ("agent-skew", "cluster-1")
    ]
    assert codes(releases.skewed(fleet, "latest", {"cluster-1": "1.3.0", "cluster-2": None})) == []
    tags = ("1.2.8", "1.2.9-fips", "1.3.0", "latest", None)
    assert [releases.lags(tag, "1.2.9") for tag in tags] == [True, False, False, None, None]


MANIFEST = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: agent}
spec:
  template: {spec: {containers: [{name: agent, image: "agent:1"}]}}
"""


def deployment(**more: Any) -> dict[str, Any]:
    containers = [{"name": "agent", "image": "agent:1", "imagePullPolicy": "Always"}]
    spec = {"replicas": 1, "template": {"spec": {"containers": containers}}}
    return {"metadata": {"name": "agent", "managedFields": []}, "spec": spec | more}


def drift(
    fleet: Fleet, live: dict[str, Any], more: Mapping[str, Any] | None = None, manifest: str = MANIFEST
) -> list[str]:
    path = "/apis/apps/v1/namespaces/gloo-mesh/deployments"
    at = view(fleet, "cluster-1", Answers({path: [live], **(more or {})}))
    found = hand_changes.findings(at, {"enterprise-agent": Deployed("1.2.9", {}, manifest, "gloo-mesh", 4)})
    return [f"{finding.what} {finding.remedy}" for finding in found]


def test_replicas_that_a_manifest_leaves_out_are_one_unless_an_autoscaler_has_them(fleet: Fleet) -> None:
    autoscaled = deployment(replicas=3)
    autoscaled["metadata"]["managedFields"] = [
        {"manager": "kube-controller-manager", "time": "", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
    ]

    [told] = drift(fleet, deployment(replicas=3))
    assert "in spec.replicas (by nobody known)." in told
    # A rollback takes back only what the manifest says.
    cluster = fleet.settings.worker_clusters[0]
    scale = f"{cluster.kubectl} -n gloo-mesh scale deployment agent --replicas=1"
    assert told.endswith(f". {scale}")
    edited = {"spec": {"containers": [{"name": "agent", "image": "agent:2"}]}}
    [told] = drift(fleet, deployment(replicas=3, template=edited))
    assert told.endswith(f"{cluster.helm} -n gloo-mesh rollback enterprise-agent 4 && {scale}")
    assert drift(fleet, autoscaled) == []
    assert drift(fleet, deployment()) == []


SETTINGS = """\
apiVersion: settings.mesh.gloo.solo.io/v1
kind: Settings
metadata: {name: settings}
spec: {relay: {enabled: true}}
"""


@pytest.mark.parametrize(
    ("live", "code", "remedy"),
    [
        # Helm merges two manifests that are alike, and finds nothing to write.
        ([{"metadata": {"name": "settings"}, "spec": {"relay": {"enabled": False}}}], "object-changed", "apply"),
        ([], "object-deleted", "rollback"),
    ],
)
def test_an_edited_custom_resource_is_applied_again_and_a_deleted_one_made_by_a_rollback(
    fleet: Fleet, live: list[Any], code: str, remedy: str
) -> None:
    group = "/apis/settings.mesh.gloo.solo.io/v1"
    at = view(fleet, "management", Answers({f"{group}/namespaces/gloo-mesh/settings": live}))
    release = Deployed("1.2.9", {}, SETTINGS, "gloo-mesh", 4)

    [told] = hand_changes.findings(at, {"gloo-mesh-enterprise": release})

    commands = {
        "apply": at.manifest_again("gloo-mesh-enterprise", release),
        "rollback": at.rollback("gloo-mesh-enterprise", release),
    }
    assert (told.kind.code, told.remedy) == (code, commands[remedy])


@pytest.mark.parametrize(
    ("kind", "name", "told"), [("Deployment", "agent", 0), ("Deployment", "another", 1), ("ReplicaSet", "agent", 1)]
)
def test_an_autoscaler_is_believed_where_nobody_notes_who_scales(fleet: Fleet, kind: str, name: str, told: int) -> None:
    autoscalers = "/apis/autoscaling/v1/namespaces/gloo-mesh/horizontalpodautoscalers"
    target = {"spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": kind, "name": name}}}

    assert len(drift(fleet, deployment(replicas=3), {autoscalers: [target]})) == told


def test_replicas_that_a_manifest_says_are_null_are_one(fleet: Fleet) -> None:
    [told] = drift(fleet, deployment(replicas=3), manifest=MANIFEST.replace("spec:\n", "spec:\n  replicas: null\n"))

    assert told.endswith("scale deployment agent --replicas=1")


def test_whoever_may_not_look_for_autoscalers_is_told_of_replicas_all_the_same(fleet: Fleet) -> None:
    autoscalers = "/apis/autoscaling/v1/namespaces/gloo-mesh/horizontalpodautoscalers"

    assert len(drift(fleet, deployment(replicas=3), {autoscalers: Refused(403, "Forbidden", "no")})) == 1


def test_what_differs_in_form_alone_is_no_change_to_whoever_may_not_try_a_write(fleet: Fleet) -> None:
    manifest = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: agent, creationTimestamp: null, annotations: null, labels: null}
spec:
  replicas: 1
  template: {spec: {containers: [{name: agent, image: "agent:1", resources: {limits: {cpu: 1000m}}}]}}
"""
    containers = [{"name": "agent", "image": "agent:1", "resources": {"limits": {"cpu": "1"}}}]
    live = deployment(template={"spec": {"containers": containers}})
    live["metadata"] |= {"creationTimestamp": "2026-01-01T00:00:00Z", "annotations": {"meta.helm.sh/release-name": "x"}}

    assert drift(fleet, live, manifest=manifest) == []


def test_whoever_may_not_try_a_write_is_told_all_the_same(fleet: Fleet) -> None:
    [told] = drift(fleet, deployment(template={"spec": {"containers": [{"name": "agent", "image": "agent:2"}]}}))

    assert "spec.template.spec.containers[agent].image" in told


def test_what_hangs_is_given_up() -> None:
    asleep = threading.Event()
    with pytest.raises(TimeoutError):
        within(0.05, lambda: asleep.wait(30))
    asleep.set()

    assert within(5, lambda: 3) == 3
    with pytest.raises(ValueError, match="broken"):
        within(5, lambda: int("broken"))


OURS, THEIRS = product.RELEASE_DESCRIPTION, "Upgrade complete"


@pytest.mark.parametrize(
    ("history", "remedy"),
    [
        ([OURS], None),
        ([OURS, THEIRS], "rollback enterprise-agent 1"),
        ([OURS, THEIRS, OURS], None),
        ([OURS, THEIRS, "Rollback to 1"], None),
        ([OURS, THEIRS, "Rollback to 1", "Rollback to 3"], None),
        ([OURS, OURS, THEIRS, "Rollback to 1", "Rollback to 3"], "rollback enterprise-agent 2"),
        ([THEIRS, THEIRS], "up"),
        ([OURS, 'Upgrade "enterprise-agent" failed: timed out', "Rollback to 2"], None),
        ([OURS, REFUSED, "Rollback to 2"], None),
        ([None, THEIRS, "Rollback to 1"], None),
        ([OURS, "Rollback to 2"], "rollback enterprise-agent 1"),
        ([OURS, ""], "rollback enterprise-agent 1"),
    ],
)
def test_a_revision_is_whose_that_made_what_it_goes_back_to(
    fleet: Fleet, history: list[str | None], remedy: str | None
) -> None:
    secrets = [helms(number, said) for number, said in enumerate(history, 1) if said is not None]
    listed = {"/api/v1/namespaces/gloo-mesh/secrets": secrets, "/api/v1/namespaces/gloo-mesh-addons/secrets": []}
    at = view(recorded(fleet), "cluster-1", Answers(listed))
    [release] = releases.deployed(at).values()

    found = [finding.remedy for finding in releases.foreign(at, {"enterprise-agent": release}).values()]
    back = f"{at.fleet.up}; if it is told again, change any of its values in the configuration, and repeat"
    back = back if remedy == "up" else f"{at.cluster.helm} -n gloo-mesh {remedy}"
    assert found == ([back] if remedy else [])


def test_nobody_is_sent_back_to_a_revision_that_the_record_doesnt_know(fleet: Fleet) -> None:
    """An up that ended before it could write its record, and somebody who took its values back."""
    secrets = [helms(1, OURS), helms(2, OURS, {"new": "value"}), helms(3, THEIRS)]
    listed = {"/api/v1/namespaces/gloo-mesh/secrets": secrets, "/api/v1/namespaces/gloo-mesh-addons/secrets": []}
    at = view(recorded(fleet), "cluster-1", Answers(listed))

    [told] = releases.foreign(at, releases.deployed(at)).values()

    assert told.remedy.endswith("rollback enterprise-agent 1")


def helms(revision: int, said: str, values: dict[str, str] | None = None) -> dict[str, Any]:
    """Helm's record of a revision of the agent's release; every one is told as deployed, the newest counts."""
    return record(revision, config=values or {}, info={"description": said})


def recorded(fleet: Fleet) -> Fleet:
    """The fleet with a record in which the first worker's agent has no values."""
    release = "cluster-1/enterprise-agent"
    record = Record(
        stack="test",
        version="1.2.9",
        versions={"cluster-1": "1.2.9"},
        clusters={},
        certificates={},
        values={release: digest({})},
        masked={release: []},
    )
    return replace(fleet, record=record)


def test_a_revision_that_is_gone_meanwhile_is_nobodys(fleet: Fleet) -> None:
    listed = {"/api/v1/namespaces/gloo-mesh/secrets": [helms(1, OURS)]}
    at = view(recorded(fleet), "cluster-1", Answers(listed))
    gone = Deployed("1.2.9", {}, "", "gloo-mesh", 2, description=THEIRS)

    assert releases.foreign(at, {"enterprise-agent": gone}) == {}
