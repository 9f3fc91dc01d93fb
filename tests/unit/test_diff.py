"""What a version change is compared by: CRD schemas, Helm's merge, the program's values."""

import copy
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import product
from components.settings import Settings
from operations import crds, program
from operations import diff as differences
from operations.api import Unanswered
from operations.diff import Change, ClusterDiff
from operations.objects import differing, merged
from operations.releases import Deployed, HelmError, by_key, deployed
from operations.rendering import Wanted, _filled, helm_command, rendered, wanted
from operations.stack import UsageError
from operations.verbs.diff import _print_diff
from tests import authority
from tests.unit.conftest import LICENSE
from tests.unit.stored import record
from tests.unit.test_command_line import operations

CRD: dict[str, Any] = {
    "spec": {
        "versions": [
            {
                "name": "v1",
                "served": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {
                                    "mode": {"type": "string", "enum": ["A", "B"]},
                                    "ports": {"type": "array", "items": {"type": "object", "properties": {}}},
                                },
                            }
                        },
                    }
                },
            }
        ]
    },
    "status": {"storedVersions": ["v1"]},
}


def spec(crd: dict[str, Any]) -> dict[str, Any]:
    return crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]


def other() -> dict[str, Any]:
    return copy.deepcopy(CRD)


def test_a_removed_field_is_risky_and_an_added_one_is_not() -> None:
    new = other()
    del spec(new)["properties"]["ports"]
    spec(new)["properties"]["weight"] = {"type": "integer"}

    harmless, risky = crds.changes(CRD, new)

    assert harmless == ["+ v1 spec.weight: integer"]
    assert risky == ["- v1 spec.ports: array", "- v1 spec.ports[]: object"]


def test_a_field_of_another_type_is_risky() -> None:
    new = other()
    spec(new)["properties"]["mode"] = {"type": "integer"}

    assert "- v1 spec.mode: string" in crds.changes(CRD, new)[1]


def test_a_value_that_is_no_longer_allowed_is_risky() -> None:
    new = other()
    spec(new)["properties"]["mode"]["enum"] = ["B", "C"]

    assert crds.changes(CRD, new) == (["+ v1 spec.mode: may be C"], ["- v1 spec.mode: may be A"])


@pytest.mark.parametrize(
    ("word", "said", "shown"),
    [
        ("pattern", "^a$", 'pattern "^a$"'),
        ("maximum", 3, "maximum 3"),
        ("oneOf", [{"required": ["a"]}], 'oneOf [{"required": ["a"]}]'),
        ("x-kubernetes-validations", [{"rule": "self.a" * 20}], "x-kubernetes-validations (long)"),
    ],
)
def test_a_new_restriction_of_a_field_is_risky_and_one_that_goes_is_not(word: str, said: Any, shown: str) -> None:
    new = other()
    spec(new)["properties"]["ports"][word] = said
    spec(new)["properties"]["extra"] = {"type": "string", word: said}

    harmless, risky = crds.changes(CRD, new)

    assert sorted(harmless) == sorted(["+ v1 spec.extra: " + shown, "+ v1 spec.extra: string"])
    assert risky == ["+ v1 spec.ports: " + shown]
    assert "- v1 spec.ports: " + shown in crds.changes(new, CRD)[0]


def test_values_for_a_field_that_was_free_are_a_restriction() -> None:
    new = other()
    spec(new)["properties"]["ports"]["items"]["enum"] = ["a"]

    assert crds.changes(CRD, new)[1] == ["+ v1 spec.ports[]: these values alone"]


def test_a_field_that_no_longer_keeps_what_it_doesnt_know_is_risky() -> None:
    old = other()
    spec(old)["x-kubernetes-preserve-unknown-fields"] = True

    assert crds.changes(old, CRD) == ([], ["- v1 spec: x-kubernetes-preserve-unknown-fields true"])
    assert crds.changes(CRD, old) == (["+ v1 spec: x-kubernetes-preserve-unknown-fields true"], [])


