"""The life of a fleet under the real engine, in the order it is lived: each test goes on from the one before."""

import base64
import copy
import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from kubernetes import client

from lab.cluster import Event, components
from lab.fleet import MANAGEMENT, Lab
from lab.kubeconfig import DEPLOYER
from tests.awaiting import awaited
from tests.engine.fleet import CLIENT_SECRET, Fleet, Report, changed, connected, denying

pytestmark = [pytest.mark.engine, pytest.mark.lived_in_order]

WORKERS = ("cluster-1", "cluster-2")
CLUSTERS = (MANAGEMENT, *WORKERS)
RELAY = {"dialFromHere": False}
RELAY_SECRETS = {
    "relay-server-tls-secret": {"tls.key", "tls.crt", "ca.crt"},
    "relay-tls-signing-secret": {"tls.key", "tls.crt", "ca.crt"},
    "relay-root-tls-secret": {"ca.crt"},
    "relay-identity-token-secret": {"token"},
    "relay-forwarding-identity-token-secret": {"token"},
}
KEYED = ("relay-server-tls-secret", "relay-tls-signing-secret")
OURS = ("gloo", "enterprise", "dashboard", "rbac-webhook", "prometheus", "rate-limiter", "ext-auth", "redis")
"""Parts of the names of everything that a deployment makes outside its namespaces."""
ROOT_SECRET, TOKEN_SECRET = "relay-root-tls-secret", "relay-identity-token-secret"


OIDC_CLIENT_SECRET = "client-secret-canary-0815"
OIDC = {
    "issuerUrl": "https://login.example.com/",
    "clientId": "gloo-mesh-dashboard",
    "appUrl": "https://gloo-mesh.example.com",
    "session": {"store": "redis"},
}
MESH = ("networking.mesh.gloo.solo.io", "v1")


@pytest.fixture(scope="module")
def fleet(lab: Lab) -> Fleet:
    """The lab stack on three clusters, with a login for its dashboard and one mesh; not deployed yet."""
    dashboard = {"authentication": "oidc", "oidc": OIDC}
    mesh = {"globalAccessPolicy": "ENABLED"}
    changes = {"gloo-mesh:dashboard": dashboard, "gloo-mesh:virtualMesh": mesh, "gloo-mesh:protect": True}
    fleet = Fleet(lab, "engine", changes)
    fleet.pulumi("config", "set", "--secret", "gloo-mesh:oidcClientSecret", given=OIDC_CLIENT_SECRET)
    return fleet


@pytest.fixture(scope="module")
def previewed(fleet: Fleet) -> Report:
    """The preview of a fleet that doesn't exist."""
    return fleet.preview()


@pytest.fixture(scope="module")
def deployed(fleet: Fleet, previewed: Report) -> Report:
    """The first up."""
    assert fleet.writes() == {cluster: [] for cluster in CLUSTERS}, "the preview wrote something"
    return fleet.up()


def test_a_stack_that_the_backend_doesnt_know_is_told_with_the_command_that_makes_it(fleet: Fleet) -> None:
    stranger = copy.copy(fleet)
    stranger.name = "unheard-of"
    stranger.file = fleet.lab.root / "Pulumi.unheard-of.yaml"
    stranger.file.write_text(fleet.file.read_text())

    for verb in ("preview", "up", "recover", "check"):
        if verb == "check":
            # It asks the CLI for nothing else.
            stranger.configure("kubeconfig", {"secret": "access"})
            stranger.configure("access", {"secure": "v1:4711:0815"})
        refused = stranger.run(verb)

        assert refused.returncode == 2
        assert "The backend knows no stack unheard-of; make it with: pulumi stack init unheard-of" in refused.stderr
        assert "Traceback" not in refused.stdout + refused.stderr


def test_a_wrong_passphrase_is_told_before_anything_is_written(fleet: Fleet) -> None:
    stranger = copy.copy(fleet)
    stranger.environment = {"PULUMI_CONFIG_PASSPHRASE": "wrong", "PULUMI_CONFIG_PASSPHRASE_FILE": ""}

    for verb in ("preview", "recover"):
        refused = stranger.run(verb)

        assert refused.returncode == 2
        assert refused.stderr.strip().endswith("incorrect passphrase")
        assert "Traceback" not in refused.stdout + refused.stderr


def test_a_preview_of_nothing_shows_creations_only(previewed: Report) -> None:
    assert set(previewed["changes"]) == {"create"}
    assert set(changed(previewed)) == {"certificates", "management", *WORKERS}


