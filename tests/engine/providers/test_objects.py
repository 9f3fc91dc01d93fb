"""What the program relies on for objects of a cluster, by plugins or by stand-ins."""

import base64
import json
import secrets
from pathlib import Path
from typing import Any

import pulumi
import pulumi_kubernetes as k8s
import pytest
import yaml
from kubernetes import client, config
from pulumi import automation as auto

from lab.fleet import Lab
from tests.awaiting import awaited
from tests.engine.providers.trial import (
    CLUSTER,
    Connect,
    Core,
    Program,
    Trial,
    from_the_project,
    packed_chart,
)

pytestmark = pytest.mark.engine
LAB_WORKERS = 0


def test_what_exists_is_not_taken_over_and_the_failure_names_it(
    trial: Trial, connect: Connect, core: Core, namespace: str
) -> None:
    core.create_namespaced_config_map(namespace, {"metadata": {"name": "somebody-elses"}, "data": {"a": "1"}})

    def program() -> None:
        k8s.core.v1.ConfigMap(
            "mine", metadata={"name": "somebody-elses", "namespace": namespace}, data={"a": "2"}, opts=connect()
        )

    assert '"somebody-elses" already exists' in trial.failing_up(program)
    assert core.read_namespaced_config_map("somebody-elses", namespace).data == {"a": "1"}


def test_an_unreachable_cluster_lets_the_preview_go_on_and_fails_the_update(
    trial: Trial, connect: Connect, lab: Lab, tmp_path: Path
) -> None:
    kubeconfig = yaml.safe_load(lab.kubeconfig.read_text())
    for cluster in kubeconfig["clusters"]:
        cluster["cluster"]["server"] = "https://127.0.0.1:1"
    nowhere = tmp_path / "kubeconfig"
    nowhere.write_text(yaml.safe_dump(kubeconfig))

    def program() -> None:
        k8s.core.v1.Namespace("namespace", metadata={"name": "nowhere"}, opts=connect(kubeconfig=str(nowhere)))

    assert trial.preview(program)["namespace"] == "create"
    assert "unreachable" in trial.failing_up(program)


def test_objects_are_created_kept_and_repaired_and_a_preview_writes_nothing(
    trial: Trial, connect: Connect, core: Core, lab: Lab
) -> None:
    name = f"trial-{secrets.token_hex(4)}"

    def program(label: str = "a", password: str = "first", **settings: Any) -> None:
        options = connect(enable_secret_mutable=True, enable_patch_force=True, **settings)
        labels = {"trial": label, "kept": "yes"}
        namespace = k8s.core.v1.Namespace("namespace", metadata={"name": name, "labels": labels}, opts=options)
        secret = k8s.core.v1.Secret(
            "secret",
            metadata={"name": "secret", "namespace": namespace.metadata["name"]},
            string_data={"password": password},
            opts=options,
        )
        # Not ["uid"]: where a dry run isn't possible, a preview knows no uid at all.
        pulumi.export("uid", namespace.metadata.uid)
        pulumi.export("data", secret.data)

    def secret_of() -> Any:
        return core.read_namespaced_secret("secret", name)

    written = len(lab.audit(CLUSTER))
    assert trial.preview(program) == {"cluster": "create", "namespace": "create", "secret": "create"}
    assert lab.audit(CLUSTER)[written:] == []

    trial.up(program)
    assert [event["verb"] for event in lab.audit(CLUSTER)[written:]] == ["create", "create"]
    assert trial.outputs()["uid"] == core.read_namespace(name).metadata.uid
    assert trial.secret_outputs() == {"data"}
    assert base64.b64encode(b"first").decode() not in trial.at_rest()
    assert base64.b64decode(secret_of().data["password"]) == b"first"

    # Nothing to do: no write, and no drift in what the API server or others added.
    core.patch_namespace(name, {"metadata": {"annotations": {"somebody": "else"}}})
    written, version = len(lab.audit(CLUSTER)), core.read_namespace(name).metadata.resource_version
    assert trial.up(program, refresh=True) == {}
    assert lab.audit(CLUSTER)[written:] == []
    assert core.read_namespace(name).metadata.resource_version == version

    # Drift: an edited and a dropped label, then a deleted object.
    core.patch_namespace(name, {"metadata": {"labels": {"trial": "edited", "kept": None}}})
    core.delete_namespaced_secret("secret", name)
    assert trial.preview(program, refresh=True).items() >= {"namespace": "update", "secret": "create"}.items()
    trial.up(program, refresh=True)
    repaired = core.read_namespace(name).metadata
    assert repaired.labels.items() >= {"trial": "a", "kept": "yes"}.items()
    assert repaired.annotations == {"somebody": "else"}

    # A Secret's data changes in place where that is asked for; a preview of it writes nothing.
    uid = secret_of().metadata.uid
    written = len(lab.audit(CLUSTER))
    assert trial.preview(lambda: program(password="second")) == {"secret": "update"}
    assert lab.audit(CLUSTER)[written:] == []
    assert trial.up(lambda: program(password="second")) == {"secret": "update"}
    assert base64.b64decode(secret_of().data["password"]) == b"second"
    assert secret_of().metadata.uid == uid

    # The same file by another path is the same cluster, another identifier is another one.
    renamed = trial.preview(lambda: program(password="second", kubeconfig=f"{lab.kubeconfig.parent}/./kubeconfig"))
    assert set(renamed.values()) <= {"update"}
    assert set(trial.preview(lambda: program(password="second", cluster_identifier="other")).values()) == {"replace"}

    trial.destroy()
    with pytest.raises(client.ApiException, match="404"):
        core.read_namespace(name)


