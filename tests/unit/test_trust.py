"""Each source of the relay's trust: what is refused, and which Secret reaches which cluster."""

import json
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from components import product
from components.settings import ConfigurationError, PkiSettings, Settings
from components.settings.pem import fingerprint
from operations.preflight import trust
from operations.program import EXISTING_ROOT, is_secret
from operations.stack import PROJECT_FOLDER
from tests.authority import AUTHORITY, DAY, Made, root
from tests.authority import SERVER as SERVES
from tests.unit import conftest
from tests.unit.conftest import Run, unwrapped

WORKERS = ("cluster-1", "cluster-2")
ROOT = root()
SERVER = ROOT.server()
SIGNING = ROOT.signing()
CLIENTS = {worker: ROOT.client(worker) for worker in WORKERS}
PAIRS = {"server": SERVER, "signing": SIGNING}
Deploy = Callable[..., Run]


@pytest.fixture
def supplied(config: dict[str, Any]) -> dict[str, Any]:
    """Chain and server's certificate as files, everything else in secret keys."""
    Path("root.pem").write_text(ROOT.issue("middle", ca=True).pem + ROOT.pem)
    Path("server.pem").write_text(SERVER.pem)
    return config | {
        "pki": {
            "source": "supplied",
            "root": {"file": "root.pem"},
            "server": {"certificate": {"file": "server.pem"}, "key": {"secret": "serverKey"}},
            "signing": {"certificate": {"secret": "signingCertificate"}, "key": {"secret": "signingKey"}},
        },
        "serverKey": SERVER.key_pem,
        "signingCertificate": SIGNING.pem,
        "signingKey": SIGNING.key_pem,
    }


@pytest.fixture
def per_worker(supplied: dict[str, Any]) -> dict[str, Any]:
    """Supplied, with a certificate for each worker."""
    del supplied["pki"]["signing"], supplied["signingCertificate"], supplied["signingKey"]
    supplied["pki"] |= {
        "clientCertificates": "perWorker",
        "clients": {
            worker: {"certificate": {"secret": f"{worker}Certificate"}, "key": {"secret": f"{worker}Key"}}
            for worker in WORKERS
        },
    }
    for worker, made in CLIENTS.items():
        supplied |= {f"{worker}Certificate": made.pem, f"{worker}Key": made.key_pem}
    return supplied


@pytest.fixture
def existing(config: dict[str, Any]) -> dict[str, Any]:
    """Secrets of cert-manager's, in a namespace that is there."""
    return config | {
        "management": {"context": "mgmt-cluster", "namespaces": {"create": False}},
        "pki": {"source": "existing"},
    }


@pytest.mark.parametrize("clients", ["relay", "perWorker"])
def test_the_documented_hand_over_names_all_that_existing_secrets_replace(
    config: dict[str, Any], deploy: Deploy, clients: str
) -> None:
    document = (PROJECT_FOLDER / "docs/own-pki.md").read_text()
    (handed,) = re.findall(r'select\(\.urn \| test\("(.*)"\)\)', document)

    made = deploy(config | {"pki": {"clientCertificates": clients}}).of_type(":Secret")

    own = {"management-relay-server-tls-secret", "management-relay-root-tls-secret"}
    own |= {f"{w}-relay-client" for w in WORKERS} if clients == "perWorker" else {"management-relay-tls-signing-secret"}
    assert {secret.name for secret in made if re.search(handed, secret.key)} == own


def test_a_certificate_that_ended_stops_a_deployment_and_no_look_at_what_is_deployed(
    supplied: dict[str, Any], deploy: Deploy
) -> None:
    Path("server.pem").write_text(
        ROOT.issue("server", names=(AUTHORITY,), uses=(SERVES,), begins=-2 * DAY, ends=-DAY, key=SERVER.key).pem
    )
    file = Path("Pulumi.x.yaml")
    opaque = {key: {"secure": "AAAB"} for key in secrets_of(supplied)}
    config = {f"gloo-mesh:{key}": value for key, value in (supplied | opaque).items()}
    file.write_text(yaml.safe_dump({"config": config}))

    with pytest.raises(pulumi.RunError, match=r"gloo-mesh:pki.server.certificate .* ended on"):
        deploy(supplied, secrets_of(supplied))
    settings = Settings.read(file)

    (told,) = trust.findings(settings, {}, set())
    assert "gloo-mesh:pki.server.certificate" in told.what
    assert "ended on" in told.what