def test_a_preview_of_a_change_of_management_alone_leaves_the_workers_unchanged_and_writes_nothing(
    fleet: Fleet, deployed: Report
) -> None:
    # Nor did the first one write, which was looked at before the up; see `deployed`.
    before = fleet.writes()
    fleet.configure("relay", RELAY | {"readyWithin": "7m"})
    seen = changed(fleet.preview())
    fleet.configure("relay", RELAY)

    assert seen == {"management": {"management-release": "update"}}
    assert fleet.writes() == before


def test_an_up_says_where_the_relay_answers(fleet: Fleet, deployed: Report) -> None:
    assert deployed["outputs"]["relayAddress"] == fleet.lab.relay_address


def test_what_was_previewed_is_what_was_done(previewed: Report, deployed: Report) -> None:
    assert changed(deployed) == changed(previewed)


def test_everything_the_management_cluster_needs_is_there(fleet: Fleet, deployed: Report) -> None:
    namespace: Any = fleet.core(MANAGEMENT).read_namespace("gloo-mesh")
    service: Any = fleet.core(MANAGEMENT).read_namespaced_service("enterprise-networking", "gloo-mesh")

    assert "istio-injection" not in namespace.metadata.labels
    assert {name: set(fleet.secret(MANAGEMENT, name)) for name in RELAY_SECRETS} == RELAY_SECRETS
    assert service.spec.type == "LoadBalancer"
    assert deployments(fleet, MANAGEMENT, "gloo-mesh") >= {"enterprise-networking", "dashboard"}
    assert set(fleet.registrations()) == set(WORKERS)


@pytest.mark.parametrize("worker", WORKERS)
def test_everything_a_worker_needs_is_there_and_no_key_of_an_authority(
    fleet: Fleet, deployed: Report, worker: str
) -> None:
    listed: Any = fleet.core(worker).list_namespaced_secret("gloo-mesh")
    own = {s.metadata.name: set(s.data) for s in listed.items if not s.metadata.name.startswith("sh.helm")}
    # Made by the agent, once the relay has issued it.
    own.pop("relay-client-tls-secret", None)

    assert own == {"relay-root-tls-secret": {"ca.crt"}, "relay-identity-token-secret": {"token"}}
    assert fleet.secret(worker, "relay-root-tls-secret") == fleet.secret(MANAGEMENT, "relay-root-tls-secret")
    assert deployments(fleet, worker, "gloo-mesh") == {"enterprise-agent"}
    assert agent_arguments(fleet, worker) >= {f"--cluster={worker}", f"--relay-address={fleet.lab.relay_address}"}


@pytest.mark.parametrize("worker", WORKERS)
def test_addons_run_with_istios_proxy(fleet: Fleet, deployed: Report, worker: str) -> None:
    pods: Any = fleet.core(worker).list_namespaced_pod("gloo-mesh-addons")

    assert deployments(fleet, worker, "gloo-mesh-addons") == {"rate-limiter", "ext-auth-service", "redis"}
    for pod in pods.items:
        assert "istio-proxy" in [container.name for container in pod.spec.containers]
        assert all(status.ready for status in pod.status.container_statuses)


def test_the_dashboard_asks_for_a_login_with_its_secret_and_sessions_where_they_belong(
    fleet: Fleet, deployed: Report
) -> None:
    dashboard = fleet.custom("settings.mesh.gloo.solo.io", "v1", "dashboards")["settings"]["spec"]["auth"]["oidc"]

    assert base64.b64decode(fleet.secret(MANAGEMENT, "dashboard")["oidc-client-secret"]).decode() == OIDC_CLIENT_SECRET
    assert dashboard == {
        **{key: value for key, value in OIDC.items() if key != "session"},
        "clientSecret": {"name": "dashboard", "namespace": "gloo-mesh"},
        "session": {"redis": {"host": "redis-dashboard.gloo-mesh.svc.cluster.local:6379"}},
    }
    assert "redis-dashboard" in deployments(fleet, MANAGEMENT, "gloo-mesh")