def test_a_label_that_somebody_else_took_is_a_conflict_that_names_them(
    trial: Trial, connect: Connect, core: Core
) -> None:
    name = f"trial-{secrets.token_hex(4)}"

    def program(label: str) -> None:
        k8s.core.v1.Namespace("namespace", metadata={"name": name, "labels": {"trial": label}}, opts=connect())

    trial.up(lambda: program("a"))
    core.patch_namespace(name, {"metadata": {"labels": {"trial": "theirs"}}}, field_manager="somebody")

    assert 'conflict with "somebody"' in trial.failing_up(lambda: program("b"))


def test_a_secret_is_deleted_and_made_anew_unless_it_may_change(
    trial: Trial, connect: Connect, core: Core, namespace: str
) -> None:
    def program(password: str) -> None:
        k8s.core.v1.Secret(
            "secret",
            metadata={"name": "secret", "namespace": namespace},
            string_data={"password": password},
            opts=connect(),
        )

    trial.up(lambda: program("first"))
    uid = core.read_namespaced_secret("secret", namespace).metadata.uid

    assert trial.up(lambda: program("second")) == {"secret": "replace"}
    assert core.read_namespaced_secret("secret", namespace).metadata.uid != uid


def test_a_patch_waits_for_an_address_and_gives_its_fields_back(
    trial: Trial, connect: Connect, core: Core, namespace: str
) -> None:
    ports = [{"port": 80}]
    core.create_namespaced_service(
        namespace, {"metadata": {"name": "balanced"}, "spec": {"type": "LoadBalancer", "ports": ports}}
    )
    core.create_namespaced_service(namespace, {"metadata": {"name": "plain"}, "spec": {"ports": ports}})

    def program(service: str, within: str = "60s") -> None:
        patch = k8s.core.v1.ServicePatch(
            service,
            metadata={
                "name": service,
                "namespace": namespace,
                "annotations": {"pulumi.com/waitFor": "jsonpath={.status.loadBalancer.ingress}"},
            },
            opts=pulumi.ResourceOptions.merge(
                connect(), pulumi.ResourceOptions(custom_timeouts=pulumi.CustomTimeouts(create=within, update=within))
            ),
        )
        pulumi.export("ingress", patch.status.apply(lambda status: status and status["load_balancer"]["ingress"]))

    trial.up(lambda: program("balanced"))
    live = core.read_namespaced_service("balanced", namespace)
    assert trial.outputs()["ingress"][0]["ip"] == live.status.load_balancer.ingress[0].ip
    assert trial.up(lambda: program("balanced"), refresh=True) == {}

    # What comes too late is in the state, and the next run waits again.
    trial.failing_up(lambda: program("plain", within="3s"))
    assert trial.state()["plain"]["initErrors"]
    core.patch_namespaced_service("plain", namespace, {"spec": {"type": "LoadBalancer"}})
    assert trial.up(lambda: program("plain")).items() >= {"plain": "update"}.items()

    trial.destroy()
    for service in ("balanced", "plain"):
        assert not core.read_namespaced_service(service, namespace).metadata.annotations