def secrets_of(config: dict[str, Any]) -> tuple[str, ...]:
    return tuple(key for key in config if key == "licenseKey" or key.endswith(("Key", "Certificate")))


def faults(config: dict[str, Any]) -> list[str]:
    return conftest.faults(config, secrets_of(config))


def only_fault(config: dict[str, Any]) -> str:
    (fault,) = faults(config)
    return fault


class TestRefused:
    """Sentences before anything is created."""

    @pytest.mark.parametrize(
        ("pki", "key"),
        [
            ({"root": {"file": "root.pem"}}, "root"),
            ({"source": "existing", "profile": "compat"}, "profile"),
            ({"source": "existing", "root": {"file": "root.pem"}}, "root"),
        ],
    )
    def test_what_the_source_has_no_use_for(self, existing: dict[str, Any], pki: dict[str, Any], key: str) -> None:
        assert f"gloo-mesh:pki.{key} has no meaning with source" in only_fault(existing | {"pki": pki})

    def test_a_signing_authority_that_nobody_needs(self, per_worker: dict[str, Any]) -> None:
        per_worker["pki"]["signing"] = per_worker["pki"]["server"]

        assert (
            "gloo-mesh:pki.signing has no meaning with source supplied and clientCertificates perWorker"
            in "\n".join(faults(per_worker))
        )

    def test_a_client_certificate_where_the_relay_issues_them(self, supplied: dict[str, Any]) -> None:
        supplied["pki"]["clients"] = {"cluster-1": supplied["pki"]["signing"]}

        assert "gloo-mesh:pki.clients has no meaning with source supplied" in "\n".join(faults(supplied))

    @pytest.mark.parametrize("key", ["root", "server", "signing"])
    def test_a_missing_part(self, supplied: dict[str, Any], key: str) -> None:
        del supplied["pki"][key]
        for unused in {"server": ["serverKey"], "signing": ["signingCertificate", "signingKey"]}.get(key, []):
            del supplied[unused]

        assert f"gloo-mesh:pki.{key} is missing; with source supplied write one, such as" in only_fault(supplied)

    def test_a_worker_without_a_certificate_by_name(self, per_worker: dict[str, Any]) -> None:
        del per_worker["pki"]["clients"]["cluster-2"], per_worker["cluster-2Certificate"], per_worker["cluster-2Key"]

        assert "gloo-mesh:pki.clients.cluster-2 is missing" in only_fault(per_worker)

    def test_a_certificate_for_no_worker_by_name(self, per_worker: dict[str, Any]) -> None:
        del per_worker["workers"]["cluster-2"]

        assert "pki.clients.cluster-2 is for no worker of this fleet; the nearest is cluster-1" in only_fault(
            per_worker
        )

    def test_existing_secrets_in_a_namespace_that_isnt_there_yet(self, existing: dict[str, Any]) -> None:
        existing["management"] = {"context": "mgmt-cluster"}
        existing["pki"]["clientCertificates"] = "perWorker"

        told = "\n".join(faults(existing))

        for cluster in ("management", "workers.cluster-1", "workers.cluster-2"):
            assert f"set gloo-mesh:{cluster}.namespaces.create to false" in told

    def test_a_secret_key_that_is_missing_once(self, supplied: dict[str, Any]) -> None:
        supplied["serverKey"] = ""

        assert "gloo-mesh:serverKey is missing; write it with: pulumi config set --secret" in only_fault(supplied)

    def test_a_key_in_plaintext(self, supplied: dict[str, Any]) -> None:
        with pytest.raises(ConfigurationError) as refused:
            Settings.parse(supplied, ("licenseKey", "signingCertificate", "signingKey"))

        assert "gloo-mesh:serverKey is in plaintext" in refused.value.faults[0]
        assert SERVER.key_pem.splitlines()[1] not in str(refused.value)

    @pytest.mark.parametrize("path", ["nowhere.pem", ".", "\0", "~nobody-of-that-name/x"])
    def test_a_file_that_cant_be_read(self, supplied: dict[str, Any], path: str) -> None:
        supplied["pki"]["root"] = {"file": path}

        assert "write the path of a PEM" in (fault := only_fault(supplied))
        assert fault.startswith("gloo-mesh:pki.root is {file: ")

    def test_a_pem_by_its_key_in_the_configuration_with_all_other_faults(self, supplied: dict[str, Any]) -> None:
        supplied |= {"version": "newest", "signingKey": SERVER.key_pem, "namespace": "relay"}

        told = "\n".join(faults(supplied))

        assert 'gloo-mesh:version is "newest"' in told
        assert (
            "gloo-mesh:pki.signing.key ({secret: signingKey}) does not belong to gloo-mesh:pki.signing.certific" in told
        )
        assert (
            "gloo-mesh:pki.server.certificate ({file: server.pem}) is for enterprise-networking.gloo-mesh, not" in told
        )
        assert "the authority enterprise-networking.relay" in told

    @pytest.mark.parametrize("content", ["no key", "[1]", '{"a": 1}'])
    def test_nothing_is_registered(self, supplied: dict[str, Any], deploy: Deploy, content: str) -> None:
        supplied["serverKey"] = content

        with pytest.raises(pulumi.RunError, match="serverKey"):
            deploy(supplied, secrets_of(supplied))

    def test_only_files_are_checked_where_secrets_are_opaque(self, supplied: dict[str, Any]) -> None:
        opaque = {key: {"secure": "AAA"} for key in secrets_of(supplied)}
        Path("server.pem").write_text(SIGNING.pem)

        told = faults(supplied | opaque)

        assert len(told) == 3
        assert all("gloo-mesh:pki.server.certificate" in fault for fault in told)


