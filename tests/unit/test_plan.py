"""The plan: what the program makes of a stack's file, without engine, cluster or decrypting."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from components.values_digest import MASKED
from operations import plan as planning
from operations.plan import LATER, Plan, Planned, compared, direct, plan
from operations.stack import Stack, UsageError
from operations.verbs.plan import diagram
from tests import authority
from tests.unit.test_command_line import operations

CIPHER = "v1:cipher-canary:0815"


def written(config: dict[str, Any], folder: Path) -> Stack:
    """The stack's file, as Pulumi's CLI leaves it: secrets encrypted."""
    file = folder / "Pulumi.test.yaml"
    file.write_text(yaml.safe_dump({"config": {f"gloo-mesh:{key}": value for key, value in config.items()}}))
    return Stack("test", file, {})


@pytest.fixture
def encrypted(config: dict[str, Any]) -> dict[str, Any]:
    """The seeds' fleet with its licence encrypted; change it before `written`."""
    return config | {"licenseKey": {"secure": CIPHER}}


@pytest.fixture
def made(encrypted: dict[str, Any], tmp_path: Path) -> Plan:
    return plan(written(encrypted, tmp_path))


def named(made: Plan, cluster: str, name: str) -> Planned:
    (found,) = [resource for resource in made.clusters[cluster] if resource.name == name]
    return found