def test_a_namespace_that_is_somebody_elses_is_labelled_repaired_and_given_back(
    trial: Trial, connect: Connect, core: Core, namespace: str, lab: Lab
) -> None:
    def program() -> None:
        options = connect(enable_patch_force=True)
        labels = {"istio-injection": "enabled"}
        k8s.core.v1.NamespacePatch("labels", metadata={"name": namespace, "labels": labels}, opts=options)
        k8s.core.v1.ServiceAccountPatch(
            "pull",
            metadata={"name": "puller", "namespace": namespace},
            image_pull_secrets=[{"name": "registry"}],
            opts=options,
        )

    core.patch_namespace(namespace, {"metadata": {"labels": {"team": "theirs"}}})
    core.create_namespaced_service_account(namespace, {"metadata": {"name": "puller"}})

    written = len(lab.audit(CLUSTER))
    assert trial.preview(program).items() >= {"labels": "create", "pull": "create"}.items()
    assert lab.audit(CLUSTER)[written:] == []
    trial.up(program)
    assert (
        core.read_namespace(namespace).metadata.labels.items()
        >= {
            "istio-injection": "enabled",
            "team": "theirs",
        }.items()
    )
    assert core.read_namespaced_service_account("puller", namespace).image_pull_secrets[0].name == "registry"
    assert trial.up(program, refresh=True) == {}

    theirs = {"metadata": {"labels": {"istio-injection": "disabled", "team": "new"}}}
    core.patch_namespace(namespace, theirs, field_manager="somebody")
    assert trial.up(program, refresh=True) == {"labels": "update"}
    assert (
        core.read_namespace(namespace).metadata.labels.items()
        >= {
            "istio-injection": "enabled",
            "team": "new",
        }.items()
    )

    trial.destroy()
    labels = core.read_namespace(namespace).metadata.labels
    assert "istio-injection" not in labels
    assert labels["team"] == "new"
    assert not core.read_namespaced_service_account("puller", namespace).image_pull_secrets


def test_the_labels_that_a_namespace_was_made_with_stay_when_it_is_handed_over(
    trial: Trial, connect: Connect, core: Core
) -> None:
    name = f"trial-{secrets.token_hex(4)}"

    def made() -> None:
        metadata: Any = {"name": name, "labels": {"made": "yes"}}
        k8s.core.v1.Namespace("space", metadata=metadata, opts=connect(enable_patch_force=True))

    def handed_over() -> None:
        before = pulumi.ResourceOptions(aliases=[pulumi.Alias(type_="kubernetes:core/v1:Namespace")])
        options = pulumi.ResourceOptions.merge(connect(enable_patch_force=True), before)
        k8s.core.v1.NamespacePatch("space", metadata={"name": name, "labels": {"given": "yes"}}, opts=options)

    trial.up(made)
    trial.up(handed_over)
    assert core.read_namespace(name).metadata.labels.keys() >= {"made", "given"}

    trial.destroy()
    labels = core.read_namespace(name).metadata.labels
    assert (labels.get("made"), labels.get("given")) == ("yes", None)
    core.delete_namespace(name)


