"""What preflight decides without a cluster: names, versions, rights, selectors, and who is to blame for silence."""

import base64
import ssl
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import connection
from components.charts import Charts
from components.connection import AccessError
from components.settings import ClusterSettings, Settings
from operations import charts, lock, preflight
from operations.api import Refused, Unanswered
from operations.crds import COLLECTION
from operations.everywhere import Looked
from operations.findings import Kind
from operations.lock import Lock
from operations.preflight import (
    access,
    chart_objects,
    clusters,
    collisions,
    identity,
    istio,
    permissions,
    remembered,
    versions,
)
from operations.preflight.chart_objects import Coming
from operations.preflight.ownership import NAMESPACE, Ownership
from operations.preflight.permissions import Need
from operations.preflight.platform import CLOCK_SKEW
from operations.stack import Stack
from operations.state import PROVIDER, RELEASE
from tests.authority import CLIENT, DAY, root
from tests.unit.conftest import Run
from tests.unit.test_vendored_charts import chart

SHAPES: dict[str, dict[str, Any]] = {
    "the seeds' fleet": {},
    "everything there is": {
        "virtualMesh": {"globalAccessPolicy": "ENABLED"},
        "relay": {"istioGateway": {}},
        "workers": {
            "cluster-1": {"addons": {"enabled": False}},
            "cluster-2": {"platform": "openshift", "images": {"pullSecret": {"secret": "registry"}}},
        },
        "registry": {"auths": {}},
    },
    "namespaces of others": {"defaults": {"namespaces": {"create": False}}},
    "client certificates of ours": {"pki": {"clientCertificates": "perWorker"}},
    "certificates of others": {
        "pki": {"source": "existing"},
        "management": {"context": "mgmt-cluster", "namespaces": {"create": False}},
    },
    "certificates and clients of others": {
        "pki": {"source": "existing", "clientCertificates": "perWorker"},
        "management": {"context": "mgmt-cluster", "namespaces": {"create": False}},
        "defaults": {"namespaces": {"create": False}},
    },
}
SECRETS = ("licenseKey", "registry")
PROD = Stack("prod", Path("Pulumi.prod.yaml"), {})


@pytest.mark.parametrize("shape", SHAPES)
def test_every_fixed_name_that_the_program_makes_is_looked_for_and_no_other(
    shape: str, config: dict[str, Any], deploy: Callable[..., Run]
) -> None:
    config |= SHAPES[shape]
    registered = deploy(config, SECRETS).kubernetes

    # A patch changes what is there; what is read is somebody else's.
    created = {
        (made.provider, made.type, _called(made.wire))
        for made in registered
        if not made.read and not made.type.endswith("Patch")
    }
    assert set(collisions.made(Settings.parse(config, SECRETS))) == created


def _called(wire: dict[str, Any]) -> str:
    metadata = wire.get("metadata", wire)
    return "/".join(_plain(metadata[key]) for key in ("namespace", "name") if key in metadata)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else value["value"]


