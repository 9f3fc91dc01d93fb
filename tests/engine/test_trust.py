"""A PKI of one's own under the real engine: supplied, each worker's own, and existing Secrets, one after the other."""

import base64
import json
import re
import ssl
import tempfile
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from kubernetes import client

from lab.fleet import MANAGEMENT, Lab
from lab.plugins import REPOSITORY
from tests.authority import AUTHORITY, Made, root
from tests.awaiting import awaited
from tests.engine.fleet import CLIENT_SECRET, NAMESPACES, Fleet, changed, connected

pytestmark = [pytest.mark.engine, pytest.mark.lived_in_order]

WORKERS = ("cluster-1", "cluster-2")
ROOT = root()
MIDDLE = ROOT.issue("middle", ca=True)
SERVER = MIDDLE.server()
SIGNING = ROOT.signing()
SERVER_SECRET, SIGNING_SECRET = "relay-server-tls-secret", "relay-tls-signing-secret"
ROOT_SECRET, TOKEN_SECRET = "relay-root-tls-secret", "relay-identity-token-secret"


@pytest.fixture(scope="module")
def fleet(lab: Lab) -> Fleet:
    """The lab stack with a PKI of one's own, not deployed yet; its chain lies in files, its keys in secret keys."""
    chain, certificate = lab.root / "chain.pem", lab.root / "server.pem"
    chain.write_text(MIDDLE.pem + ROOT.pem)
    certificate.write_text(SERVER.pem)
    pki = {
        "source": "supplied",
        "root": {"file": str(chain)},
        "server": {"certificate": {"file": str(certificate)}, "key": {"secret": "serverKey"}},
        "signing": {"certificate": {"secret": "signingCertificate"}, "key": {"secret": "signingKey"}},
    }
    fleet = Fleet(lab, "trust", {"gloo-mesh:pki": pki})
    for key, pem in {"serverKey": SERVER.key_pem, "signingCertificate": SIGNING.pem}.items():
        fleet.pulumi("config", "set", "--secret", f"gloo-mesh:{key}", given=pem)
    return fleet


def test_a_supplied_key_of_another_certificate_is_refused_before_anything_is_written(fleet: Fleet) -> None:
    fleet.pulumi("config", "set", "--secret", "gloo-mesh:signingKey", given=SERVER.key_pem)

    refused = fleet.run("up", "--yes")

    assert refused.returncode == 1
    assert "gloo-mesh:pki.signing.key ({secret: signingKey}) does not belong to" in refused.stderr
    assert "Traceback" not in refused.stdout + refused.stderr
    assert not [line for line in SERVER.key_pem.splitlines()[1:-1] if line in refused.stdout + refused.stderr]
    assert not any(fleet.writes().values())


def test_supplied_certificates_make_relay_and_agents_trust_each_other(fleet: Fleet) -> None:
    fleet.pulumi("config", "set", "--secret", "gloo-mesh:signingKey", given=SIGNING.key_pem)
    fleet.settle()

    server, signing = content(fleet, MANAGEMENT, SERVER_SECRET), content(fleet, MANAGEMENT, SIGNING_SECRET)
    issued = Made(x509.load_pem_x509_certificate(signing["tls.crt"].encode()), private(signing["tls.key"])).client("x")
    agent = {"tls.crt": issued.pem + signing["tls.crt"], "tls.key": issued.key_pem}
    assert server == {"tls.key": SERVER.key_pem, "tls.crt": SERVER.pem + MIDDLE.pem, "ca.crt": ROOT.pem}
    awaited(lambda: connected(fleet) == set(WORKERS))
    for worker in WORKERS:
        assert secrets(fleet, worker) == {ROOT_SECRET, TOKEN_SECRET, CLIENT_SECRET}
        trusted = content(fleet, worker, ROOT_SECRET)
        assert handshake(server, agent | trusted, AUTHORITY) == "x"
        with pytest.raises(ssl.SSLCertVerificationError):
            handshake(server, agent | trusted, "enterprise-networking.elsewhere")
    record: Any = fleet.core(MANAGEMENT).read_namespaced_config_map("gloo-mesh-fleet", "gloo-mesh")
    assert json.loads(record.data["certificates"]).keys() == {"relay-root", "relay-server", "relay-signing"}
    assert "PRIVATE KEY" not in fleet.pulumi("stack", "export")
    assert fleet.preview()["changes"] == {}