def test_a_restriction_of_what_was_kept_unknown_is_risky() -> None:
    old, new = other(), other()
    spec(old)["x-kubernetes-preserve-unknown-fields"] = spec(new)["x-kubernetes-preserve-unknown-fields"] = True
    spec(new)["properties"]["extra"] = {"type": "integer", "maximum": 3}

    assert crds.changes(old, new)[1] == ["+ v1 spec.extra: maximum 3"]


def test_a_field_that_becomes_free_is_harmless() -> None:
    new = other()
    del spec(new)["properties"]["mode"]["enum"]
    spec(new)["properties"]["mode"]["nullable"] = False

    assert crds.changes(CRD, new) == (["- v1 spec.mode: these values alone"], [])


def test_another_description_changes_nothing() -> None:
    new = other()
    spec(new)["description"] = "better"

    assert crds.changes(CRD, new) == ([], [])


def test_a_new_demand_is_risky_unless_it_lies_in_a_new_field() -> None:
    new = other()
    spec(new)["required"] = ["mode"]
    spec(new)["properties"]["extra"] = {"type": "object", "required": ["x"], "properties": {"x": {"type": "string"}}}

    harmless, risky = crds.changes(CRD, new)

    assert risky == ["+ v1 spec.mode: required"]
    assert "+ v1 spec.extra.x: required" in harmless


def test_a_version_that_goes_is_risky_and_a_stored_one_says_what_to_do() -> None:
    new = other()
    new["spec"]["versions"][0]["name"] = "v2"

    harmless, risky = crds.changes(CRD, new)

    assert harmless == ["+ version v2"]
    assert risky[0] == "- version v1"
    assert "objects may be stored as v1" in risky[1]
    assert "status.storedVersions" in risky[1]


def test_a_version_that_is_no_longer_served_is_risky() -> None:
    new = other()
    new["spec"]["versions"][0]["served"] = False

    assert crds.changes(CRD, new) == ([], ["- version v1 is no longer served"])


def test_the_same_crd_has_no_changes() -> None:
    assert crds.changes(CRD, other()) == ([], [])


OLD = {"spec": {"replicas": 1, "gone": "x", "containers": [{"name": "a", "image": "1"}, {"name": "gone"}]}}
NEW = {"spec": {"replicas": 1, "containers": [{"name": "a", "image": "2"}], "ports": [1, 2]}}
LIVE = {
    "metadata": {"uid": "u"},
    "spec": {
        "replicas": 3,
        "gone": "x",
        "clusterIP": "10.0.0.1",
        "containers": [{"name": "a", "image": "1", "pullPolicy": "Always"}, {"name": "gone"}, {"name": "injected"}],
    },
}


def test_an_upgrade_takes_away_what_only_the_old_manifest_has_and_leaves_what_neither_has() -> None:
    assert merged(OLD, NEW, LIVE) == {
        "metadata": {"uid": "u"},
        "spec": {
            "replicas": 1,
            "clusterIP": "10.0.0.1",
            "containers": [{"name": "a", "image": "2", "pullPolicy": "Always"}, {"name": "injected"}],
            "ports": [1, 2],
        },
    }


@pytest.mark.parametrize("metadata", [{}, {"annotations": None, "labels": None}], ids=["left out", "null"])
def test_an_upgrade_to_a_manifest_without_annotations_leaves_helms_own(metadata: dict[str, Any]) -> None:
    key = ("", "Service", "gloo-mesh", "s")
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}}
    ours = service | {"metadata": {"name": "s", "annotations": {"ours": "x"}, "labels": {"ours": "x"}}}
    made = {"annotations": {"meta.helm.sh/release-name": "r"}, "labels": {"app.kubernetes.io/managed-by": "Helm"}}
    live = {"metadata": {"annotations": {"ours": "x"} | made["annotations"], "labels": {"ours": "x"} | made["labels"]}}
    theirs = service | {"metadata": {"name": "s"} | metadata}
    old, new = (by_key(yaml.safe_dump(manifest), "gloo-mesh")[key] for manifest in (ours, theirs))

    assert merged(old, new, live)["metadata"] == {"name": "s"} | made


def test_a_null_in_the_new_manifest_takes_the_field_away() -> None:
    assert merged({}, {"a": None, "b": 1}, {"a": 1, "c": 2}) == {"b": 1, "c": 2}