def test_a_patch_makes_the_namespace_that_is_not_there_even_when_it_is_taken_back(
    trial: Trial, connect: Connect, core: Core
) -> None:
    name = f"trial-{secrets.token_hex(4)}"

    def program() -> None:
        k8s.core.v1.NamespacePatch("labels", metadata={"name": name, "labels": {"trial": "yes"}}, opts=connect())

    trial.up(program)
    assert core.read_namespace(name).metadata.labels["trial"] == "yes"

    core.delete_namespace(name)
    awaited(lambda: name not in [item.metadata.name for item in core.list_namespace().items])
    trial.destroy()
    assert "trial" not in core.read_namespace(name).metadata.labels
    core.delete_namespace(name)


def test_the_role_of_a_binding_is_changed_by_a_new_binding_and_its_subjects_in_place(
    trial: Trial, connect: Connect, core: Core, namespace: str
) -> None:
    access: Any = client.RbacAuthorizationV1Api(core.api_client)

    def program(role: str = "reader", group: str = "a") -> None:
        options = connect(enable_patch_force=True)
        k8s.rbac.v1.Role(
            "role",
            metadata={"name": "reader", "namespace": namespace},
            rules=[{"api_groups": [""], "resources": ["pods"], "verbs": ["get"]}],
            opts=options,
        )
        k8s.rbac.v1.RoleBinding(
            "binding",
            metadata={"name": "binding", "namespace": namespace},
            role_ref={"api_group": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
            # Without an API group, which the API server then adds.
            subjects=[{"kind": "Group", "name": group}],
            opts=options,
        )

    def binding() -> Any:
        return access.read_namespaced_role_binding("binding", namespace)

    trial.up(program)
    uid = binding().metadata.uid
    assert trial.up(program, refresh=True) == {}

    assert trial.up(lambda: program(group="b")) == {"binding": "update"}
    assert [subject.name for subject in binding().subjects] == ["b"]
    assert binding().metadata.uid == uid

    assert trial.preview(lambda: program(role="writer", group="b")) == {"binding": "replace"}
    assert trial.up(lambda: program(role="writer", group="b")) == {"binding": "replace"}
    assert binding().role_ref.name == "writer"
    assert binding().metadata.uid != uid


def test_what_is_somebody_elses_is_read_and_what_is_not_there_fails_the_read(
    trial: Trial, connect: Connect, core: Core, namespace: str, lab: Lab
) -> None:
    core.create_namespaced_secret(namespace, {"metadata": {"name": "made"}, "stringData": {"password": "open-sesame"}})
    core.create_namespaced_config_map(namespace, {"metadata": {"name": "made"}, "data": {"a": "1"}})
    gateway = "istio-system/istio-ingressgateway"
    awaited(lambda: core.read_namespaced_endpoints(*reversed(gateway.split("/"))).subsets)

    def program() -> None:
        options = connect()
        secret = k8s.core.v1.Secret.get("secret", f"{namespace}/made", opts=options)
        endpoints: Any = k8s.core.v1.Endpoints.get("endpoints", gateway, opts=options)
        service = k8s.core.v1.Service.get("service", gateway, opts=options)
        name = endpoints.subsets.apply(lambda subsets: subsets[0].addresses[0].node_name)
        for output, value in {
            "node": name,
            "addresses": k8s.core.v1.Node.get("node", name, opts=options).status.addresses,
            "ports": service.spec.ports.apply(lambda ports: {port.name: port.node_port for port in ports}),
            "uid": secret.metadata.uid,
            "password": secret.data["password"],
            "settings": k8s.core.v1.ConfigMap.get("settings", f"{namespace}/made", opts=options).data,
        }.items():
            pulumi.export(output, value)

    def missing(kind: Any, name: str) -> Program:
        def program() -> None:
            kind.get("missing", name, opts=connect())

        return program

    trial.up(program)
    found = trial.outputs()
    assert found["node"] == "node-2"
    second_node = f"{lab.address.removesuffix('1')}2"
    assert {"type": "InternalIP", "address": second_node} in found["addresses"]
    assert found["ports"]["https"] >= 30000
    assert found["uid"] == core.read_namespaced_secret("made", namespace).metadata.uid
    assert base64.b64decode(found["password"]) == b"open-sesame"
    assert found["settings"] == {"a": "1"}
    assert "password" in trial.secret_outputs()
    assert base64.b64encode(b"open-sesame").decode() not in trial.at_rest()

    for kind, name in ((k8s.core.v1.Node, "nobody"), (k8s.core.v1.Secret, f"{namespace}/nothing")):
        with pytest.raises(auto.CommandError, match=f"resource '{name}' does not exist"):
            trial.preview(missing(kind, name))
        assert f"resource '{name}' does not exist" in trial.failing_up(missing(kind, name))


def test_a_hook_that_refuses_an_update_stops_the_preview_and_nothing_is_written(
    trial: Trial, connect: Connect, core: Core, namespace: str, lab: Lab
) -> None:
    def refuse(_: pulumi.ResourceHookArgs) -> None:
        raise ValueError("this would lock you out")

    def program(value: str) -> None:
        hook = pulumi.ResourceHook("refuse", refuse, pulumi.ResourceHookOptions(on_dry_run=True))
        hooks = pulumi.ResourceOptions(hooks=pulumi.ResourceHookBinding(before_update=[hook]))
        k8s.core.v1.ConfigMap(
            "settings",
            metadata={"name": "settings", "namespace": namespace},
            data={"key": value},
            opts=pulumi.ResourceOptions.merge(connect(enable_config_map_mutable=True), hooks),
        )

    trial.up(lambda: program("a"))
    written = len(lab.audit(CLUSTER))

    with pytest.raises(auto.CommandError, match="this would lock you out"):
        trial.preview(lambda: program("b"))
    assert "this would lock you out" in trial.failing_up(lambda: program("b"))
    assert lab.audit(CLUSTER)[written:] == []
    assert core.read_namespaced_config_map("settings", namespace).data == {"key": "a"}


def test_what_a_webhook_that_is_not_ready_refuses_can_be_tried_again_by_a_hook(
    trial: Trial, connect: Connect, core: Core, namespace: str, tmp_path: Path, lab: Lab
) -> None:
    webhooks: Any = client.AdmissionregistrationV1Api(core.api_client)
    group, version, plural = "networking.istio.io", "v1", "gateways"
    webhooks.create_validating_webhook_configuration(
        {
            "metadata": {"name": namespace},
            "webhooks": [
                {
                    "name": "nobody.example.com",
                    "clientConfig": {"url": "https://127.0.0.1:1/"},
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                    "rules": [{"apiGroups": [group], "apiVersions": ["*"], "operations": ["*"], "resources": [plural]}],
                    "admissionReviewVersions": ["v1"],
                    "sideEffects": "None",
                }
            ],
        }
    )
    told = tmp_path / "told"

    def retry(failed: pulumi.ErrorHookArgs) -> bool:
        told.write_text(json.dumps(failed.errors))
        # Connections that a fork shares with its parent serve neither.
        own = client.AdmissionregistrationV1Api(config.new_client_from_config(str(lab.kubeconfig), CLUSTER))
        own.delete_validating_webhook_configuration(namespace)
        return True

    def program() -> None:
        hooks = pulumi.ResourceHookBinding(on_error=[pulumi.ErrorHook("retry", retry)])
        k8s.apiextensions.CustomResource(
            "gateway",
            api_version=f"{group}/{version}",
            kind="Gateway",
            metadata={"name": "gateway", "namespace": namespace},
            spec={"selector": {"istio": "ingressgateway"}},
            opts=pulumi.ResourceOptions.merge(connect(), pulumi.ResourceOptions(hooks=hooks)),
        )

    refused = False

    def acts() -> bool:
        # A configuration is stored at once but acts only when the server's cache has it.
        nonlocal refused
        custom: Any = client.CustomObjectsApi(core.api_client)
        body = {"apiVersion": f"{group}/{version}", "kind": "Gateway", "metadata": {"name": "probe"}}
        try:
            custom.create_namespaced_custom_object(group, version, namespace, plural, body, dry_run="All")
        except client.ApiException as error:
            refused = "failed calling webhook" in str(error.body)
        return refused

    awaited(acts)
    assert trial.up(program).items() >= {"gateway": "create"}.items()
    (error,) = json.loads(told.read_text())
    assert "failed calling webhook" in error


def test_a_kubeconfig_is_a_path_whoever_it_leads_to_or_secret_contents(
    trial: Trial,
    connect: Connect,
    core: Core,
    namespace: str,
    lab: Lab,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    contents = lab.kubeconfig.read_text()
    for user in ("ann", "bob"):
        (tmp_path / user).write_text(contents.replace("deployer@", f"{user}@"))
    link = tmp_path / "link"
    relative = from_the_project(link)

    def program(kubeconfig: str, form: str, secret: bool = False) -> None:
        given = pulumi.Output.secret(kubeconfig) if secret else kubeconfig
        options = connect(kubeconfig=given, enable_config_map_mutable=True)
        k8s.core.v1.ConfigMap(
            "settings", metadata={"name": "settings", "namespace": namespace}, data={"form": form}, opts=options
        )

    def form() -> str:
        return core.read_namespaced_config_map("settings", namespace).data["form"]

    # A tilde is the account's own home, whatever HOME says.
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / namespace).write_text(contents)
    assert "unreachable" in trial.failing_up(lambda: program(f"~/{namespace}", "home"))

    link.symlink_to("ann")
    assert trial.up(lambda: program(relative, "relative")).items() >= {"settings": "create"}.items()
    assert form() == "relative"
    link.unlink()
    link.symlink_to("bob")
    assert trial.preview(lambda: program(relative, "relative"), refresh=True) == {}

    # A proxy that nobody answers at: the way that a kubeconfig names is the way that is taken.
    closed = yaml.safe_load(contents)
    for cluster in closed["clusters"]:
        cluster["cluster"]["proxy-url"] = "http://127.0.0.1:1"
    (tmp_path / "bob").write_text(yaml.safe_dump(closed))
    assert "proxy" in trial.failing_up(lambda: program(relative, "other"))

    assert trial.up(lambda: program(contents, "contents", secret=True)) == {"cluster": "update", "settings": "update"}
    assert form() == "contents"
    assert yaml.safe_load(contents)["users"][0]["user"]["client-key-data"] not in trial.at_rest()


def test_a_custom_resource_waits_for_its_kind(trial: Trial, connect: Connect, namespace: str, tmp_path: Path) -> None:
    group = f"{namespace}.example.com"
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"trials.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": "Trial", "plural": "trials"},
            "scope": "Namespaced",
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                }
            ],
        },
    }
    chart = packed_chart(tmp_path, "kinds", "1.0.0", definition)

    def program() -> None:
        options = connect()
        # Nothing says that one comes before the other.
        k8s.apiextensions.CustomResource(
            "trial",
            api_version=f"{group}/v1",
            kind="Trial",
            metadata={"name": "trial", "namespace": namespace},
            spec={"size": 1},
            opts=options,
        )
        k8s.helm.v3.Release("kinds", name="kinds", namespace=namespace, chart=chart, opts=options)

    trial.up(program)
    assert trial.up(program, refresh=True) == {}

    # The kind isn't the namespace's.
    trial.destroy()