@pytest.mark.parametrize(
    ("version", "constraint", "met"),
    [
        ("v1.34.4", "", None),
        ("v1.34.4", "whatever", None),
        ("not a version", ">=1.17", None),
        ("v1.34.4", ">= 1.17.0", True),
        ("v1.34.4", ">=1.17.0-0 <1.24.0-0", False),
        ("v1.23.9", ">=1.17.0-0, <1.24.0-0", True),
        ("v1.23.9", "1.17 - 1.23", True),
        ("v1.24.0", "1.17 - 1.23", False),
        ("v1.24.0", "<=1.23", False),
        ("v1.23.9", "<=1.23", True),
        ("v1.23.9", ">1.23", False),
        ("v1.24.0", ">1.23", True),
        ("v1.16.0", "^1.17 || ~1.16.0", True),
        ("v2.0.0", "^1.17", False),
        ("v1.18.0", "~1.17", False),
        ("v1.17.3", "1.17.x", True),
        ("v1.17.3", "!=1.17", False),
        ("v1.18.0", "!=1.17.3", True),
        ("v1.17.3", "*", True),
        ("v1.17.3", "=1.17.3", True),
        # As Helm has it: what a cloud appends is a pre-release.
        ("v1.27.3-gke.100", ">=1.17", False),
        ("v1.27.3-gke.100", ">=1.17-0", True),
        ("v1.27.3-gke.100", "*", False),
        ("v1.27.3-gke.100", ">=1.17 || >=1.18-0 <1.20", False),
        ("v1.24.0-eks-bc4871b", ">=1.17.0-0 <=1.23", False),
        ("v1.24.0-eks-bc4871b", ">1.23 >=1.17-0", True),
        ("v1.24.0-eks-bc4871b", "~1.23-0", False),
        ("v1.21.5-eks-bc4871b", ">=1.17.0-0 <1.24.0", True),
        ("v1.25.5-eks-bc4871b", ">=1.17.0-0 <1.24.0", False),
        ("v1.21.5-eks-bc4871b", ">=1.17.0-0 <1.20.0 || <1.24.0", False),
        ("v1.21.5-eks-bc4871b", ">=1.17.0, <1.24.0-0", True),
        ("v1.27.3+k3s1", ">=1.17", True),
    ],
)
def test_a_charts_range_of_kubernetes_is_read_as_helm_reads_it(version: str, constraint: str, met: bool | None) -> None:
    assert versions.within(version, constraint) is met