def test_differences_are_paths_with_list_items_by_name_and_never_values() -> None:
    assert list(differing(LIVE, merged(OLD, NEW, LIVE))) == [
        "spec.containers[a].image",
        "spec.containers[gone]",
        "spec.gone",
        "spec.ports",
        "spec.replicas",
    ]


@pytest.fixture
def stack_file(config: dict[str, Any], tmp_path: Path) -> Path:
    """The configuration as a stack's file, its licence encrypted."""
    keys = {f"gloo-mesh:{key}": value for key, value in config.items()} | {"gloo-mesh:licenseKey": {"secure": "v1:x:y"}}
    file = tmp_path / "Pulumi.test.yaml"
    file.write_text(yaml.safe_dump({"config": keys}))
    return file


def releases(config: dict[str, Any]) -> dict[tuple[str, str], Wanted]:
    config = config | {"licenseKey": {"secure": "v1:x:y"}}
    secret = {key for key in config if key.endswith(("Key", "Certificate"))}
    return {(release.cluster, release.name): release for release in wanted("test", config, secret)}


def test_every_release_is_known_without_an_engine_or_a_secret(config: dict[str, Any]) -> None:
    found = releases(config)

    assert {cluster for cluster, _ in found} == {"management", "cluster-1", "cluster-2"}
    assert len(found) == 8
    agent = found["cluster-1", "enterprise-agent"]
    assert (agent.namespace, agent.version) == ("gloo-mesh", "1.2.9")
    assert agent.chart == "./charts/enterprise-agent-1.2.9.tgz"


def test_what_only_a_deployment_knows_is_opaque_and_what_is_configured_is_not(config: dict[str, Any]) -> None:
    found = releases(config)
    management = found["management", "gloo-mesh-enterprise"].values
    agent = found["cluster-1", "enterprise-agent"].values

    assert program.is_secret(management["licenseKey"])
    assert program.is_secret(agent["relay"]["serverAddress"])
    assert management["enterprise-networking"]["selfSigned"] is False
    assert agent["relay"]["cluster"] == "cluster-1"


def test_what_pods_read_as_they_start_counts_as_deployed_whoever_made_it(config: dict[str, Any]) -> None:
    root = authority.root()
    pair = root.server()
    Path("root.pem").write_text(root.pem)
    supplied = {
        "source": "supplied",
        "root": {"file": "root.pem"},
        "server": {"certificate": {"secret": "serverCertificate"}, "key": {"secret": "serverKey"}},
        "signing": {"certificate": {"secret": "signingCertificate"}, "key": {"secret": "signingKey"}},
    }
    signing = root.signing()
    contents = {
        "serverCertificate": pair.pem,
        "serverKey": pair.key_pem,
        "signingCertificate": signing.pem,
        "signingKey": signing.key_pem,
    }
    found = releases(config | {"pki": supplied} | contents)
    values = found["management", "gloo-mesh-enterprise"].values
    live = {"enterprise-networking": {"enterpriseNetworking": {"deploymentOverrides": annotated("as deployed")}}}

    filled: Any = _filled(values, live, [])

    shown = filled["enterprise-networking"]["enterpriseNetworking"]["deploymentOverrides"]
    assert shown == annotated("as deployed")


def annotated(checksum: str) -> dict[str, Any]:
    return {"spec": {"template": {"metadata": {"annotations": {product.CHECKSUM_ANNOTATION: checksum}}}}}


class Clock:
    """An API server that is never asked."""

    def left(self) -> float:
        return 10


def helm(folder: Path, script: str) -> str:
    """A helm that keeps what it is given, then does as told."""
    (folder / "bin").mkdir()
    file = folder / "bin/helm"
    file.write_text(f'#!/bin/sh\necho "$@" > {folder}/argv\ncat > {folder}/stdin\n{script}\n')
    file.chmod(0o755)
    return str(file)


def test_without_helm_the_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(UsageError, match="`helm`, is not on PATH"):
        helm_command()