def test_a_certificate_that_is_encrypted_needs_the_cli_and_says_so(
    encrypted: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = {"certificate": {"secret": "certificate"}, "key": {"secret": "key"}}
    encrypted["pki"] = {"source": "supplied", "root": {"secret": "root"}, "server": pair, "signing": pair}
    encrypted |= {key: {"secure": CIPHER} for key in ("certificate", "key", "root")}
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(UsageError, match=r"To decrypt gloo-mesh:certificate: .*`pulumi`, is not on PATH"):
        plan(written(encrypted, tmp_path))


def test_encrypted_keys_of_certificates_in_files_need_no_cli(
    encrypted: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = authority.root()
    for name, certificate in {"root": root, "server": root.server(), "signing": root.signing()}.items():
        (tmp_path / f"{name}.pem").write_text(certificate.pem)
    pairs = {
        name: {"certificate": {"file": str(tmp_path / f"{name}.pem")}, "key": {"secret": f"{name}Key"}}
        for name in ("server", "signing")
    }
    encrypted["pki"] = {"source": "supplied", "root": {"file": str(tmp_path / "root.pem")}, **pairs}
    encrypted |= {key: {"secure": CIPHER} for key in ("serverKey", "signingKey", "access")}
    encrypted["kubeconfig"] = {"secret": "access"}
    monkeypatch.setenv("PATH", str(tmp_path))

    made = plan(written(encrypted, tmp_path))

    server = named(made, "management", "management-relay-server-tls-secret")
    assert server.inputs["stringData"] == dict.fromkeys(("tls.key", "tls.crt", "ca.crt"), MASKED)
    assert CIPHER not in json.dumps(made.report())


def test_secrets_are_masked_and_what_only_a_deployment_knows_is_named(made: Plan) -> None:
    release = named(made, "management", "management-release").inputs
    agent = named(made, "cluster-1", "cluster-1-agent").inputs

    assert release["values"]["licenseKey"] == MASKED
    assert release["namespace"] == "gloo-mesh"
    assert agent["values"]["relay"] == {
        "authority": "enterprise-networking.gloo-mesh",
        "cluster": "cluster-1",
        "serverAddress": LATER,
    }
    assert named(made, "certificates", "relay-server-certificate").inputs["caPrivateKeyPem"] == MASKED
    assert named(made, "certificates", "relay-server-certificate").inputs["validityPeriodHours"] == 8760
    assert CIPHER not in json.dumps(made.report())


def test_a_secret_in_passed_values_is_masked_wherever_it_lies(encrypted: dict[str, Any], tmp_path: Path) -> None:
    encrypted["values"] = {"agent": {"extra": {"namespace": {"secret": "own"}, "list": [{"secret": "own"}, "plain"]}}}
    encrypted["own"] = {"secure": CIPHER}

    made = plan(written(encrypted, tmp_path))

    extra = named(made, "cluster-1", "cluster-1-agent").inputs["values"]["extra"]
    assert extra["namespace"] == MASKED
    assert extra["list"][0] == MASKED
    assert CIPHER not in json.dumps(made.report())


def test_a_plan_is_the_same_on_every_run(made: Plan, encrypted: dict[str, Any], tmp_path: Path) -> None:
    assert plan(written(encrypted, tmp_path)) == made


def test_whatever_waits_comes_after_what_it_waits_for(made: Plan) -> None:
    steps = {resource.key: resource.step for resources in made.clusters.values() for resource in resources}

    assert list(made.clusters) == ["certificates", "management", "cluster-1", "cluster-2"]
    for resources in made.clusters.values():
        assert [resource.step for resource in resources] == sorted(resource.step for resource in resources)
        for resource in resources:
            assert all(steps[key] < resource.step for key in resource.after), resource
    registration = named(made, "management", "cluster-1-registration")
    assert registration.step > named(made, "cluster-1", "cluster-1-agent").step


def test_a_difference_names_what_was_added_and_where_something_changed(
    made: Plan, encrypted: dict[str, Any], tmp_path: Path
) -> None:
    before = json.loads(json.dumps(made.report()))
    encrypted["workers"] = {"cluster-1": {"resources": {"limits": {"cpu": "1"}}}, "cluster-3": {}}

    found = compared(before, plan(written(encrypted, tmp_path)).report())

    assert "cluster-3 Release cluster-3-agent" in found["added"]
    assert "cluster-2 Release cluster-2-agent" in found["removed"]
    assert found["changed"]["cluster-1 Release cluster-1-agent"] == {
        "inputs.values.enterpriseAgent.resources": {"before": None, "after": {"limits": {"cpu": "1"}}}
    }
    assert not [key for key in found["changed"] if key.startswith("cluster-1") and "agent" not in key]


def test_what_the_program_refuses_is_a_sentence(
    encrypted: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> str:
        raise pulumi.RunError("the link can't be made")

    monkeypatch.setattr("components.settings.kubeconfig.given", refuse)

    with pytest.raises(UsageError, match="the link can't be made"):
        plan(written(encrypted, tmp_path))


def test_what_only_moves_in_the_order_differs_in_nothing(made: Plan) -> None:
    later = copy.deepcopy(made.report())
    for resource in later["clusters"]["cluster-1"]:
        resource["step"] += 1

    assert compared(made.report(), later) == {"added": [], "removed": [], "changed": {}}


def test_arrows_leave_out_what_follows_from_others() -> None:
    def resource(name: str, *after: str) -> Planned:
        return Planned("t", name, 1, [f"t::{other}" for other in after], False, "", {})

    arrows = list(direct([resource("a"), resource("b", "a"), resource("c", "a", "b"), resource("d", "c", "gone")]))

    assert arrows == [("t::a", "t::b"), ("t::b", "t::c"), ("t::c", "t::d"), ("t::gone", "t::d")]


def test_the_diagram_has_a_box_for_each_cluster_and_an_end_for_each_arrow(made: Plan) -> None:
    lines = list(diagram(made))
    nodes = {match[1]: match[2] for line in lines if (match := re.fullmatch(r'    (n\d+)\["(.+)"\]', line))}
    arrows = [match.groups() for line in lines if (match := re.fullmatch(r"  (n\d+) --> (n\d+)", line))]

    assert lines[0] == "flowchart LR"
    assert sum(line.startswith("  subgraph") for line in lines) == sum(line == "  end" for line in lines) == 4
    assert len(nodes) == sum(map(len, made.clusters.values()))
    assert {end for arrow in arrows for end in arrow} <= nodes.keys()
    told = {(nodes[a], nodes[b]) for a, b in arrows}
    assert ("Release<br/>gloo-mesh-enterprise", "ServicePatch<br/>enterprise-networking") in told
    assert ("Namespace<br/>gloo-mesh", "Release<br/>gloo-mesh-enterprise") not in told


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"clusters": {"a": [{}]}}', '{"clusters": 1}'])
def test_a_file_that_is_no_plan_is_a_sentence(content: str, tmp_path: Path) -> None:
    file = tmp_path / "old.json"
    file.write_text(content)

    done = operations(tmp_path, "plan", "--stack", "prod", "--against", str(file))

    assert done.returncode == 2
    assert "old.json is no plan; make one with" in done.stderr


def test_the_command_shows_a_tree_and_its_exit_code_says_whether_something_differs(
    encrypted: dict[str, Any], tmp_path: Path
) -> None:
    encrypted["charts"] = str(tmp_path / "charts")
    written(encrypted, tmp_path)
    shown = operations(tmp_path, "plan", "--stack", "test")
    file = tmp_path / "plan.json"
    file.write_text(operations(tmp_path, "plan", "--stack", "test", "--json").stdout)
    written(encrypted | {"version": "1.2.9", "relay": {"readyWithin": "9m"}}, tmp_path)
    differing = operations(tmp_path, "plan", "--stack", "test", "--against", str(file))

    assert shown.returncode == 0, shown.stderr
    assert "networkingAdminAddress: enterprise-networking-admin.gloo-mesh.svc.cluster.local:11100" in shown.stdout
    assert "1. PrivateKey relay-root-key (protected)" in shown.stdout
    assert CIPHER not in shown.stdout + file.read_text()
    assert differing.returncode == 1
    assert "changed management Release management-release\n  inputs.timeout: 300 -> 540\n" in differing.stdout
    assert planning.LATER in shown.stdout
