"""What editors and readers are told of the configuration is what the program accepts."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from components.settings import Settings
from docs import reference
from lab.plugins import REPOSITORY

STACK_FILES = sorted(REPOSITORY.glob("Pulumi.*.yaml"))
SCHEMA = reference.schema()
STACK = yaml.safe_load((REPOSITORY / "Pulumi.prod.yaml").read_text())


def complaints(change: dict[str, Any]) -> list[str]:
    changed = {f"gloo-mesh:{key}": value for key, value in change.items()}
    return [fault.message for fault in Draft7Validator(SCHEMA).iter_errors({"config": STACK["config"] | changed})]


def keys_without_a_word() -> Iterator[str]:
    sections = SCHEMA["$defs"] | {"a stack": SCHEMA["properties"]["config"]}
    for name, section in sections.items():
        for key, described in section["properties"].items():
            if not (described.get("description") or "$ref" in described):
                yield f"{name}.{key}"


@pytest.mark.parametrize("file", reference.files())
def test_what_is_generated_is_what_is_committed(file: Any) -> None:
    assert file.read_text() == reference.files()[file], f"renew {file.name} with: {reference.COMMAND}"


def test_no_key_is_without_a_word_on_what_it_is() -> None:
    assert list(keys_without_a_word()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"version": "1.2"},
        {"version": "2.0.0"},
        {"wrkers": {}},
        {"workers": {}},
        {"workers": {"Cluster_1": {}}},
        {"workers": {"cluster-1": {"contxt": "x"}}},
        {"workers": {"cluster-1": {"relayAddress": "relay.example.com"}}},
        {"kubeconfig": {"environment": "KUBECONFIG"}},
        {"kubeconfig": {}},
        {"kubeconfig": "apiVersion: v1\nkind: Config\n"},
        {"relay": {"readyWithin": "5 minutes"}},
        {"relay": {"readyWithin": 300}},
        {"pki": {"root": "root.pem"}},
        {"protect": "maybe"},
        {"licenseKey": "in plaintext"},
        {"dashboard": {}},
    ],
)
def test_the_schema_refuses_what_the_program_refuses(change: dict[str, Any]) -> None:
    assert complaints(change)


@pytest.mark.parametrize(
    "change",
    [
        {"workers": {"cluster-1": None}},
        {"workers": {"cluster-1": {"relayAddress": "[2001:db8::1]:9900", "kubeconfig": {"env": "ONE"}}}},
        {"kubeconfig": {"secret": "fleetKubeconfig"}, "fleetKubeconfig": {"secure": "AAAB"}},
        {"relay": {"readyWithin": "90s"}, "protect": "false", "virtualMesh": None},
        {"licenseKey": {"secure": "AAAB"}},
        {"pki": {"source": "supplied", "root": {"file": "root.pem"}}},
    ],
)
def test_the_schema_accepts_every_way_to_write_a_value(change: dict[str, Any]) -> None:
    assert complaints(change) == []


@pytest.mark.parametrize("file", STACK_FILES, ids=lambda file: file.name)
def test_every_tracked_stack_file_names_the_schema_and_follows_it(file: Any) -> None:
    text = file.read_text()

    assert text.startswith("# yaml-language-server: $schema=docs/configuration.schema.json\n")
    assert [fault.message for fault in Draft7Validator(SCHEMA).iter_errors(yaml.safe_load(text))] == []


def test_a_written_default_means_the_same_as_an_unwritten_one(config: dict[str, Any]) -> None:
    relay = {
        key: described["default"]
        for key, described in SCHEMA["$defs"]["RelaySettings"]["properties"].items()
        if "default" in described
    }
    kubeconfig = SCHEMA["properties"]["config"]["properties"]["gloo-mesh:kubeconfig"]["default"]

    assert relay["readyWithin"] == "5m"
    assert (
        Settings.parse(config | {"relay": relay}, ("licenseKey",)).relay
        == Settings.parse(config, ("licenseKey",)).relay
    )
    assert kubeconfig == str(Settings.model_fields["kubeconfig"].default)