def test_each_worker_has_a_certificate_of_its_own_where_the_relay_issues_none(fleet: Fleet) -> None:
    fleet.configure("pki", {"clientCertificates": "perWorker"})
    for key in ("serverKey", "signingCertificate", "signingKey"):
        fleet.configure(key, None)
    # As docs/own-pki.md says: the agents have made them.
    for worker in WORKERS:
        fleet.core(worker).delete_namespaced_secret(CLIENT_SECRET, "gloo-mesh")
    fleet.settle()

    awaited(lambda: connected(fleet) == set(WORKERS))
    server = content(fleet, MANAGEMENT, SERVER_SECRET)
    relay: Any = fleet.apps(MANAGEMENT).read_namespaced_deployment("enterprise-networking", "gloo-mesh")
    assert "--relay-disable-ca=true" in relay.spec.template.spec.containers[0].args
    assert secrets(fleet, MANAGEMENT).isdisjoint({SIGNING_SECRET, TOKEN_SECRET})
    keys = {content(fleet, worker, CLIENT_SECRET)["tls.key"] for worker in WORKERS}
    assert len(keys) == len(WORKERS)
    for worker in WORKERS:
        own = content(fleet, worker, CLIENT_SECRET)
        assert secrets(fleet, worker) == {ROOT_SECRET, CLIENT_SECRET}
        assert handshake(server, own, AUTHORITY) == worker
        with pytest.raises(ssl.SSLError):
            handshake(server, own | {"tls.crt": SERVER.pem, "tls.key": SERVER.key_pem}, AUTHORITY)
    assert "PRIVATE KEY" not in fleet.pulumi("stack", "export")


def test_secrets_that_this_program_made_stay_when_somebody_else_takes_them_over(fleet: Fleet) -> None:
    fleet.configure("pki", {"source": "existing", "clientCertificates": "perWorker"})
    fleet.configure("management", {"context": MANAGEMENT, "namespaces": {"create": False}})
    fleet.configure("defaults", {"namespaces": {"create": False}})
    theirs = {(MANAGEMENT, ROOT_SECRET), (MANAGEMENT, SERVER_SECRET), *((worker, CLIENT_SECRET) for worker in WORKERS)}
    before = {secret: uid(fleet, *secret) for secret in theirs}
    writes = fleet.writes()

    refused = fleet.run("up", "--yes")

    assert refused.returncode == 1
    assert refused.stderr.count("was made by this stack, so the up would delete it") == len(theirs)
    assert fleet.writes() == writes

    handed = re.findall(r'select\(\.urn \| test\("(.*)"\)\)', (REPOSITORY / "docs/own-pki.md").read_text())[0]
    state = json.loads(fleet.pulumi("stack", "export"))
    for entry in state["deployment"]["resources"]:
        if re.search(handed, entry["urn"]):
            entry["retainOnDelete"] = True
    fleet.pulumi("stack", "import", given=json.dumps(state))
    fleet.up()

    assert {secret: uid(fleet, *secret) for secret in theirs} == before
    fleet.report("remove", "--yes")
    assert {secret: uid(fleet, *secret) for secret in theirs} == before
    for cluster in (MANAGEMENT, *WORKERS):
        for namespace in namespaces(fleet, cluster):
            fleet.core(cluster).delete_namespace(namespace)
    awaited(lambda: not any(namespaces(fleet, cluster) for cluster in (MANAGEMENT, *WORKERS)))
    fleet.configure("defaults", None)


def test_existing_secrets_that_cant_work_are_refused_before_anything_is_written(fleet: Fleet) -> None:
    core = fleet.core(MANAGEMENT)
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name="gloo-mesh")))
    elsewhere = ROOT.server("enterprise-networking.elsewhere")
    put(core, SERVER_SECRET, {"tls.crt": elsewhere.pem, "tls.key": SERVER.key_pem, "ca.crt": ROOT.pem})
    put(core, ROOT_SECRET, {"ca.crt": ROOT.pem, "tls.key": ROOT.key_pem})
    fleet.configure("pki", {"source": "existing"})
    fleet.configure("management", {"context": MANAGEMENT, "namespaces": {"create": False}})
    writes = fleet.writes()

    refused = fleet.run("up", "--yes")

    assert refused.returncode == 1
    for part in (
        f"Secret {ROOT_SECRET} in namespace gloo-mesh on management (context {MANAGEMENT}) holds tls.key besides",
        f"Secret {SIGNING_SECRET} in namespace gloo-mesh on management (context {MANAGEMENT}) is not there",
        f"is for enterprise-networking.elsewhere, not for the authority {AUTHORITY}",
        f"tls.key of Secret {SERVER_SECRET} in namespace gloo-mesh on management",
    ):
        assert part in refused.stderr
    assert fleet.writes() == writes


