"""Bad input: one clear sentence each, all told together, nothing registered."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from components.settings import ConfigurationError, Settings
from tests.unit.conftest import LICENSE, Run, faults, only_fault


def test_a_missing_licence_is_refused_with_the_command_that_sets_it(config: dict[str, Any]) -> None:
    del config["licenseKey"]

    assert "gloo-mesh:licenseKey is missing" in (fault := only_fault(config, ()))
    assert "pulumi config set --secret gloo-mesh:licenseKey --stack STACK < FILE" in fault


def test_an_empty_licence_is_a_missing_one(config: dict[str, Any]) -> None:
    assert "gloo-mesh:licenseKey is missing" in only_fault(config | {"licenseKey": " \n"})


def test_a_licence_in_plaintext_is_refused_without_repeating_it(config: dict[str, Any]) -> None:
    fault = only_fault(config, ())

    assert "gloo-mesh:licenseKey is in plaintext" in fault
    assert LICENSE not in fault


def test_a_fleet_without_workers_is_refused(config: dict[str, Any]) -> None:
    assert "gloo-mesh:workers names no worker" in only_fault(config | {"workers": {}})


def test_missing_workers_are_refused_with_an_example(config: dict[str, Any]) -> None:
    del config["workers"]

    assert only_fault(config) == "gloo-mesh:workers is missing; write one, such as {cluster-1: {}}."


def test_a_context_used_twice_is_refused_by_name(config: dict[str, Any]) -> None:
    fault = only_fault(config | {"workers": {"cluster-1": {"context": "mgmt-cluster"}}})

    assert "gloo-mesh:management and gloo-mesh:workers.cluster-1 share the context mgmt-cluster" in fault


def test_two_workers_with_one_context_are_refused_by_name(config: dict[str, Any]) -> None:
    fault = only_fault(config | {"workers": {"cluster-1": {}, "again": {"context": "cluster-1"}}})

    assert "workers.cluster-1 and gloo-mesh:workers.again share the context cluster-1" in fault


@pytest.mark.parametrize("name", ["Cluster-1", "cluster_1", "-x", "a" * 64])
def test_a_worker_name_that_is_no_dns_label_is_refused(config: dict[str, Any], name: str) -> None:
    assert "a DNS label is needed" in only_fault(config | {"workers": {name: {"context": "cluster-1"}}})


def test_a_worker_called_management_is_refused(config: dict[str, Any]) -> None:
    fault = only_fault(config | {"workers": {"management": {"context": "cluster-1"}}})

    assert "takes the management cluster's name" in fault
    fault = only_fault(config | {"workers": {"default": {"context": "cluster-1"}}})
    assert "takes the name of Pulumi's own providers" in fault


@pytest.mark.parametrize("version", ["1.2", "v1.2.9", "latest", "^1.2.9", "1.2.x"])
def test_a_version_that_is_not_exact_is_refused_by_value(config: dict[str, Any], version: str) -> None:
    fault = only_fault(config | {"version": version})

    assert f'gloo-mesh:version is "{version}"; an exact version is needed' in fault


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"version": 1.2},
            "gloo-mesh:version is 1.2; a text is needed, in quotes where YAML takes it for something else.",
        ),
        ({"workers": ["cluster-1"]}, "gloo-mesh:workers is a list; a mapping is needed, such as {key: value}."),
        (
            {"rbac": {"adminSubjects": "anna"}},
            'gloo-mesh:rbac.adminSubjects is "anna"; a list is needed, such as [one, two].',
        ),
    ],
)
def test_a_value_of_another_kind_is_refused_with_the_kind_that_is_needed(
    config: dict[str, Any], change: dict[str, Any], sentence: str
) -> None:
    assert only_fault(config | change) == sentence


def test_another_generation_is_refused(config: dict[str, Any]) -> None:
    assert "1.x only" in only_fault(config | {"version": "2.1.0"})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"licencekey": "x"}, "gloo-mesh:licencekey is not a setting; the nearest is licenseKey."),
        ({"worker": {}}, "gloo-mesh:worker is not a setting; the nearest is workers."),
        ({"relay": {"readywithin": "5m"}}, "gloo-mesh:relay.readywithin is not a setting; the nearest is readyWithin."),
        (
            {"workers": {"cluster-1": {"contxt": "x"}}},
            "gloo-mesh:workers.cluster-1.contxt is not a setting; the nearest is context.",
        ),
        (
            {"rbac": {"adminSubjects": [{"kind": "User", "name": "x"}], "xyz": 1}},
            "gloo-mesh:rbac.xyz is not a setting; known are adminSubjects.",
        ),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_right_one(
    config: dict[str, Any], change: dict[str, Any], sentence: str
) -> None:
    assert only_fault(config | change) == sentence


@pytest.mark.parametrize("value", ["5 minutes", "0s", "-5m", "5", -5, True])
def test_a_duration_that_is_none_is_refused_by_value(config: dict[str, Any], value: object) -> None:
    assert only_fault(config | {"relay": {"readyWithin": value}}) == (
        f"gloo-mesh:relay.readyWithin is {json.dumps(value)}; a duration is needed, such as 90s, 5m or 1h."
    )


@pytest.mark.parametrize("value", ["x", "[1]", ["cluster-1"], 7])
def test_workers_that_are_no_mapping_are_refused_by_value(config: dict[str, Any], value: object) -> None:
    assert only_fault(config | {"workers": value}).startswith("gloo-mesh:workers is ")


def test_a_missing_kubeconfig_is_refused_by_path(config: dict[str, Any]) -> None:
    fault = only_fault(config | {"kubeconfig": "nowhere/config"})

    assert "gloo-mesh:kubeconfig is nowhere/config; there is no such file" in fault


@pytest.mark.parametrize("content", ["- a list", "{", "contexts: 7", ""])
def test_a_file_that_is_no_kubeconfig_is_refused(config: dict[str, Any], content: str, tmp_path: Path) -> None:
    (tmp_path / "broken").write_text(content)

    assert "it isn't a kubeconfig" in only_fault(config | {"kubeconfig": "broken"})


def test_a_kubeconfig_that_cant_be_read_is_refused(config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()

    assert "it can't be read (Is a directory)" in only_fault(config | {"kubeconfig": "folder"})


def test_a_workers_own_kubeconfig_is_looked_at_too(config: dict[str, Any]) -> None:
    fault = only_fault(config | {"workers": {"cluster-1": {"kubeconfig": "elsewhere"}}})

    assert "kubeconfig is elsewhere; there is no such file" in fault


def test_a_context_the_kubeconfig_lacks_is_refused_with_the_nearest(config: dict[str, Any]) -> None:
    fault = only_fault(config | {"workers": {"cluster-11": {}}})

    assert "gloo-mesh:workers.cluster-11 uses the context cluster-11" in fault
    assert "the nearest is cluster-1" in fault
    assert "take the entry out, and forget the cluster" in fault
    assert "take the entry out" not in only_fault(config | {"management": {"context": "mgmt"}})


def test_charts_that_were_never_brought_are_refused_with_the_command(config: dict[str, Any]) -> None:
    fault = only_fault(config | {"charts": "empty"})

    assert "There are no vendored charts in empty" in fault
    assert "python -m operations charts pull 1.2.9" in fault


def test_charts_of_another_version_are_refused_by_both_versions(config: dict[str, Any]) -> None:
    fault = only_fault(config | {"version": "1.2.8"})

    assert "of version 1.2.8 (it has 1.2.9)" in fault


def test_a_missing_archive_is_refused_by_name(config: dict[str, Any]) -> None:
    Path("charts/enterprise-agent-1.2.9.tgz").unlink()

    assert "charts/enterprise-agent-1.2.9.tgz is in the lock but not in the folder" in only_fault(config)


def test_an_altered_archive_is_refused_by_name(config: dict[str, Any]) -> None:
    Path("charts/enterprise-agent-1.2.9.tgz").write_bytes(b"something else")

    assert "charts/enterprise-agent-1.2.9.tgz was altered since it was locked" in only_fault(config)


@pytest.mark.parametrize("lock", ["[", "charts: 7", "other: []", "charts: [{file: x}]", "charts: [x]"])
def test_a_broken_lock_is_a_sentence(config: dict[str, Any], lock: str) -> None:
    Path("charts/charts.lock").write_text(lock)

    assert "charts/charts.lock, the list of vendored charts, can't be read" in only_fault(config)


@pytest.mark.parametrize("path", ["\0x", "~nobody-of-that-name/x"])
def test_a_kubeconfig_that_cant_be_a_path_is_refused(config: dict[str, Any], path: str) -> None:
    assert "write the path of one" in (fault := only_fault(config | {"kubeconfig": path})) or "can't be a path" in fault


def test_a_kubeconfigs_content_is_refused_without_repeating_it(config: dict[str, Any]) -> None:
    fault = only_fault(config | {"kubeconfig": "apiVersion: v1\nusers: [{token: canary}]\n"})

    assert "gloo-mesh:kubeconfig is a text; the path of a kubeconfig is needed" in fault
    assert "canary" not in fault


def test_the_addons_namespace_is_refused_for_the_agents(config: dict[str, Any]) -> None:
    assert "belongs to the addons" in only_fault(config | {"namespace": "gloo-mesh-addons"})


def test_a_worker_with_nothing_said_has_every_default(config: dict[str, Any]) -> None:
    parsed = Settings.parse(config | {"workers": {"cluster-1": None}}, ("licenseKey",))

    assert parsed.worker_clusters[0].context == "cluster-1"


def test_all_faults_are_told_at_once(config: dict[str, Any]) -> None:
    Path("charts/enterprise-agent-1.2.9.tgz").unlink()
    config |= {
        "workers": {"Bad_Name": {"context": "cluster-1"}, "twice": {"context": "mgmt-cluster"}},
        "relay": {"readyWithin": "soon"},
        "pkii": {},
    }
    found = "\n".join(faults(config, ()))

    for part in ("plaintext", "Bad_Name", "share the context", "readyWithin", "pkii", "not in the folder"):
        assert part in found


def test_nothing_is_registered_when_the_configuration_is_wrong(
    config: dict[str, Any], deploy: Callable[..., Run]
) -> None:
    with pytest.raises(pulumi.RunError, match="gloo-mesh:version"):
        deploy(config | {"version": "newest"})


def test_an_encrypted_value_inside_another_is_refused_since_the_state_would_have_it_in_plaintext(
    config: dict[str, Any],
) -> None:
    for inner in ("the engine has decrypted it", {"secure": "AAAB"}):
        config["values"] = {"management": {"some": ["thing", {"password": inner}]}}

        assert "gloo-mesh:values holds an encrypted value" in only_fault(config, ("licenseKey", "values"))


def test_a_stack_file_with_an_encrypted_value_inside_another_is_refused(config: dict[str, Any], tmp_path: Path) -> None:
    config |= {"licenseKey": {"secure": "AAAB"}, "values": {"management": {"some": [{"password": {"secure": "AAAC"}}]}}}
    file = tmp_path / "Pulumi.x.yaml"
    file.write_text(yaml.safe_dump({"config": {f"gloo-mesh:{key}": value for key, value in config.items()}}))

    with pytest.raises(ConfigurationError, match="gloo-mesh:values holds an encrypted value"):
        Settings.read(file)


def test_what_is_only_called_secure_is_no_secret(config: dict[str, Any], tmp_path: Path) -> None:
    config |= {"licenseKey": {"secure": "AAAB"}, "defaults": {"namespaces": {"labels": {"secure": "yes", "team": "a"}}}}
    config["workers"] = {"secure": {"context": "cluster-1"}}
    file = tmp_path / "Pulumi.x.yaml"
    file.write_text(yaml.safe_dump({"config": {f"gloo-mesh:{key}": value for key, value in config.items()}}))

    assert Settings.read(file).workers.keys() == {"secure"}


def test_a_relay_address_that_no_name_server_would_take_is_refused(config: dict[str, Any]) -> None:
    config["relay"] = {"address": f"{'a' * 64}.example.com:9900"}

    assert "host:port is needed" in only_fault(config)


def test_defaults_are_the_seeds(config: dict[str, Any]) -> None:
    parsed = Settings.parse(config, ("licenseKey",))

    assert (parsed.namespace, parsed.protect, parsed.relay.ready_within) == ("gloo-mesh", True, 300)
    assert [(worker.name, worker.context) for worker in parsed.worker_clusters] == [
        ("cluster-1", "cluster-1"),
        ("cluster-2", "cluster-2"),
    ]


def test_a_stack_file_reads_the_same_with_its_secrets_opaque(config: dict[str, Any], tmp_path: Path) -> None:
    config["licenseKey"] = {"secure": "AAAB"}
    file = tmp_path / "Pulumi.x.yaml"
    file.write_text(yaml.safe_dump({"config": {f"gloo-mesh:{key}": value for key, value in config.items()}}))

    assert Settings.read(file).workers.keys() == {"cluster-1", "cluster-2"}


@pytest.mark.parametrize("content", ["[", "- x", "config: 3", "\x00"])
def test_a_broken_stack_file_is_sentences(content: str, tmp_path: Path) -> None:
    (file := tmp_path / "Pulumi.x.yaml").write_text(content)

    with pytest.raises(ConfigurationError):
        Settings.read(file)


scalars = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["cluster-1", "5m", "1.2.9"])
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=8), inner, max_size=2)
)
keys = st.sampled_from([field.alias or name for name, field in Settings.model_fields.items()])


@settings(max_examples=300)
@given(change=st.dictionaries(keys | st.text(max_size=8), values, max_size=3))
def test_any_configuration_is_accepted_or_refused_in_sentences(config: dict[str, Any], change: dict[str, Any]) -> None:
    told = ["."]
    try:
        Settings.parse(config | change, ("licenseKey",))
    except ConfigurationError as refused:
        told = refused.faults

    assert all(told)