def test_the_workers_meshes_are_one_and_its_addons_are_allowed_before_access_is_denied(
    fleet: Fleet, deployed: Report
) -> None:
    (mesh,) = fleet.custom(*MESH, "virtualmeshes").values()
    policy = fleet.custom(*MESH, "accesspolicies")["gloo-mesh-addons"]
    made = {
        event["objectRef"]["name"]: index
        for index, event in enumerate(fleet.lab.audit(MANAGEMENT))
        if event["verb"] == "create"
        and event["objectRef"].get("name") in (*WORKERS, "virtual-mesh", "gloo-mesh-addons")
    }

    assert mesh["spec"]["mtlsConfig"] == {"autoRestartPods": False}
    assert mesh["spec"]["globalAccessPolicy"] == "ENABLED"
    assert [named["name"] for named in mesh["spec"]["meshes"]] == [f"istiod-istio-system-{name}" for name in WORKERS]
    assert policy["spec"]["destinationSelector"][0]["kubeServiceMatcher"]["clusters"] == list(WORKERS)
    assert list(made)[-2:] == ["gloo-mesh-addons", "virtual-mesh"]


def test_the_server_certificate_is_the_relays_alone(fleet: Fleet, deployed: Report) -> None:
    server = certificate(fleet, "relay-server-tls-secret")
    signing = certificate(fleet, "relay-tls-signing-secret")
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uses = signing.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value

    assert "enterprise-networking.gloo-mesh" in names.get_values_for_type(x509.DNSName)
    assert ExtendedKeyUsageOID.SERVER_AUTH not in list(uses)
    assert len({0, server.serial_number, signing.serial_number}) == 3
    pem = base64.b64decode(fleet.secret(MANAGEMENT, "relay-root-tls-secret")["ca.crt"])
    for issued in (server, signing):
        issued.verify_directly_issued_by(x509.load_pem_x509_certificate(pem))


def test_the_fleet_describes_itself_without_secrets(fleet: Fleet, deployed: Report) -> None:
    record: Any = fleet.core(MANAGEMENT).read_namespaced_config_map("gloo-mesh-fleet", "gloo-mesh")
    identities = {}
    for name, context in (("management", MANAGEMENT), *((worker, worker) for worker in WORKERS)):
        namespace: Any = fleet.core(context).read_namespace("gloo-mesh")
        identities[name] = namespace.metadata.uid

    assert json.loads(record.data["clusters"]) == identities
    assert (record.data["stack"], record.data["version"]) == ("engine", "1.2.9")
    assert set(json.loads(record.data["certificates"])) == {"relay-root", "relay-server", "relay-signing"}
    tokens = [base64.b64decode(fleet.secret(MANAGEMENT, "relay-identity-token-secret")["token"]).decode()]
    assert not [token for token in tokens if token in json.dumps(record.data)]


def test_the_state_holds_no_secret_in_clear(fleet: Fleet, deployed: Report) -> None:
    state = fleet.pulumi("stack", "export")
    secrets = [
        base64.b64decode(fleet.secret(MANAGEMENT, name)[key]).decode()
        for name, key in (
            ("relay-identity-token-secret", "token"),
            ("relay-forwarding-identity-token-secret", "token"),
            ("gloo-mesh-enterprise-license", "key"),
            ("dashboard", "oidc-client-secret"),
        )
    ]

    assert "PRIVATE KEY" not in state
    assert [secret for secret in secrets if secret in state] == []


def test_the_state_names_no_file_of_whoever_deployed(fleet: Fleet, deployed: Report) -> None:
    assert "project:///.." not in fleet.pulumi("stack", "export")


def test_a_second_up_changes_nothing_writes_nothing_touches_nothing(fleet: Fleet, deployed: Report) -> None:
    writes, versions = fleet.writes(), fleet.versions()

    report = fleet.up()

    assert report["changes"] == {}
    assert fleet.writes() == writes
    assert fleet.versions() == versions


def test_a_deleted_secret_and_an_edited_label_are_seen_and_what_was_approved_of_it_is_repaired(
    fleet: Fleet, deployed: Report, tmp_path: Path
) -> None:
    core, approved = fleet.core("cluster-1"), tmp_path / "approved.json"
    core.delete_namespaced_secret("relay-identity-token-secret", "gloo-mesh")
    approved.write_text(json.dumps(fleet.preview()))
    core.patch_namespace("gloo-mesh-addons", {"metadata": {"labels": {"istio-injection": "disabled"}}})
    writes = fleet.writes()

    refused = fleet.run("up", "--approved", str(approved))
    assert fleet.writes() == writes
    previewed = fleet.preview()
    approved.write_text(json.dumps(previewed))
    done = fleet.report("up", "--approved", str(approved))

    assert refused.returncode == 1
    assert "cluster-1: to update cluster-1-addons-namespace isn't approved." in refused.stderr
    assert refused.stderr.strip().endswith("Preview again with --json, and have that approved.")
    seen = changed(previewed)
    assert changed(done) == seen
    assert seen == {"cluster-1": {"cluster-1-relay-token": "create", "cluster-1-addons-namespace": "update"}}
    namespace: Any = core.read_namespace("gloo-mesh-addons")
    assert namespace.metadata.labels["istio-injection"] == "enabled"
    assert fleet.secret("cluster-1", "relay-identity-token-secret") == fleet.secret(
        MANAGEMENT, "relay-identity-token-secret"
    )