class TestSupplied:
    """PEMs given in the configuration."""

    @pytest.fixture
    def stack(self, supplied: dict[str, Any], deploy: Deploy) -> Run:
        return deploy(supplied, secrets_of(supplied))

    def test_a_signing_key_reaches_management_alone_and_workers_get_root_and_token(self, stack: Run) -> None:
        root_secret = {"ca.crt": ROOT.pem}

        assert contents(stack, "management") == {
            product.RELAY_SERVER_SECRET: secret_of(SERVER),
            product.RELAY_SIGNING_SECRET: secret_of(SIGNING),
            product.RELAY_ROOT_SECRET: root_secret,
            product.RELAY_TOKEN_SECRET: {"token": "(value of relay-identity-token)"},
            product.RELAY_FORWARDING_TOKEN_SECRET: {"token": "(value of relay-forwarding-token)"},
        }
        for worker in WORKERS:
            assert contents(stack, worker) == {
                product.RELAY_ROOT_SECRET: root_secret,
                product.RELAY_TOKEN_SECRET: {"token": "(value of relay-identity-token)"},
            }

    def test_keys_travel_in_the_secret_envelope_and_nothing_is_generated(self, stack: Run) -> None:
        naked = json.dumps([value for r in stack.registered for value in r.inputs.values() if not is_secret(value)])

        assert "PRIVATE KEY" not in naked
        assert not [r.key for r in stack.registered if r.type.startswith("tls:")]

    def test_tokens_are_those_of_a_generated_trust(self, stack: Run, config: dict[str, Any], deploy: Deploy) -> None:
        def tokens(run: Run) -> set[tuple[str, str]]:
            return {(r.name, r.parent) for r in run.registered if r.type.startswith("random:")}

        assert tokens(stack) == tokens(deploy(config))

    def test_the_fleets_record_knows_fingerprints_and_ends_without_being_secret(self, stack: Run) -> None:
        data = stack.named("fleet-record").inputs["data"]

        assert not is_secret(data)
        assert json.loads(data["certificates"]) == {
            name: {
                "sha256": fingerprint(made.pem),
                "notAfter": made.certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
            for name, made in (("relay-root", ROOT), ("relay-server", SERVER), ("relay-signing", SIGNING))
        }

    def test_a_key_beside_its_certificate_restarts_nothing_but_a_new_certificate_does(
        self, stack: Run, supplied: dict[str, Any], deploy: Deploy
    ) -> None:
        Path("server.pem").write_text((made := ROOT.server()).pem)
        renewed = deploy(supplied | {"serverKey": made.key_pem}, secrets_of(supplied))

        assert values(renewed, "management-release") != values(stack, "management-release")
        assert values(renewed, "cluster-1-agent") == values(stack, "cluster-1-agent")

    def test_an_end_near_is_a_warning_in_a_deployment(
        self, supplied: dict[str, Any], deploy: Deploy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        warned: list[str] = []
        monkeypatch.setattr("pulumi.log.warn", warned.append)
        Path("server.pem").write_text(
            (made := ROOT.issue("server", names=("*.gloo-mesh",), ends=7 * DAY)).pem,
        )

        deploy(supplied | {"serverKey": made.key_pem}, secrets_of(supplied))

        assert [warning.partition(" ends on")[0] for warning in warned] == [
            "gloo-mesh:pki.server.certificate ({file: server.pem})"
        ]


class TestPerWorker:
    """A client certificate for each worker, and a relay that issues none."""

    def test_a_supplied_one_reaches_its_worker_alone(self, per_worker: dict[str, Any], deploy: Deploy) -> None:
        stack = deploy(per_worker, secrets_of(per_worker))

        for worker in WORKERS:
            assert contents(stack, worker) == {
                product.RELAY_ROOT_SECRET: {"ca.crt": ROOT.pem},
                product.RELAY_CLIENT_SECRET: secret_of(CLIENTS[worker]),
            }
            holders = {r.provider for r in stack.kubernetes if CLIENTS[worker].key_pem in json_text(r.inputs)}
            assert holders == {worker}

    def test_neither_token_nor_signing_authority_is_made(self, per_worker: dict[str, Any], deploy: Deploy) -> None:
        supplied = deploy(per_worker, secrets_of(per_worker))
        generated = deploy(without(per_worker) | {"pki": {"clientCertificates": "perWorker"}})

        for stack in (supplied, generated):
            assert contents(stack, "management").keys() == {
                product.RELAY_SERVER_SECRET,
                product.RELAY_ROOT_SECRET,
                product.RELAY_FORWARDING_TOKEN_SECRET,
            }
            assert values(stack, "management-release")["enterprise-networking"]["disableRelayCa"] is True
            assert not [
                r.key for r in stack.registered if "signing" in r.name or r.name.endswith("relay-identity-token")
            ]

    def test_a_generated_one_says_its_clusters_name_and_renews_by_itself(
        self, config: dict[str, Any], deploy: Deploy
    ) -> None:
        stack = deploy(config | {"pki": {"clientCertificates": "perWorker"}})

        for worker in WORKERS:
            made = stack.named(f"relay-client-{worker}-certificate").inputs
            assert stack.named(f"relay-client-{worker}-request").inputs["dnsNames"] == [worker]
            assert made["allowedUses"] == ["digital_signature", "key_encipherment", "client_auth"]
            assert (made["earlyRenewalHours"], made["isCaCertificate"]) == (30 * 24, False)
            assert contents(stack, worker)[product.RELAY_CLIENT_SECRET] == {
                "tls.key": f"(PEM of relay-client-{worker}-key)",
                "tls.crt": f"(PEM of relay-client-{worker}-certificate)",
                "ca.crt": "(PEM of relay-root-certificate)",
            }
            assert stack.named(f"{worker}-relay-client").key in stack.named(f"{worker}-agent").dependencies

    def test_a_renewed_one_restarts_its_own_agent_alone(self, per_worker: dict[str, Any], deploy: Deploy) -> None:
        before = deploy(per_worker, secrets_of(per_worker))
        made = ROOT.client("cluster-2")
        per_worker |= {"cluster-2Certificate": made.pem, "cluster-2Key": made.key_pem}

        after = deploy(per_worker, secrets_of(per_worker))

        assert values(after, "cluster-1-agent") == values(before, "cluster-1-agent")
        assert values(after, "cluster-2-agent") != values(before, "cluster-2-agent")

    def test_the_fleets_record_knows_them(self, per_worker: dict[str, Any], deploy: Deploy) -> None:
        record = deploy(per_worker, secrets_of(per_worker)).named("fleet-record").inputs["data"]

        assert json.loads(record["certificates"]).keys() == {
            "relay-root",
            "relay-server",
            "relay-client-cluster-1",
            "relay-client-cluster-2",
        }

    def test_a_middle_worker_comes_and_goes_alone(self, config: dict[str, Any], deploy: Deploy) -> None:
        config["pki"] = {"clientCertificates": "perWorker"}
        both = {r.key for r in deploy(config).registered}
        one = {r.key for r in deploy(config | {"workers": {"cluster-2": {}}}).registered}

        assert one < both
        assert all("cluster-1" in key for key in both - one)


class TestExisting:
    """Secrets that cert-manager or Vault made."""

    @pytest.fixture
    def stack(self, existing: dict[str, Any], deploy: Deploy) -> Run:
        return deploy(existing)

    def test_no_key_and_no_certificate_is_made_or_read(self, stack: Run) -> None:
        assert contents(stack, "management").keys() == {
            product.RELAY_TOKEN_SECRET,
            product.RELAY_FORWARDING_TOKEN_SECRET,
        }
        assert not [r.key for r in stack.registered if r.type.startswith("tls:")]
        assert {(r.provider, r.read) for r in stack.kubernetes if r.read} == {
            ("management", f"gloo-mesh/{product.RELAY_ROOT_SECRET}")
        }

    def test_the_root_reaches_workers_and_record(self, stack: Run) -> None:
        for worker in WORKERS:
            assert contents(stack, worker)[product.RELAY_ROOT_SECRET] == {"ca.crt": EXISTING_ROOT}
        data = stack.named("fleet-record").inputs["data"]
        assert not is_secret(data)
        assert json.loads(data["certificates"])["relay-root"]["sha256"] == fingerprint(EXISTING_ROOT)

    def test_a_workers_own_certificate_is_left_alone_too(self, existing: dict[str, Any], deploy: Deploy) -> None:
        existing["pki"]["clientCertificates"] = "perWorker"
        existing["defaults"] = {"namespaces": {"create": False}}

        stack = deploy(existing)

        for worker in WORKERS:
            assert contents(stack, worker).keys() == {product.RELAY_ROOT_SECRET}
        assert values(stack, "management-release")["enterprise-networking"]["disableRelayCa"] is True


def test_namespace_authority_dashboards_authority_and_names_move_together(
    config: dict[str, Any], deploy: Deploy
) -> None:
    management = {"context": "mgmt-cluster", "clusterDomain": "example.internal"}
    stack = deploy(config | {"namespace": "relay", "management": management, "pki": {"profile": "compat"}})
    authority = "enterprise-networking.relay"

    assert stack.named("relay-server-request").inputs["dnsNames"] == [
        authority,
        f"{authority}.svc",
        f"{authority}.svc.example.internal",
        "*.relay",
    ]
    assert values(stack, "cluster-1-agent")["relay"]["authority"] == authority
    assert values(stack, "cluster-1-agent")["settingsRef"]["namespace"] == "relay"
    release = values(stack, "management-release")
    assert release["gloo-mesh-ui"]["relayClientAuthority"] == authority
    assert release["enterprise-networking"]["glooMeshOperatorArgs"]["settingsRef"]["namespace"] == "relay"
    assert {r.inputs["metadata"]["namespace"] for r in stack.of_type("v1:Secret") if not r.read} == {"relay"}


def test_the_page_on_ones_own_pki_shows_configurations_that_fit() -> None:
    page = (PROJECT_FOLDER / "docs/own-pki.md").read_text()
    blocks = [textwrap.dedent(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    shown = [PkiSettings.model_validate(yaml.safe_load(b)["gloo-mesh:pki"]) for b in blocks if "gloo-mesh:pki" in b]

    assert {(pki.source, pki.client_certificates) for pki in shown} >= {
        ("supplied", "relay"),
        ("supplied", "perWorker"),
        ("existing", "relay"),
        ("generated", "perWorker"),
    }
    assert [fault for pki in shown for fault in pki.contradictions(set(pki.clients), [])] == []


def contents(stack: Run, cluster: str) -> dict[str, dict[str, str]]:
    """The Secrets of a cluster and what is in them."""
    return {
        r.inputs["metadata"]["name"]: unwrapped(r.inputs["stringData"])
        for r in stack.of_type("v1:Secret")
        if r.provider == cluster and not r.read
    }


def secret_of(made: Made) -> dict[str, str]:
    return {"tls.key": made.key_pem, "tls.crt": made.pem, "ca.crt": ROOT.pem}


def values(stack: Run, release: str) -> dict[str, Any]:
    return unwrapped(stack.named(release).inputs["values"])


def without(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration without what belongs to a supplied trust."""
    return {key: value for key, value in config.items() if key == "licenseKey" or key not in secrets_of(config)}


def json_text(value: object) -> str:
    return json.dumps(value).replace("\\n", "\n")
