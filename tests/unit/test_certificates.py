"""What ends when: certificates and the licence, on clusters that answer from a dictionary."""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from components.settings import Settings, pem
from lab.plugins import REPOSITORY
from operations import certificates, licence
from operations.api import Refused, Unanswered
from operations.certificates import Certificate, Expiry
from operations.stack import UsageError
from operations.verbs.certificates import _table, metrics
from tests.authority import DAY, Made, root

ROOT = root()
SERVER, SIGNING = ROOT.server(), ROOT.signing()
SECRETS = "/api/v1/namespaces/gloo-mesh/secrets/"
RECORD = "/api/v1/namespaces/gloo-mesh/configmaps/gloo-mesh-fleet"
LICENCE = SECRETS + "gloo-mesh-enterprise-license"
SERVER_SECRET, ROOT_SECRET = SECRETS + "relay-server-tls-secret", SECRETS + "relay-root-tls-secret"
CLIENT_SECRET = SECRETS + "relay-client-tls-secret"
Objects = dict[str, dict[str, Any]]


def token(**payload: object) -> str:
    """A licence in the vendor's form."""
    parts = [json.dumps(part).encode() for part in ({"alg": "RS256"}, payload)] + [b"signature-canary"]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def secret(**content: str) -> dict[str, Any]:
    return {"data": {key.replace("_", "."): base64.b64encode(text.encode()).decode() for key, text in content.items()}}


def known(made: Made) -> dict[str, str]:
    end = made.certificate.not_valid_after_utc
    return {"sha256": hashlib.sha256(made.pem.encode()).hexdigest(), "notAfter": pem.rfc3339(end)}


@pytest.fixture
def fleet() -> Objects:
    """A deployed fleet, by cluster and path; change it before `look`."""
    record = {"relay-root": known(ROOT), "relay-server": known(SERVER), "relay-signing": known(SIGNING)}
    data = {"project": "gloo-mesh", "stack": "test", "version": "1.2.9"}
    data |= {key: json.dumps({}) for key in ("versions", "charts", "values")}
    data["clusters"] = json.dumps(dict.fromkeys(("management", "cluster-1", "cluster-2"), "uid"))
    data["certificates"] = json.dumps(record)
    pair = {"tls_key": SERVER.key_pem, "ca_crt": ROOT.pem}
    management = {
        RECORD: {"data": data},
        SERVER_SECRET: secret(tls_crt=SERVER.pem, **pair),
        SECRETS + "relay-tls-signing-secret": secret(tls_crt=SIGNING.pem, **pair),
        ROOT_SECRET: secret(ca_crt=ROOT.pem),
        LICENCE: secret(key=token(exp=(datetime.now(UTC) + 90 * DAY).timestamp())),
    }
    worker = {ROOT_SECRET: secret(ca_crt=ROOT.pem)}
    return {"management": management, "cluster-1": dict(worker), "cluster-2": dict(worker)}


@pytest.fixture
def look(
    fleet: Objects, config: dict[str, Any], answering: Callable[[Mapping[str, Any]], None]
) -> Callable[..., Expiry]:
    """Look at it, `unseen` clusters aside, with changes to the configuration."""

    def look(unseen: dict[str, Exception] | None = None, **changes: object) -> Expiry:
        answering(fleet | (unseen or {}))
        return certificates.look("test", Settings.parse(config | changes, {"licenseKey"}))

    return look


def codes(found: Expiry) -> list[tuple[str, str]]:
    return [(finding.kind.code, finding.where) for finding in found.findings]


def one(found: Expiry, name: str, cluster: str) -> Certificate:
    (certificate,) = [c for c in found.certificates if (c.name, c.cluster) == (name, cluster)]
    return certificate


def test_nothing_deployed_can_not_be_looked_at(fleet: Objects, look: Callable[..., Expiry]) -> None:
    fleet["management"].clear()

    with pytest.raises(UsageError, match=r"Nothing of test is deployed yet.*operations up --stack test"):
        look()


def test_a_sound_fleet_has_no_findings_and_every_certificate_by_urgency(look: Callable[..., Expiry]) -> None:
    found = look()

    assert codes(found) == []
    assert [(c.name, c.cluster) for c in found.certificates] == [
        ("relay-server", "management"),
        ("relay-signing", "management"),
        ("relay-root", "management"),
        ("relay-root", "cluster-1"),
        ("relay-root", "cluster-2"),
    ]
    assert all(c.live and c.recorded for c in found.certificates)
    assert {c.name: c.renewal for c in found.certificates} == {
        "relay-server": "up",
        "relay-signing": "up",
        "relay-root": "rotation",
    }
    server = one(found, "relay-server", "management")
    assert server.report(found.at)["daysLeft"] == 364
    assert server.end - server.opens == 30 * DAY
    assert found.licence
    assert found.licence.report(found.at)["daysLeft"] == 89