def test_what_is_unknown_or_protected_is_not_made_anew(fleet: Fleet, deployed: Report) -> None:
    before = fleet.writes()

    unknown, kept = (fleet.run("up", "--yes", "--renew", name) for name in ("relay-token", "relay-root"))

    assert (unknown.returncode, kept.returncode) == (2, 2)
    assert "relay-identity-token" in unknown.stderr
    assert "relay-root is protected" in kept.stderr
    assert "Traceback" not in unknown.stderr + kept.stderr
    assert fleet.writes() == before


def test_a_token_that_got_out_is_made_anew_on_every_cluster_and_agents_are_admitted_by_it(
    fleet: Fleet, deployed: Report
) -> None:
    before, enrolled = fleet.secret(MANAGEMENT, TOKEN_SECRET), fleet.secret("cluster-1", CLIENT_SECRET)
    # Of an agent that has to ask anew.
    fleet.core("cluster-1").delete_namespaced_secret(CLIENT_SECRET, "gloo-mesh")

    report = fleet.report("up", "--yes", "--renew", "relay-identity-token")

    # And nothing that was repaired before.
    assert changed(report) == {
        "certificates": {"relay-identity-token": "replace"},
        "management": dict.fromkeys(("management-relay-identity-token-secret", "management-release"), "update"),
        **{worker: dict.fromkeys((f"{worker}-relay-token", f"{worker}-agent"), "update") for worker in WORKERS},
    }
    assert fleet.secret(MANAGEMENT, TOKEN_SECRET) != before
    assert {str(fleet.secret(cluster, TOKEN_SECRET)) for cluster in CLUSTERS} == {
        str(fleet.secret(MANAGEMENT, TOKEN_SECRET))
    }
    awaited(lambda: connected(fleet) == set(WORKERS))
    assert fleet.secret("cluster-1", CLIENT_SECRET)["tls.key"] != enrolled["tls.key"]


def test_a_moved_address_reaches_the_agents(fleet: Fleet, deployed: Report) -> None:
    status = {"status": {"loadBalancer": {"ingress": [{"hostname": "relay.example"}]}}}
    fleet.core(MANAGEMENT).patch_namespaced_service_status("enterprise-networking", "gloo-mesh", status)

    done = changed(fleet.up())

    # The record has a digest of what an agent is given. And nothing is left of what was renewed before.
    agents = {worker: {f"{worker}-agent": "update"} for worker in WORKERS}
    assert done == {"management": {"fleet-record": "update"}, **agents}
    for worker in WORKERS:
        assert "--relay-address=relay.example:9900" in agent_arguments(fleet, worker)


def test_a_certificate_near_its_end_is_renewed_by_a_plain_up(fleet: Fleet, deployed: Report) -> None:
    before = certificate(fleet, "relay-server-tls-secret")
    root = fleet.secret(MANAGEMENT, "relay-root-tls-secret")
    state = json.loads(fleet.pulumi("stack", "export"))
    (server,) = [
        resource
        for resource in state["deployment"]["resources"]
        if resource["urn"].endswith("::relay-server-certificate")
    ]
    soon = datetime.now(UTC) + timedelta(days=3)
    server["outputs"]["validityEndTime"] = soon.strftime("%Y-%m-%dT%H:%M:%SZ")
    fleet.pulumi("stack", "import", given=json.dumps(state))

    report = fleet.up()

    assert changed(report)["certificates"] == {"relay-server-certificate": "replace"}
    assert changed(report, WORKERS) == {}
    assert certificate(fleet, "relay-server-tls-secret").serial_number != before.serial_number
    assert fleet.secret(MANAGEMENT, "relay-root-tls-secret") == root