def test_existing_secrets_are_used_and_their_keys_never_reach_the_state(fleet: Fleet) -> None:
    core = fleet.core(MANAGEMENT)
    first = ROOT.server()
    for name, made in ((SERVER_SECRET, first), (SIGNING_SECRET, SIGNING)):
        put(core, name, {"tls.crt": made.pem, "tls.key": made.key_pem, "ca.crt": ROOT.pem})
    put(core, ROOT_SECRET, {"ca.crt": ROOT.pem})
    fleet.settle()

    issued = SIGNING.client("x")
    agent = {"tls.crt": issued.pem + SIGNING.pem, "tls.key": issued.key_pem}
    for worker in WORKERS:
        trusted = content(fleet, worker, ROOT_SECRET)
        assert trusted == {"ca.crt": ROOT.pem}
        assert handshake(content(fleet, MANAGEMENT, SERVER_SECRET), agent | trusted, AUTHORITY) == "x"
    state = fleet.pulumi("stack", "export", "--show-secrets")
    assert "PRIVATE KEY" not in state
    for made in (first, SIGNING, ROOT):
        assert base64.b64encode(made.key_pem.encode()).decode() not in state

    # By an up without the preflight, which refuses a key there.
    put(core, ROOT_SECRET, {"ca.crt": ROOT.pem, "tls.key": ROOT.key_pem})
    fleet.settle()
    entries = json.loads(fleet.pulumi("stack", "export"))["deployment"]["resources"]
    (existing,) = [entry for entry in entries if entry["urn"].endswith("::relay-existing-root")]
    kept = [existing["outputs"][key] for key in ("data", "metadata", "__inputs") if key in existing["outputs"]]
    assert kept
    assert all("ciphertext" in value for value in kept)
    # A removal leaves alone what was only read, and what the state doesn't know.
    assert existing["external"]
    assert {f"gloo-mesh/{name}" for name in (SERVER_SECRET, SIGNING_SECRET)}.isdisjoint(
        entry.get("id") for entry in entries
    )
    put(core, ROOT_SECRET, {"ca.crt": ROOT.pem})

    renewed = ROOT.server()
    put(core, SERVER_SECRET, {"tls.crt": renewed.pem, "tls.key": renewed.key_pem, "ca.crt": ROOT.pem})
    assert fleet.preview()["changes"] == {}


def test_a_new_existing_root_reaches_every_worker(fleet: Fleet) -> None:
    core = fleet.core(MANAGEMENT)
    new = root("new")
    for name, made in ((SERVER_SECRET, new.server()), (SIGNING_SECRET, new.signing())):
        put(core, name, {"tls.crt": made.pem, "tls.key": made.key_pem, "ca.crt": new.pem})
    put(core, ROOT_SECRET, {"ca.crt": new.pem})

    seen = changed(fleet.up(), WORKERS)

    assert seen == {worker: dict.fromkeys((f"{worker}-relay-root", f"{worker}-agent"), "update") for worker in WORKERS}
    assert {content(fleet, worker, ROOT_SECRET)["ca.crt"] for worker in WORKERS} == {new.pem}
    awaited(lambda: connected(fleet) == set(WORKERS))
    enrolled = content(fleet, "cluster-1", CLIENT_SECRET)
    assert handshake(content(fleet, MANAGEMENT, SERVER_SECRET), enrolled, AUTHORITY) == "cluster-1"


def uid(fleet: Fleet, cluster: str, name: str) -> str:
    found: Any = fleet.core(cluster).read_namespaced_secret(name, "gloo-mesh")
    return found.metadata.uid


def namespaces(fleet: Fleet, cluster: str) -> set[str]:
    """Those of the product that are there."""
    listed: Any = fleet.core(cluster).list_namespace()
    return {item.metadata.name for item in listed.items} & set(NAMESPACES)


def secrets(fleet: Fleet, cluster: str) -> set[str]:
    """The relay's Secrets on a cluster."""
    listed: Any = fleet.core(cluster).list_namespaced_secret("gloo-mesh")
    names = {item.metadata.name for item in listed.items}
    return {name for name in names if name.startswith("relay-") and "forwarding" not in name}


def content(fleet: Fleet, cluster: str, name: str) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in fleet.secret(cluster, name).items()}


def private(key_pem: str) -> CertificateIssuerPrivateKeyTypes:
    key: Any = serialization.load_pem_private_key(key_pem.encode(), None)
    return key


def put(core: client.CoreV1Api, name: str, content: dict[str, str]) -> None:
    """A Secret as somebody else makes it, in place of what is there."""
    kind = "kubernetes.io/tls" if "tls.crt" in content else "Opaque"
    body = client.V1Secret(metadata=client.V1ObjectMeta(name=name), type=kind, string_data=content)
    listed: Any = core.list_namespaced_secret("gloo-mesh")
    if name in [item.metadata.name for item in listed.items]:
        core.delete_namespaced_secret(name, "gloo-mesh")
    core.create_namespaced_secret("gloo-mesh", body)


def handshake(server: dict[str, str], agent: dict[str, str], authority: str) -> str:
    """Mutual TLS in memory with what these Secrets hold; the name that the agent proved to the relay."""
    serving, dialling = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    serving.verify_mode = ssl.CERT_REQUIRED
    for context, secret in ((serving, server), (dialling, agent)):
        context.load_verify_locations(cadata=secret["ca.crt"])
        # OpenSSL wants files; they are gone as soon as it has read them.
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "tls.crt").write_text(secret["tls.crt"])
            Path(folder, "tls.key").write_text(secret["tls.key"])
            context.load_cert_chain(Path(folder, "tls.crt"), Path(folder, "tls.key"))
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    relay = serving.wrap_bio(up, down, server_side=True)
    caller = dialling.wrap_bio(down, up, server_hostname=authority)
    waiting = [caller, relay]
    while waiting:
        side = waiting.pop(0)
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            waiting.append(side)
    proven: Any = relay.getpeercert()
    ((_, name),) = proven["subjectAltName"]
    return name