def test_another_stacks_fleet_is_told_by_that_stacks_name(fleet: Objects, look: Callable[..., Expiry]) -> None:
    fleet["management"][RECORD]["data"]["stack"] = "older"

    found = look()

    assert codes(found) == [("another-fleet", "management")]
    assert "python -m operations certificates --stack older" in found.findings[0].remedy
    assert found.certificates


def test_an_ended_certificate_is_told_with_what_renews_it(fleet: Objects, look: Callable[..., Expiry]) -> None:
    fleet["management"][SERVER_SECRET] = secret(tls_crt=ROOT.issue("s", begins=-40 * DAY, ends=-DAY).pem)

    (finding,) = look().findings

    assert finding.kind.code == "certificate-expired"
    assert "relay-server in Secret relay-server-tls-secret ended on" in finding.what
    assert finding.remedy.startswith("python -m operations up --stack test")


def test_a_certificate_that_an_up_should_have_renewed_is_due(fleet: Objects, look: Callable[..., Expiry]) -> None:
    fleet["management"][SERVER_SECRET] = secret(tls_crt=ROOT.issue("s", begins=-340 * DAY, ends=25 * DAY + DAY / 2).pem)

    found = look()

    assert codes(found) == [("certificate-due", "management")]
    assert "in 25 days" in found.findings[0].what
    assert one(found, "relay-server", "management").recorded is False


@pytest.mark.parametrize(("left", "due"), [(timedelta(hours=9), False), (timedelta(hours=3), True)])
def test_a_short_lived_certificate_is_due_in_the_last_sixth_of_its_life(
    left: timedelta, due: bool, fleet: Objects, look: Callable[..., Expiry]
) -> None:
    made = ROOT.issue("s", begins=left - DAY, ends=left)
    fleet["management"][SERVER_SECRET] = secret(tls_crt=made.pem)

    assert codes(look()) == [("certificate-due", "management")] * due


def test_a_root_is_due_in_its_last_half_year_because_a_new_one_is_planned(
    fleet: Objects, look: Callable[..., Expiry]
) -> None:
    fleet["management"][ROOT_SECRET] = secret(ca_crt=ROOT.issue("old", ca=True, begins=-3500 * DAY, ends=150 * DAY).pem)

    found = look()

    assert codes(found) == [("certificate-due", "management")]
    assert (
        found.findings[0].remedy
        == "plan a new root, as docs/own-pki.md says: python -m operations up --stack test --renew relay-root"
    )


def test_a_certificate_ends_with_the_intermediate_below_it(fleet: Objects, look: Callable[..., Expiry]) -> None:
    middle = ROOT.issue("middle", ca=True, begins=-10 * DAY, ends=-DAY)
    fleet["management"][SERVER_SECRET] = secret(tls_crt=middle.server().pem + middle.pem)

    assert codes(look()) == [("certificate-expired", "management")]


def test_what_the_relay_issued_is_renewed_by_the_relay(fleet: Objects, look: Callable[..., Expiry]) -> None:
    fleet["cluster-1"][CLIENT_SECRET] = secret(tls_crt=SIGNING.issue("c", begins=-30 * DAY, ends=-DAY).pem)

    (finding,) = look().findings

    assert (finding.kind.code, finding.where) == ("certificate-expired", "cluster-1")
    assert "delete secret relay-client-tls-secret" in finding.remedy
    assert "rollout restart deployment enterprise-agent" in finding.remedy


def test_what_somebody_else_makes_is_renewed_by_them(fleet: Objects, look: Callable[..., Expiry]) -> None:
    data = fleet["management"][RECORD]["data"]
    data["certificates"] = json.dumps({"relay-root": known(ROOT)})
    management = {"context": "mgmt-cluster", "namespaces": {"create": False}}

    found = look(pki={"source": "existing"}, management=management)

    assert codes(found) == []
    assert {c.renewal for c in found.certificates} == {"issuer"}
    assert one(found, "relay-server", "management").recorded is None
    del fleet["management"][SERVER_SECRET]
    again = look(pki={"source": "existing"}, management=management)
    assert codes(again) == [("certificate-unreadable", "management")]
    assert "get secret relay-server-tls-secret" in again.findings[0].remedy


def test_a_secret_that_is_gone_or_holds_no_certificate_is_told(fleet: Objects, look: Callable[..., Expiry]) -> None:
    del fleet["management"][SERVER_SECRET]
    fleet["cluster-1"][ROOT_SECRET] = secret(ca_crt="canary, no certificate")

    found = look()

    assert codes(found) == [("certificate-unreadable", "management"), ("certificate-unreadable", "cluster-1")]
    assert "tls.crt of Secret relay-server-tls-secret in namespace gloo-mesh is not there" in found.findings[0].what
    assert "canary" not in str(found)