def test_a_renamed_context_changes_no_object(fleet: Fleet, deployed: Report) -> None:
    kubeconfig = yaml.safe_load(fleet.lab.kubeconfig.read_text())
    for context in kubeconfig["contexts"]:
        context["name"] = "renamed" if context["name"] == "cluster-2" else context["name"]
    renamed = fleet.lab.root / "renamed"
    renamed.write_text(yaml.safe_dump(kubeconfig))
    fleet.configure("workers", {"cluster-1": {}, "cluster-2": {"context": "renamed", "kubeconfig": str(renamed)}})
    writes = fleet.writes()

    report = fleet.up()

    assert report["unreachable"] == {}
    assert report["changes"] == {}
    assert fleet.writes() == writes
    fleet.configure("workers", {worker: {} for worker in WORKERS})


def test_an_up_that_would_lock_its_own_identity_out_is_refused_before_anything_is_written(
    fleet: Fleet, deployed: Report
) -> None:
    fleet.configure("rbac", {"adminSubjects": [{"kind": "User", "name": "somebody-else"}]})
    before = written(fleet)

    refused = fleet.run("up", "--yes", "--json")

    assert refused.returncode == 1
    (told,) = json.loads(refused.stdout)["findings"]
    assert (told["code"], told["stops"]) == ("locked-out", True)
    for part in (DEPLOYER, "User somebody-else", MANAGEMENT, "gloo-mesh:rbac.adminSubjects"):
        assert part in told["what"] + told["next"]
    assert "Traceback" not in refused.stderr
    assert written(fleet) == before

    fleet.configure("rbac", {"adminSubjects": [{"kind": "User", "name": DEPLOYER}]})
    fleet.settle()
    webhooks: Any = client.AdmissionregistrationV1Api(fleet.api(MANAGEMENT)).list_validating_webhook_configuration()
    assert "rbac-webhook" in [webhook.metadata.name for webhook in webhooks.items]


def test_a_webhook_that_isnt_ready_is_awaited(fleet: Fleet, deployed: Report) -> None:
    admission = client.AdmissionregistrationV1Api(fleet.api(MANAGEMENT))
    # Nothing listens on port 1, so the API server's call is refused, as while a webhook's pod starts.
    nowhere: Any = {
        "name": "nowhere.example.com",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "rules": [{"apiGroups": [MESH[0]], "apiVersions": ["*"], "operations": ["*"], "resources": ["*"]}],
    }
    configuration: Any = {"metadata": {"name": "nowhere"}, "webhooks": [nowhere]}
    admission.create_validating_webhook_configuration(configuration)
    fleet.configure("virtualMesh", {"globalAccessPolicy": "ENABLED", "federation": []})
    with ThreadPoolExecutor() as pool:
        try:
            up = pool.submit(fleet.up)
            # Twice, so that it was tried again. The preview's dry runs ask webhooks too.
            awaited(lambda: unanswered(fleet.lab) > 1)
        finally:
            admission.delete_validating_webhook_configuration("nowhere")
        report = up.result()

    assert changed(report) == {"management": {"virtual-mesh-mesh": "update"}}
    assert fleet.custom(*MESH, "virtualmeshes")["virtual-mesh"]["spec"]["federation"] == {"selectors": []}


def test_a_middle_worker_comes_and_goes_alone(fleet: Fleet, deployed: Report) -> None:
    fleet.lab.up(3)
    fleet.configure("workers", {worker: {} for worker in (*WORKERS, "cluster-3")})
    added = changed(fleet.up())
    versions = {key: value for key, value in fleet.versions().items() if "cluster-2 " not in key}
    fleet.configure("workers", {"cluster-1": {}, "cluster-3": {}})
    removed = changed(fleet.up())

    record = {"fleet-record": "update", "virtual-mesh-mesh": "update", "virtual-mesh-addons-access": "update"}
    assert added == {
        "cluster-3": dict.fromkeys(names("cluster-3"), "create"),
        "management": record | {"cluster-3-registration": "create"},
    }
    assert removed == {
        "cluster-2": dict.fromkeys(names("cluster-2"), "delete"),
        "management": record | {"cluster-2-registration": "delete"},
    }
    assert set(fleet.registrations()) == {"cluster-1", "cluster-3"}
    left: Any = fleet.core("cluster-2").list_namespace()
    assert not [n for n in left.items if n.metadata.name.startswith("gloo-mesh")]
    after = fleet.versions()
    moved = [key for key, value in versions.items() if after.get(key) != value]
    assert [key for key in moved if "gloo-mesh-fleet" not in key] == []