@pytest.mark.parametrize("version", ["v3.9.4", "v3.12.3", "v4.1.4"])
def test_a_helm_that_is_too_old_or_too_new_is_told_with_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setenv("PATH", f"{Path(helm(tmp_path, f'echo {version}')).parent}:{os.environ['PATH']}")

    with pytest.raises(UsageError, match=rf"bin/helm is {re.escape(version)}; charts are rendered with Helm 3"):
        helm_command()


def test_a_helm_that_hangs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operations.rendering.VERSION_SECONDS", 0.2)
    monkeypatch.setenv("PATH", f"{Path(helm(tmp_path, 'exec sleep 60')).parent}:{os.environ['PATH']}")

    with pytest.raises(UsageError, match="hasn't told its version"):
        helm_command()


@pytest.mark.parametrize("version", ["v3.13.0", "v3.19.2", "v3.20.0+unreleased"])
def test_a_helm_from_3_13_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    command = helm(tmp_path, f"echo {version}")
    monkeypatch.setenv("PATH", f"{Path(command).parent}:{os.environ['PATH']}")

    assert helm_command() == command


def test_opaque_values_are_rendered_as_deployed_and_reach_helm_by_stdin_alone(
    config: dict[str, Any], tmp_path: Path
) -> None:
    manifest = "{apiVersion: v1, kind: Service, metadata: {name: x}}"
    command = helm(tmp_path, f"""echo '{json.dumps({"manifest": manifest})}'""")
    cluster = Settings.parse(config, ("licenseKey",)).management_cluster
    release = releases(config)["management", "gloo-mesh-enterprise"]

    clock: Any = Clock()

    found = rendered(command, cluster, release, Deployed("1.2.9", {"licenseKey": LICENSE}, "", "gloo-mesh"), clock)

    assert set(found) == {("", "Service", "gloo-mesh", "x")}
    assert json.loads((tmp_path / "stdin").read_text())["licenseKey"] == LICENSE
    assert LICENSE not in (tmp_path / "argv").read_text()
    assert "--dry-run=server" in (tmp_path / "argv").read_text()


@pytest.mark.parametrize(
    ("licence", "said"), [(LICENSE, LICENSE), ("first line\nsecond line", "second line"), ('ä "b" c', r"ä \"b\" c")]
)
def test_helms_complaint_repeats_no_value_that_may_be_secret(
    licence: str, said: str, config: dict[str, Any], tmp_path: Path
) -> None:
    command = helm(tmp_path, f"printf '%s\\n' 'Error: licence {said} is bad' >&2; exit 1")
    cluster = Settings.parse(config, ("licenseKey",)).management_cluster
    release = releases(config)["management", "gloo-mesh-enterprise"]

    clock: Any = Clock()

    with pytest.raises(Unanswered) as failed:
        rendered(command, cluster, release, Deployed("1.2.9", {"licenseKey": licence}, "", "gloo-mesh"), clock)

    assert str(failed.value) == "helm can't render gloo-mesh-enterprise 1.2.9: licence (secret) is bad"


def test_a_manifest_is_read_with_what_lists_hold_and_without_what_has_no_name() -> None:
    manifest = """
{kind: List, apiVersion: v1, items: [{kind: Secret, apiVersion: v1, metadata: {name: listed}}]}
---
{kind: RoleList, apiVersion: rbac.authorization.k8s.io/v1, items: }
---
{kind: List, apiVersion: v1}
---
{kind: Job, apiVersion: batch/v1, metadata: {generateName: some-}}
---
only words
---
{kind: Service, apiVersion: v1, metadata: {name: plain, namespace: team}}
"""

    assert set(by_key(manifest, "gloo-mesh")) == {
        ("", "Secret", "gloo-mesh", "listed"),
        ("", "Service", "team", "plain"),
    }


@pytest.mark.parametrize("manifest", ["a: =", "when: 2024-02-30", "{"])
def test_a_manifest_that_is_no_yaml_is_a_sentence(manifest: str) -> None:
    with pytest.raises(HelmError, match="no YAML that can be read"):
        by_key(manifest, "gloo-mesh")


def test_a_helm_that_cant_be_run_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = Path(helm(tmp_path, "exit"))
    command.write_bytes(b"\x7fELF of another machine")
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")

    with pytest.raises(UsageError, match="helm can't be run: Exec format error"):
        helm_command()