@pytest.mark.parametrize(
    ("rule", "covered"),
    [
        ({"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}, True),
        ({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}, True),
        ({"verbs": ["list"], "apiGroups": [""], "resources": ["secrets"]}, False),
        ({"verbs": ["get"], "apiGroups": ["apps"], "resources": ["secrets"]}, False),
        ({"verbs": ["get"], "apiGroups": [""], "resources": ["secrets/status"]}, False),
        ({"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["other"]}, False),
        ({"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["it"]}, True),
    ],
)
def test_a_rule_covers_what_it_names_and_no_more(rule: dict[str, Any], covered: bool) -> None:
    assert permissions.uncovered([rule], [Need(("get",), "", "secrets", "gloo-mesh", "it")]) is not covered


@pytest.mark.parametrize(
    ("selector", "taken"),
    [
        ({}, True),
        ({"matchLabels": {"istio-injection": "enabled"}}, True),
        ({"matchLabels": {"istio-injection": "disabled"}}, False),
        ({"matchExpressions": [{"key": "istio.io/rev", "operator": "DoesNotExist"}]}, True),
        ({"matchExpressions": [{"key": "istio-injection", "operator": "In", "values": ["enabled"]}]}, True),
        ({"matchExpressions": [{"key": "istio-injection", "operator": "NotIn", "values": ["enabled"]}]}, False),
        ({"matchExpressions": [{"key": "istio.io/rev", "operator": "Exists"}]}, False),
    ],
)
def test_a_namespace_is_selected_as_the_api_server_selects_it(selector: dict[str, Any], taken: bool) -> None:
    assert istio.matches(selector, {"istio-injection": "enabled"}) is taken


def test_a_root_is_the_same_in_a_secret_and_in_a_bundle() -> None:
    one, other = root("one").pem, root("other").pem
    encoded = base64.b64encode(one.encode()).decode()

    assert istio.certificates(encoded) == istio.certificates(one)
    assert istio.certificates(one) < istio.certificates(other + one)
    assert istio.certificates("no PEM") == frozenset()


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (connection.PluginMissingError("its credential plugin x can't be started"), "credential-plugin-missing"),
        (connection.LoginError("its credential plugin x failed"), "login-needed"),
        (connection.HangingLoginError("its credential plugin x hasn't answered"), "login-hangs"),
        (AccessError("its kubeconfig names no server"), "kubeconfig-unusable"),
        (ssl.SSLCertVerificationError("self-signed certificate"), "tls-not-trusted"),
        (ConnectionRefusedError("refused"), "no-answer"),
        (TimeoutError(), "no-answer"),
        (OSError("Name or service not known"), "no-answer"),
    ],
)
def test_each_way_of_not_answering_has_a_code_of_its_own(cause: Exception, code: str, config: dict[str, Any]) -> None:
    error = Unanswered("why")
    error.__cause__ = cause

    assert _told(error, config).kind.code == code


@pytest.mark.parametrize(("status", "code"), [(401, "credentials-expired"), (403, "access-denied"), (503, "no-answer")])
def test_an_api_servers_own_refusals_are_told_apart(status: int, code: str, config: dict[str, Any]) -> None:
    assert _told(Refused(status, "Reason", "message"), config).kind.code == code


def _told(error: Exception, config: dict[str, Any]) -> Any:
    return access.finding(Settings.parse(config, ("licenseKey",)).management_cluster, error)


def test_a_state_tells_what_is_its_own_what_was_begun_and_what_is_only_read() -> None:
    provider = "urn:pulumi:prod::gloo-mesh::pulumi:providers:kubernetes::cluster-1::4711"

    def resource(kind: str, **more: Any) -> dict[str, Any]:
        return {"type": kind, "provider": provider, **more}

    state = Ownership.of(
        {
            "deployment": {
                "resources": [
                    {"type": "pulumi:pulumi:Stack"},
                    {"type": PROVIDER, "urn": provider.removesuffix("::4711")},
                    resource(f"{NAMESPACE}Patch", id="gloo-mesh", outputs={"metadata": {"uid": "u-1"}}),
                    resource("kubernetes:core/v1:Secret", id="gloo-mesh/read", external=True),
                    resource("kubernetes:core/v1:Secret", id="gloo-mesh/made"),
                    resource("kubernetes:core/v1:Secret", id="gloo-mesh/kept", retainOnDelete=True),
                    resource(RELEASE, id="n/half", initErrors=["timed out"]),
                ],
                "pending_operations": [
                    {"type": "creating", "resource": resource(RELEASE, inputs={"namespace": "n", "name": "r"})},
                    {"type": "updating", "resource": resource(RELEASE, id="n/other")},
                    {"type": "creating", "resource": resource("kubernetes:core/v1:Secret", id="gloo-mesh/made")},
                ],
            }
        }
    )

    assert state.made == {
        ("cluster-1", NAMESPACE, "gloo-mesh"),
        ("cluster-1", "kubernetes:core/v1:Secret", "gloo-mesh/made"),
        ("cluster-1", "kubernetes:core/v1:Secret", "gloo-mesh/kept"),
        ("cluster-1", RELEASE, "n/half"),
    }
    assert state.again == {("cluster-1", RELEASE, "n/half")}
    assert state.kept == {("cluster-1", "kubernetes:core/v1:Secret", "gloo-mesh/kept")}
    assert state.begun == {("cluster-1", RELEASE, "n/r")}
    assert state.clusters == {"cluster-1"}
    assert state.namespaces == {("cluster-1", NAMESPACE, "gloo-mesh"): "u-1"}
    assert Ownership.of({"version": 3, "deployment": None}) == Ownership()


MINE = Ownership(
    made=frozenset({("cluster-1", RELEASE, "gloo-mesh/enterprise-agent-crds")}),
    namespaces={("cluster-1", NAMESPACE, "gloo-mesh"): "g"},
)
KEPT = {"x": {"name": "x", "annotations": {"meta.helm.sh/release-name": "enterprise-agent-crds"}}}


def test_a_cluster_under_a_new_name_is_told_by_its_old_one_and_no_other(config: dict[str, Any]) -> None:
    settings = Settings.parse(
        config | {"workers": {"east": {"context": "cluster-1"}, "cluster-2": {}}}, ("licenseKey",)
    )
    seen = {"east": {"kube-system": "k", "gloo-mesh": "g"}, "cluster-2": {"kube-system": "w", "gloo-mesh": None}}

    (finding,) = clusters.findings(settings, seen, {}, MINE, "prod")

    assert (finding.kind.code, finding.where) == ("renamed-cluster", "east")
    assert "deployed to as cluster-1" in finding.what


@pytest.mark.parametrize(
    ("changes", "where"),
    [({"workers": {"cluster-1": {}, "east": {"context": "cluster-2"}}}, "east"), ({}, "management")],
)
def test_a_cluster_whose_old_name_is_still_an_entry_isnt_to_be_called_by_it(
    config: dict[str, Any], changes: dict[str, Any], where: str
) -> None:
    settings = Settings.parse(config | {"workers": {"cluster-2": {}}} | changes, ("licenseKey",))

    (finding,) = clusters.findings(settings, {where: {"kube-system": "k", "gloo-mesh": "g"}}, {}, MINE, "prod")

    assert finding.kind.code == "renamed-cluster"
    assert "context of a cluster of its own" in finding.remedy


@pytest.mark.parametrize(
    ("uid", "crds", "told"),
    [
        ("g", KEPT, []),
        ("other", KEPT, ["another-cluster"]),
        (None, {}, ["another-cluster"]),
        # Deleted by hand: nobody deletes the CRDs with it, and an up repairs it.
        (None, KEPT, []),
        (None, {"x": None}, []),
    ],
)
def test_a_cluster_is_another_when_nothing_of_ours_is_there(
    uid: str | None, crds: dict[str, Any], told: list[str], config: dict[str, Any]
) -> None:
    settings = Settings.parse(config, ("licenseKey",))
    seen = {"cluster-1": {"kube-system": "k", "gloo-mesh": uid}}

    found = clusters.findings(settings, seen, {"cluster-1": crds}, MINE, "prod")

    assert [finding.kind.code for finding in found] == told


@pytest.mark.parametrize("absent", ["/api/v1/namespaces/gloo-mesh", f"{COLLECTION}/x", ""])
def test_an_identity_that_lost_its_rights_is_told_so_and_not_that_the_cluster_is_another(
    absent: str, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Denying:
        version, date = "v1.34.4", None

        def named(self, path: str, **_: Any) -> Any:
            if path != absent:
                raise Refused(403, "Forbidden", "not for you")

        get = names = named

        def asked(self, path: str, _body: Any) -> Any:
            return {"status": {"allowed": False} if path.endswith("accessreviews") else {}}

    def denied(asked: list[ClusterSettings], at: Callable[[ClusterSettings, Any], Any], _seconds: float) -> Looked[Any]:
        return Looked({cluster.name: at(cluster, Denying()) for cluster in asked}, {})

    monkeypatch.setattr(charts, "demands", lambda *_: charts.Demands("", {"x": "apiextensions.k8s.io/v1"}))
    monkeypatch.setattr(chart_objects, "coming", lambda *_: Coming())
    monkeypatch.setattr(preflight, "look", denied)
    monkeypatch.setattr(remembered, "look", lambda *_: Looked({}, {}))
    provider = f"urn:pulumi:prod::gloo-mesh::{PROVIDER}::cluster-1"
    outputs = {"metadata": {"uid": "g"}}
    resources: list[dict[str, Any]] = [
        {"type": PROVIDER, "urn": provider, "inputs": {"context": "cluster-1"}},
        {"type": NAMESPACE, "provider": f"{provider}::1", "id": "gloo-mesh", "outputs": outputs},
        {"type": RELEASE, "provider": f"{provider}::1", "id": "gloo-mesh/enterprise-agent-crds"},
    ]

    looked = preflight.preflight(
        PROD, Settings.parse(config, ("licenseKey",)), {"deployment": {"resources": resources}}
    )

    told = [finding.kind.code for finding in looked.findings if finding.where == "cluster-1"]
    assert told == ["permission-missing", "granting-not-allowed", "reading-not-allowed"]


@pytest.mark.parametrize(("version", "told"), [("1.2.8", ["crds-unowned"]), ("1.2.9", [])])
def test_crds_that_another_version_may_bring_are_looked_for_as_those_of_the_first_are(
    version: str, told: list[str], config: dict[str, Any]
) -> None:
    release = ("cluster-1", RELEASE, "gloo-mesh/enterprise-agent-crds")
    ours = Ownership(made=frozenset([release]), versions={release: version})
    there = {
        "cluster-1": collisions.Seen(frozenset(), frozenset(), {}, {}, {"new.x.solo.io": {"name": "new.x.solo.io"}})
    }
    settings = Settings.parse(config, ("licenseKey",))

    found = collisions.findings(settings, there, ours, {"cluster-1": ["new.x.solo.io"]}, None, "prod")

    assert [finding.kind.code for finding in found] == told


def test_what_is_told_of_an_object_of_the_core_names_it_as_kubectl_does(config: dict[str, Any]) -> None:
    record = ("kubernetes:core/v1:ConfigMap", "gloo-mesh/gloo-mesh-fleet")
    there = {"management": collisions.Seen(frozenset([record]), frozenset(), {}, {}, {})}
    settings = Settings.parse(config, ("licenseKey",))

    (finding,) = collisions.findings(settings, there, Ownership(), {}, None, "prod")

    assert finding.remedy.endswith("delete configmaps gloo-mesh-fleet")


def test_a_worker_whose_istio_shares_a_root_with_some_of_the_others_alone_is_told(config: dict[str, Any]) -> None:
    config |= {"virtualMesh": {}, "workers": {name: {} for name in ("cluster-1", "cluster-2", "cluster-3")}}
    settings = Settings.parse(config, ("licenseKey",))

    def told(*roots: str) -> list[tuple[str, str]]:
        seen = dict(zip(config["workers"], map(frozenset[str], roots), strict=True))
        return [(finding.kind.code, finding.where) for finding in istio.roots(settings, seen)]

    assert told("ab", "a", "b") == [("istio-roots-differ", "cluster-3")]
    assert told("ab", "c", "b") == [("istio-roots-differ", "cluster-2")]
    assert told("ab", "bc", "b") == []
    assert told("", "a", "b") == [("istio-roots-differ", "cluster-3")]


def test_a_fleet_whose_namespace_was_renamed_is_told_with_the_name_it_had(config: dict[str, Any]) -> None:
    config["namespace"] = "mesh"
    settings = Settings.parse(config, ("licenseKey",))
    ours = Ownership(made=frozenset(("cluster-1", NAMESPACE, name) for name in ("gloo-mesh", "gloo-mesh-addons")))
    seen: dict[str, dict[str, str | None]] = {"cluster-1": {"kube-system": "k", "mesh": None}}

    (told,) = clusters.findings(settings, seen, {}, ours, "prod")

    assert told.kind.code == "namespace-moved"
    assert told.kind.stops
    assert "Write gloo-mesh:namespace: gloo-mesh again." in told.remedy


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        ({"istio-injection": "enabled"}, "istio-injection-"),
        ({"istio.io/rev": "1-18"}, "istio.io/rev-"),
        ({"istio.io/rev": "1-18", "istio-injection": "disabled"}, ""),
        ({"istio-injection": "disabled"}, ""),
        ({"team": "mesh"}, ""),
    ],
)
def test_a_namespace_of_relay_or_agent_that_istio_injects_is_told(
    labels: dict[str, str], named: str, config: dict[str, Any]
) -> None:
    cluster = Settings.parse(config, ("licenseKey",)).management_cluster

    told = [finding.remedy.rpartition(" ")[2] for finding in istio.injected(cluster, "gloo-mesh", {"labels": labels})]

    assert told == ([named] if named else [])


def test_a_server_that_doesnt_say_who_asks_is_told(config: dict[str, Any]) -> None:
    class Old:
        version = "v1.27.0"

        def asked(self, _path: str, _body: Any) -> Any:
            raise Refused(404, "NotFound", "no such kind")

    cluster: Any = Settings.parse(config, ("licenseKey",)).management_cluster
    api: Any = Old()

    assert [finding.kind.code for finding in identity.findings(cluster, api, [])] == ["identity-unknown"]


def test_what_the_charts_ask_of_kubernetes_is_compared_with_each_cluster(
    config: dict[str, Any], tmp_path: Path
) -> None:
    old = {"apiVersion": "apiextensions.k8s.io/v1beta1", "kind": "CustomResourceDefinition"}
    crds = yaml.safe_dump(old | {"metadata": {"name": "olds.x.solo.io"}, "spec": {"group": "x.solo.io"}})
    folder = tmp_path / "vendored"
    new = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "status": {"conditions": []}}
    newer = yaml.safe_dump(new | {"metadata": {"name": "news.x.solo.io"}, "spec": {"versions": [{"name": "v1"}]}})
    files: dict[str, str | bytes] = {"charts/crds/crds/news.yaml": newer, "charts/crds/crds/things.yaml": crds}
    packed = chart(more=files | {"Chart.yaml": _demanding("enterprise-agent")})
    charts.add(folder, packed, "a test")
    cluster = Settings.parse(config, ("licenseKey",)).worker_clusters[0]

    asked = charts.demands(Charts.load(folder, "1.2.9"), "enterprise-agent")

    assert asked.kubernetes == ">=1.17.0-0 <1.24.0-0"
    assert asked.crds == {
        "news.x.solo.io": "apiextensions.k8s.io/v1",
        "olds.x.solo.io": "apiextensions.k8s.io/v1beta1",
    }
    assert _codes(cluster, "v1.34.4", asked) == ["kubernetes-version", "crd-api-version"]
    assert _codes(cluster, "v1.21.14", asked) == []


def _demanding(name: str) -> str:
    return yaml.safe_dump({"name": name, "version": "1.2.9", "kubeVersion": ">=1.17.0-0 <1.24.0-0"})


def _codes(cluster: ClusterSettings, version: str, asked: charts.Demands) -> list[str]:
    return [finding.kind.code for finding in versions.findings(cluster, version, asked, "charts")]


@pytest.mark.parametrize(("ends", "said"), [(-DAY, "client certificate of management (context"), (DAY, "answers 401")])
def test_a_client_certificate_that_ended_is_told_with_its_end(
    ends: timedelta, said: str, config: dict[str, Any]
) -> None:
    made = root().issue("deployer", uses=(CLIENT,), begins=-3 * DAY, ends=ends)
    kubeconfig: Any = yaml.safe_load(Path(config["kubeconfig"]).read_text())
    kubeconfig["contexts"][0]["context"] = {"user": "it"}
    data = base64.b64encode(made.pem.encode()).decode()
    kubeconfig["users"] = [{"name": "it", "user": {"client-certificate-data": data}}]
    Path(config["kubeconfig"]).write_text(yaml.safe_dump(kubeconfig))

    finding = _told(Refused(401, "Unauthorized", "Unauthorized"), config)

    assert finding.kind.code == "credentials-expired"
    assert said in finding.what


def test_a_leaving_cluster_that_lets_nobody_look_is_told_with_the_way_to_forget_it(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config["workers"].pop("cluster-2")
    inputs = {"kubeconfig": config["kubeconfig"], "context": "cluster-2"}
    left = {"type": PROVIDER, "urn": f"urn:pulumi:prod::gloo-mesh::{PROVIDER}::cluster-2", "inputs": inputs}
    monkeypatch.setattr(charts, "demands", lambda *_: charts.Demands("", {}))
    monkeypatch.setattr(chart_objects, "coming", lambda *_: Coming())
    monkeypatch.setattr(preflight, "look", lambda *_: Looked({}, {}))
    denied = Refused(403, "Forbidden", "namespaces is forbidden")
    monkeypatch.setattr(remembered, "look", lambda asked, *_: Looked({}, {cluster.name: denied for cluster in asked}))

    looked = preflight.preflight(PROD, Settings.parse(config, ("licenseKey",)), {"deployment": {"resources": [left]}})

    (told,) = [finding for finding in looked.findings if finding.where == "cluster-2"]
    assert told.kind.code == "access-denied"
    assert told.remedy.endswith("python -m operations forget cluster-2 --stack prod")
    assert looked.unreachable == {"cluster-2": denied}


@pytest.mark.parametrize(
    ("kinds", "held", "codes"),
    [
        ([collisions.NAME_TAKEN, CLOCK_SKEW], True, ["lock-held"]),
        ([collisions.NAME_TAKEN, access.LOGIN_HANGS], True, ["lock-held", "login-hangs"]),
        ([collisions.NAME_TAKEN, CLOCK_SKEW], False, ["name-taken", "clock-skew"]),
        ([CLOCK_SKEW], True, ["clock-skew"]),
    ],
)
def test_what_an_update_that_is_under_way_made_is_told_as_that_update(
    kinds: list[Kind], held: bool, codes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "listed", lambda _stack: [Lock.anonymous()] if held else [])

    looked = preflight.Preflight([kind.found("cluster-1", "It is so.", "Mend it.") for kind in kinds], {})

    assert [finding.kind.code for finding in looked.told("prod")] == codes