def test_a_worker_is_deregistered_before_its_agent_goes(fleet: Fleet, deployed: Report) -> None:
    (deregistered,) = [
        event
        for event in fleet.lab.audit(MANAGEMENT)
        if event["verb"] == "delete" and event["objectRef"]["resource"] == "kubernetesclusters"
    ]
    (agent,) = [
        event
        for event in fleet.lab.audit("cluster-2")
        if event["verb"] == "delete"
        and event["objectRef"]["resource"] == "deployments"
        and event["objectRef"]["name"] == "enterprise-agent"
    ]

    assert deregistered["stageTimestamp"] < agent["requestReceivedTimestamp"]


def test_a_protected_root_stops_a_removal_before_anything_goes(fleet: Fleet, deployed: Report) -> None:
    versions = fleet.versions()

    refused = fleet.run("remove", "--yes")

    assert refused.returncode == 1
    assert "set gloo-mesh:protect to false" in refused.stderr
    assert fleet.versions() == versions
    fleet.configure("protect", False)
    fleet.settle()


def test_a_new_root_is_trusted_everywhere_after_one_up(fleet: Fleet, deployed: Report) -> None:
    # Agents were sent elsewhere before; the same up sends them back.
    status = {"status": {"loadBalancer": {"ingress": [{"ip": fleet.lab.address}]}}}
    fleet.core(MANAGEMENT).patch_namespaced_service_status("enterprise-networking", "gloo-mesh", status)
    before = fleet.secret(MANAGEMENT, ROOT_SECRET)
    keys = {fleet.secret(MANAGEMENT, name)["tls.key"] for name in KEYED}
    workers, enrolled = set(fleet.registrations()), fleet.secret("cluster-1", CLIENT_SECRET)

    fleet.report("up", "--yes", "--renew", "relay-root")

    assert fleet.secret(MANAGEMENT, ROOT_SECRET) != before
    for worker in workers:
        assert fleet.secret(worker, ROOT_SECRET) == fleet.secret(MANAGEMENT, ROOT_SECRET)
    awaited(lambda: connected(fleet) == workers)
    assert fleet.secret("cluster-1", CLIENT_SECRET)["tls.key"] != enrolled["tls.key"]
    # Whoever has an old key can't have it certified by the new root.
    assert not keys & {fleet.secret(MANAGEMENT, name)["tls.key"] for name in KEYED}
    assert fleet.preview()["changes"] == {}


def test_a_worker_where_a_certificate_of_the_old_signing_key_stays_is_finished_by_the_next_up(
    fleet: Fleet, deployed: Report
) -> None:
    root, before = fleet.secret(MANAGEMENT, ROOT_SECRET), signing_certificate(fleet)
    workers = set(fleet.registrations())
    awaited(lambda: connected(fleet) == workers)
    enrolled = {worker: fleet.secret(worker, CLIENT_SECRET)["tls.key"] for worker in workers}
    agent: Any = fleet.apps("cluster-1").read_namespaced_deployment("enterprise-agent", "gloo-mesh")
    # Another profile has keys of another size, under the same root.
    fleet.configure("pki", {"profile": "compat"})

    with undeletable(fleet, "cluster-1", CLIENT_SECRET):
        failed = fleet.run("up", "--yes")

    assert failed.returncode == 1
    assert "The agent on cluster cluster-1 would keep a certificate that the relay no longer takes" in failed.stderr
    assert fleet.secret(MANAGEMENT, ROOT_SECRET) == root
    after = signing_certificate(fleet)
    assert after.public_key() != before.public_key()
    # Its agent wasn't restarted with a certificate that would keep it out.
    left: Any = fleet.apps("cluster-1").read_namespaced_deployment("enterprise-agent", "gloo-mesh")
    assert left.metadata.generation == agent.metadata.generation
    fleet.up()
    awaited(lambda: connected(fleet) == workers)
    for worker in workers:
        assert fleet.secret(worker, CLIENT_SECRET)["tls.key"] != enrolled[worker]
        certificate = x509.load_pem_x509_certificate(base64.b64decode(fleet.secret(worker, CLIENT_SECRET)["tls.crt"]))
        certificate.verify_directly_issued_by(after)
    assert fleet.preview()["changes"] == {}