class Server(Clock):
    """An API server with some of Helm's records, and nothing else."""

    def __init__(self, *records: dict[str, Any]) -> None:
        self.records = records

    def get(self, path: str, **_: str) -> Any:
        return {"items": list(self.records)} if path.endswith("/secrets") else None


def test_an_upgrade_that_failed_is_compared_with_what_is_in_force(config: dict[str, Any]) -> None:
    release = releases(config)["cluster-1", "enterprise-agent"]
    server: Any = Server(record(9, version="1.2.8"), record(10, "failed"))

    live = deployed(server, release.namespace, release.name)

    assert live is not None
    assert live.version == "1.2.8"


def looked(config: dict[str, Any], *records: dict[str, Any]) -> ClusterDiff:
    """What a diff of cluster-1's agent finds on a server with these records."""
    server: Any = Server(*records)
    found = ClusterDiff()
    cluster = Settings.parse(config, ("licenseKey",)).worker_clusters[0]
    differences._compare(found, "/nowhere", cluster, releases(config)["cluster-1", "enterprise-agent"], server)
    return found


def test_a_downgrade_is_flagged_and_not_rendered(config: dict[str, Any]) -> None:
    found = looked(config, record(1, version="1.2.10"))

    (change,) = found.changes
    assert (change.what, change.flagged) == ("refused", ["a downgrade from 1.2.10, which `up` refuses"])


def test_a_release_that_isnt_deployed_yet_says_so(config: dict[str, Any]) -> None:
    found = looked(config)

    (change,) = found.changes
    assert (change.what, change.flagged) == ("added", [])
    assert found.releases == {"enterprise-agent": (None, "1.2.9")}


def test_people_see_flags_first_and_clusters_that_change_alike_together(capsys: pytest.CaptureFixture[str]) -> None:
    change = Change("agent", "Deployment x", "changed", ["spec.replicas"], ["- version v1"])
    quiet = Change("agent", f"{crds.KIND} y", "changed", ["metadata.annotations.crd.solo.io/version"], [])
    found = {
        worker: ClusterDiff(releases={"agent": ("1.2.0", "1.2.1")}, changes=[change, quiet], unchanged=7)
        for worker in ("cluster-1", "cluster-2")
    }

    _print_diff(found)

    shown = capsys.readouterr().out
    assert "agent 1.2.0 -> 1.2.1 on cluster-1, cluster-2" in shown
    assert shown.count("Deployment x") == 1
    assert shown.index("! - version v1") < shown.index("spec.replicas")
    assert "1 CRDs" in shown
    assert "cluster-2: 2 to change, 1 flagged, 7 as they are" in shown


def test_a_version_that_isnt_vendored_is_a_sentence_and_exit_2(stack_file: Path) -> None:
    done = operations(stack_file.parent, "diff", "--stack", "test", "--to", "1.2.10")

    assert done.returncode == 2
    assert "charts pull 1.2.10" in done.stderr
    assert "Traceback" not in done.stderr


def test_clusters_that_cant_be_reached_are_sentences_and_exit_2(
    stack_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = helm(tmp_path, 'test "$1" = version && echo v3.19.0; exit 1')
    monkeypatch.setenv("PATH", f"{Path(command).parent}:{os.environ['PATH']}")
    # The charts' folder is looked for from the project, where the commands run.
    document = yaml.safe_load(stack_file.read_text())
    document["config"]["gloo-mesh:charts"] = str(stack_file.parent / "charts")
    stack_file.write_text(yaml.safe_dump(document))
    (stack_file.parent / "environment").write_text("")

    done = operations(stack_file.parent, "diff", "--stack", "test", "--to", "1.2.9", "--json")

    assert done.returncode == 2
    for cluster in ("management", "cluster-1", "cluster-2"):
        assert f"{cluster} could not be looked at to the end" in done.stderr
    told = {cluster: bool(looked["error"]) for cluster, looked in json.loads(done.stdout)["clusters"].items()}
    assert told == {"management": True, "cluster-1": True, "cluster-2": True}
    assert "Traceback" not in done.stderr