def test_a_silent_cluster_is_a_finding_and_its_rows_are_the_records(look: Callable[..., Expiry]) -> None:
    found = look({"cluster-2": Unanswered("connection refused")})

    assert codes(found) == [("expiry-unseen", "cluster-2")]
    assert "connection refused" in found.findings[0].what
    remembered = one(found, "relay-root", "cluster-2")
    assert not remembered.live
    assert remembered.end == ROOT.certificate.not_valid_after_utc
    assert found.answered == {"management": True, "cluster-1": True, "cluster-2": False}


def test_without_the_management_cluster_the_workers_are_shown(look: Callable[..., Expiry]) -> None:
    found = look({"management": Refused(403, "Forbidden", "secrets is forbidden")})

    assert codes(found) == [("expiry-unseen", "management")]
    assert [(c.name, c.cluster, c.recorded) for c in found.certificates] == [
        ("relay-root", "cluster-1", None),
        ("relay-root", "cluster-2", None),
    ]
    assert found.licence is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain-key",
        "a.b.c",
        "a.e30.c",
        token(sub="x"),
        token(exp="soon"),
        token(exp=10**30),
        token(exp=None),
        "é.é.é",
    ],
)
def test_a_licence_without_a_date_is_no_finding(text: str, fleet: Objects, look: Callable[..., Expiry]) -> None:
    assert licence.end(text) is None
    if text:
        fleet["management"][LICENCE] = secret(key=text)
        assert codes(look()) == []


@pytest.mark.parametrize(("left", "code"), [(-DAY, "licence-expired"), (20 * DAY, "licence-due")])
def test_a_licence_that_ends_is_told_and_never_shown(
    left: timedelta, code: str, fleet: Objects, look: Callable[..., Expiry]
) -> None:
    text = token(exp=(datetime.now(UTC) + left).timestamp(), sub="customer-canary")
    fleet["management"][LICENCE] = secret(key=text + "\n")

    found = look()

    assert codes(found) == [(code, "management")]
    assert not [part for part in (*text.split("."), "customer-canary") if part in str(found)]


def test_a_licence_that_is_gone_is_told(fleet: Objects, look: Callable[..., Expiry]) -> None:
    del fleet["management"][LICENCE]

    found = look()

    assert codes(found) == [("licence-unreadable", "management")]
    assert " history gloo-mesh-enterprise; then" in found.findings[0].remedy


def test_the_table_tells_what_differs_from_the_record_and_what_is_only_remembered(
    fleet: Objects, look: Callable[..., Expiry]
) -> None:
    fleet["cluster-1"][ROOT_SECRET] = secret(ca_crt=root("other").pem)
    fleet["management"][LICENCE] = secret(key="plain")

    notes = list(_table(look({"cluster-2": Unanswered("down")})).columns[-1].cells)

    assert "not the one in the fleet's record" in notes
    assert "by the record; its cluster doesn't answer" in notes
    assert "no date in it" in notes


def test_the_rule_asks_for_metrics_and_labels_that_are_printed(look: Callable[..., Expiry]) -> None:
    rule = yaml.safe_load((REPOSITORY / "docs/certificates-rule.yaml").read_text())
    rules = [rule for group in rule["spec"]["groups"] for rule in group["rules"]]
    asked = {name for rule in rules for name in re.findall(r"gloo_mesh_\w+", rule["expr"])}
    printed: dict[str, set[str]] = {}
    for line in metrics("test", look()):
        if not line.startswith("#"):
            found = re.fullmatch(r'(\w+)\{((?:\w+="[\w-]+",?)+)\} \d+', line)
            assert found, line
            printed[found[1]] = set(re.findall(r'(\w+)="', found[2]))

    assert (rule["apiVersion"], rule["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert asked == printed.keys()
    for rule in rules:
        names = re.findall(r"gloo_mesh_\w+", rule["expr"])
        shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        assert shown <= set().union(*(printed[name] for name in names)) | ({"file"} if not names else set()), rule


def test_metrics_are_seconds_and_say_which_clusters_answer(look: Callable[..., Expiry]) -> None:
    found = look({"cluster-2": Unanswered("down")})
    lines = list(metrics("test", found))

    end = int(SERVER.certificate.not_valid_after_utc.timestamp())
    labels = 'stack="test",cluster="management",certificate="relay-server"'
    assert f"gloo_mesh_certificate_not_after_seconds{{{labels}}} {end}" in lines
    assert 'gloo_mesh_cluster_answered{stack="test",cluster="cluster-2"} 0' in lines
    assert "# TYPE gloo_mesh_licence_not_after_seconds gauge" in lines