def test_a_removal_leaves_nothing_but_crds(fleet: Fleet, deployed: Report) -> None:
    fleet.report("remove", "--yes")

    for cluster in fleet.lab.clusters():
        api = fleet.api(cluster)
        namespaces: Any = fleet.core(cluster).list_namespace()
        rbac = client.RbacAuthorizationV1Api(api)
        admission = client.AdmissionregistrationV1Api(api)
        everywhere: list[Any] = [
            namespaces,
            rbac.list_cluster_role(),
            rbac.list_cluster_role_binding(),
            admission.list_validating_webhook_configuration(),
        ]
        crds: Any = client.ApiextensionsV1Api(api).list_custom_resource_definition()
        left = [item.metadata.name for listed in everywhere for item in listed.items]

        assert [name for name in left if any(part in name for part in OURS)] == []
        assert [crd.metadata.name for crd in crds.items if crd.metadata.name.endswith("solo.io")]


def test_no_address_in_time_is_told_with_service_cluster_and_remedy(fleet: Fleet) -> None:
    fleet.configure("relay", RELAY | {"readyWithin": "5s"})
    with without_load_balancer(fleet.lab):
        failed = fleet.run("up", "--yes")

    assert failed.returncode == 1
    for part in ("enterprise-networking", "gloo-mesh", "management", MANAGEMENT, "relay.readyWithin"):
        assert part in failed.stderr
    assert "Traceback" not in failed.stdout + failed.stderr
    fleet.configure("relay", RELAY)
    fleet.up()
    assert fleet.preview()["changes"] == {}


def signing_certificate(fleet: Fleet) -> x509.Certificate:
    content = fleet.secret(MANAGEMENT, "relay-tls-signing-secret")["tls.crt"]
    return x509.load_pem_x509_certificate(base64.b64decode(content))


@contextmanager
def undeletable(fleet: Fleet, cluster: str, secret: str) -> Iterator[None]:
    """Have a cluster refuse to delete a Secret, for a while."""
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["secrets"]}
    policy = {
        "matchConstraints": {"resourceRules": [rule | {"resourceNames": [secret]}]},
        "validations": [{"expression": "false"}],
    }

    def attempt() -> None:
        fleet.core(cluster).delete_namespaced_secret(secret, "gloo-mesh", dry_run="All")

    with denying(fleet, cluster, policy, attempt):
        yield


class without_load_balancer:  # noqa: N801 - read as a clause
    """Stop what assigns addresses (and readies pods) on the management cluster, for a while."""

    def __init__(self, lab: Lab) -> None:
        below = lab.root / "kwok/clusters" / MANAGEMENT
        self._processes = [process for _, name, process in components(below) if name == "kwok-controller"]

    def __enter__(self) -> None:
        assert self._processes
        for process in self._processes:
            process.send_signal(signal.SIGSTOP)

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGCONT)


def written(fleet: Fleet) -> dict[str, list[Event]]:
    """What was written for good; an API server keeps no review of who asks."""
    return {
        cluster: [event for event in events if event["objectRef"]["resource"] != "selfsubjectreviews"]
        for cluster, events in fleet.writes().items()
    }


def unanswered(lab: Lab) -> int:
    """How many writes, dry runs among them, an API server failed because a webhook didn't answer."""
    log = (lab.root / "kwok/clusters" / MANAGEMENT / "logs/audit.log").read_text()
    return sum("/virtualmeshes/" in line and "failed calling webhook" in line for line in log.splitlines())


def deployments(fleet: Fleet, cluster: str, namespace: str) -> set[str]:
    """The Deployments that are ready."""
    listed: Any = fleet.apps(cluster).list_namespaced_deployment(namespace)
    return {item.metadata.name for item in listed.items if item.status.ready_replicas == item.spec.replicas}


def agent_arguments(fleet: Fleet, cluster: str) -> set[str]:
    found: Any = fleet.apps(cluster).read_namespaced_deployment("enterprise-agent", "gloo-mesh")
    return set(found.spec.template.spec.containers[0].args)


def certificate(fleet: Fleet, secret: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(base64.b64decode(fleet.secret(MANAGEMENT, secret)["tls.crt"]))


def names(worker: str) -> list[str]:
    """What a worker has on its own cluster, by logical name."""
    parts = ("namespace", "relay-root", "relay-token", "crds", "agent", "addons-namespace", "addons-release")
    return [f"{worker}-{part}" for part in parts]
