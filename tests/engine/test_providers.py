"""What the program relies on in Pulumi's providers, whichever are in force: real plugins or the lab's stand-ins."""

import base64
import json
import os
import secrets
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pulumi
import pulumi_kubernetes as k8s
import pulumi_random as random
import pulumi_tls as tls
import pytest
import yaml
from cryptography import x509
from kubernetes import client, config
from pulumi import automation as auto
from pulumi.automation._stack import StackInitMode

from lab.cluster import end
from lab.fleet import MANAGEMENT, Lab
from operations.engine import QuietStack
from tests.apart import apart
from tests.awaiting import awaited

pytestmark = pytest.mark.engine

LAB_WORKERS = 0
CLUSTER = MANAGEMENT
Program = Callable[[], None]
Connect = Callable[..., pulumi.ResourceOptions]
Core = Any  # the client takes dictionaries, its types don't say so


class Trial:
    """A stack of its own, and what a run of it did."""

    def __init__(self, name: str) -> None:
        project = auto.ProjectSettings(name="providers", runtime="python", main=str(Path.cwd()))
        workspace = auto.LocalWorkspace(program=lambda: None, project_settings=project)
        self.stack = QuietStack(name, workspace, StackInitMode.CREATE)

    def preview(self, program: Program, **options: Any) -> dict[str, str]:
        """The planned operation for each resource, by name, the unchanged left out."""
        return self._run(self.stack.preview, program, options)

    def up(self, program: Program, **options: Any) -> dict[str, str]:
        """The operation carried out for each resource, by name, the unchanged left out."""
        return self._run(self.stack.up, program, options)

    def _run(self, operation: Callable[..., Any], program: Program, options: Any) -> dict[str, str]:
        def run() -> dict[str, str]:
            self.stack.workspace.program = program
            events: list[auto.EngineEvent] = []
            operation(on_event=events.append, **options)
            return _operations(events)

        return apart(run)

    def destroy(self) -> None:
        """Take away whatever it made."""

        def run() -> None:
            self.stack.destroy()

        apart(run)

    def failing_up(self, program: Program) -> str:
        """What an update that must fail says."""
        with pytest.raises(auto.CommandError) as failure:
            self.up(program)
        return str(failure.value)

    def outputs(self) -> dict[str, Any]:
        """The last successful update's outputs, decrypted."""
        return {name: output.value for name, output in self._stored().items()}

    def secret_outputs(self) -> set[str]:
        """Which of them are marked as secret."""
        return {name for name, output in self._stored().items() if output.secret}

    def _stored(self) -> auto.OutputMap:
        return self.stack.workspace.stack_outputs(self.stack.name)

    def deployment(self) -> dict[str, Any]:
        """The state, decrypted."""
        return dict(self.stack.export_stack().deployment or {})

    def at_rest(self) -> str:
        """Everything the backend keeps of every stack, as it lies on the disk."""
        folder = Path(os.environ["PULUMI_BACKEND_URL"].removeprefix("file://"))
        return "".join(path.read_text() for path in folder.rglob("*") if path.is_file())

    def state(self) -> dict[str, Any]:
        """Every resource in the state, by name."""
        resources = self.deployment()["resources"]
        return {resource["urn"].rpartition("::")[2]: resource for resource in resources}

    def edit(self, name: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Change one resource in the state, as time would."""
        deployment = self.deployment()
        for resource in deployment["resources"]:
            if resource["urn"].endswith(f"::{name}"):
                change(resource)
        self.stack.import_stack(auto.Deployment(version=3, deployment=deployment))


def _operations(events: list[auto.EngineEvent]) -> dict[str, str]:
    """What happens to each resource; the steps of a replacement count as one."""
    steps = [event.resource_pre_event.metadata for event in events if event.resource_pre_event]
    operations = {
        step.urn.rpartition("::")[2]: "replace" if "replace" in step.op.value else step.op.value
        for step in steps
        if not step.type.startswith("pulumi:pulumi:")
    }
    return {name: operation for name, operation in operations.items() if operation not in ("same", "refresh")}


@pytest.fixture(scope="module")
def environment(lab: Lab) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in lab.environment().items():
            patch.setenv(name, value)
        patch.delenv("KUBECONFIG", raising=False)
        yield


@pytest.fixture(scope="module")
def core(lab: Lab) -> Core:
    return client.CoreV1Api(config.new_client_from_config(str(lab.kubeconfig), CLUSTER))


@pytest.fixture
def namespace(core: Core) -> Iterator[str]:
    """A namespace that isn't Pulumi's."""
    name = f"trial-{secrets.token_hex(4)}"
    core.create_namespace({"metadata": {"name": name}})
    yield name
    core.delete_namespace(name)


@pytest.fixture
def trial(environment: None, namespace: str, request: pytest.FixtureRequest) -> Iterator[Trial]:
    """A stack named after the test; what it made is removed, before the namespace is."""
    trial = Trial(request.node.name.removeprefix("test_")[:60])
    yield trial
    trial.destroy()
    shutil.rmtree(trial.stack.workspace.work_dir)


@pytest.fixture
def connect(lab: Lab) -> Connect:
    """The options of a resource on the trial's cluster; called within a program."""

    def connect(**settings: Any) -> pulumi.ResourceOptions:
        given: dict[str, Any] = {
            "kubeconfig": str(lab.kubeconfig),
            "context": CLUSTER,
            "cluster_identifier": CLUSTER,
        } | settings
        return pulumi.ResourceOptions(provider=k8s.Provider("cluster", **given))

    return connect


def from_the_project(path: Path) -> str:
    """A relative path, from where Pulumi starts the plugins of an inline program."""
    return os.path.relpath(path, Path.cwd())


def packed_chart(folder: Path, name: str, version: str, *templates: dict[str, Any]) -> str:
    """A chart with these objects, as a .tgz named without its version, so that its path stays the same."""
    source = folder / name
    (source / "templates").mkdir(parents=True, exist_ok=True)
    (source / "Chart.yaml").write_text(json.dumps({"apiVersion": "v2", "name": name, "version": version}))
    (source / "templates/all.yaml").write_text("\n---\n".join(map(json.dumps, templates)))
    with tarfile.open(folder / f"{name}.tgz", "w:gz") as archive:
        archive.add(source, arcname=name)
    return str(folder / f"{name}.tgz")


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


NEVER_READY = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "never"},
    "spec": {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "nobody-provides-this",
        "resources": {"requests": {"storage": "1Gi"}},
    },
}


def records(core: Core, namespace: str) -> list[str]:
    """The status of each of Helm's records in a namespace, oldest first."""
    found = core.list_namespaced_secret(namespace, label_selector="owner=helm").items
    return [item.metadata.labels["status"] for item in sorted(found, key=lambda item: item.metadata.name)]


def test_a_use_that_does_not_exist_is_refused_before_anything_is_made(trial: Trial) -> None:
    def program() -> None:
        key = tls.PrivateKey("key", algorithm="ECDSA", ecdsa_curve="P256")
        tls.SelfSignedCert(
            "root", private_key_pem=key.private_key_pem, allowed_uses=["signing"], validity_period_hours=1
        )

    assert "signing" in trial.failing_up(program)


def test_keys_and_passwords_are_made_once_renewed_in_time_and_never_in_the_clear(trial: Trial) -> None:
    def program(generation: str = "1", root_renewal: int = 24) -> None:
        password = random.RandomPassword("token", length=40, special=False, keepers={"generation": generation})
        root_key = tls.PrivateKey("root-key", algorithm="RSA", rsa_bits=2048)
        root = tls.SelfSignedCert(
            "root",
            private_key_pem=root_key.private_key_pem,
            is_ca_certificate=True,
            subject={"common_name": "root", "organization": "trial"},
            allowed_uses=["cert_signing", "crl_signing"],
            validity_period_hours=100,
            early_renewal_hours=root_renewal,
            max_path_length=1,
        )
        key = tls.PrivateKey("key", algorithm="ECDSA", ecdsa_curve="P256")
        request = tls.CertRequest(
            "request",
            private_key_pem=key.private_key_pem,
            subject={"common_name": "server"},
            dns_names=["server.example", "*.server.example"],
        )
        leaf = tls.LocallySignedCert(
            "leaf",
            cert_request_pem=request.cert_request_pem,
            ca_private_key_pem=root_key.private_key_pem,
            ca_cert_pem=root.cert_pem,
            allowed_uses=["digital_signature", "server_auth"],
            validity_period_hours=10,
            max_path_length=0,
        )
        for name, output in {
            "password": password.result,
            "root key": root_key.private_key_pem,
            "key": key.private_key_pem_pkcs8,
            "root": root.cert_pem,
            "leaf": leaf.cert_pem,
        }.items():
            pulumi.export(name, output)

    assert set(trial.up(program).values()) == {"create"}
    first = trial.outputs()
    state = trial.at_rest()

    assert trial.secret_outputs() == {"password", "root key", "key"}
    for name in trial.secret_outputs():
        assert first[name].splitlines()[-2:][0] not in state, f"the {name} must be encrypted"
    assert len(first["password"]) == 40
    assert first["password"].isalnum()
    assert first["root key"].startswith("-----BEGIN RSA PRIVATE KEY-----")
    assert first["key"].startswith("-----BEGIN PRIVATE KEY-----")
    assert_root(x509.load_pem_x509_certificate(first["root"].encode()))
    assert_leaf(
        x509.load_pem_x509_certificate(first["leaf"].encode()), x509.load_pem_x509_certificate(first["root"].encode())
    )

    assert trial.up(program) == {}
    assert trial.outputs() == first

    assert trial.up(lambda: program(generation="2")) == {"token": "replace"}
    assert trial.outputs() == first | {"password": trial.outputs()["password"]}
    assert trial.outputs()["password"] != first["password"]

    # A renewal time alone is no reason to issue again, unless it has come.
    assert trial.up(lambda: program(generation="2", root_renewal=48)) == {"root": "update"}
    assert trial.outputs()["root"] == first["root"]

    soon = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    trial.edit("root", lambda resource: resource["outputs"].update(validityEndTime=soon))

    def renewed() -> None:
        program(generation="2", root_renewal=48)

    assert trial.preview(renewed) == {"root": "replace", "leaf": "replace"}
    assert trial.up(renewed) == {"root": "replace", "leaf": "replace"}
    assert trial.outputs()["root key"] == first["root key"]
    assert trial.outputs()["root"] != first["root"]
    assert trial.up(renewed) == {}


def assert_root(root: x509.Certificate) -> None:
    constraints = root.extensions.get_extension_for_class(x509.BasicConstraints)
    uses = root.extensions.get_extension_for_class(x509.KeyUsage)

    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=1)
    assert uses.critical
    assert uses.value.key_cert_sign
    assert uses.value.crl_sign
    assert not uses.value.digital_signature


def assert_leaf(leaf: x509.Certificate, root: x509.Certificate) -> None:
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    known_root = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    known_authority = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    constraints = leaf.extensions.get_extension_for_class(x509.BasicConstraints)

    leaf.verify_directly_issued_by(root)
    assert names.get_values_for_type(x509.DNSName) == ["server.example", "*.server.example"]
    assert known_authority.key_identifier == known_root.digest
    assert constraints.critical
    # A path length of 0 is taken for none given.
    assert constraints.value == x509.BasicConstraints(ca=False, path_length=None)
    assert 2**32 < leaf.serial_number < 2**128
    assert leaf.serial_number != root.serial_number


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

    def program(service: str) -> None:
        patch = k8s.core.v1.ServicePatch(
            service,
            metadata={
                "name": service,
                "namespace": namespace,
                "annotations": {"pulumi.com/waitFor": "jsonpath={.status.loadBalancer.ingress}"},
            },
            opts=pulumi.ResourceOptions.merge(
                connect(), pulumi.ResourceOptions(custom_timeouts=pulumi.CustomTimeouts(create="3s", update="3s"))
            ),
        )
        pulumi.export("ingress", patch.status.apply(lambda status: status and status["load_balancer"]["ingress"]))

    trial.up(lambda: program("balanced"))
    live = core.read_namespaced_service("balanced", namespace)
    assert trial.outputs()["ingress"][0]["ip"] == live.status.load_balancer.ingress[0].ip
    assert trial.up(lambda: program("balanced"), refresh=True) == {}

    # What comes too late is in the state, and the next run waits again.
    trial.failing_up(lambda: program("plain"))
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
    monkeypatch.setenv("PULUMI_HOME", os.environ.get("PULUMI_HOME") or str(Path.home() / ".pulumi"))
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


def test_a_chart_that_cannot_be_loaded_stops_the_run(trial: Trial, connect: Connect, namespace: str) -> None:
    def program() -> None:
        k8s.helm.v3.Release("release", name="r", namespace=namespace, chart="./no-such-chart-1.0.0.tgz", opts=connect())

    assert "no-such-chart-1.0.0.tgz" in trial.failing_up(program)


def test_a_release_hides_its_secret_values_and_is_upgraded_by_version_and_value(
    trial: Trial,
    connect: Connect,
    core: Core,
    namespace: str,
    tmp_path: Path,
    lab: Lab,
) -> None:
    template = config_map("settings", licence="{{ .Values.licence.key }}", size="{{ .Values.size }}")
    chart = packed_chart(tmp_path, "settings", "1.0.0", template)

    def program(size: int = 1, licence: str = "very-secret-licence") -> None:
        release = k8s.helm.v3.Release(
            "release",
            name="settings",
            namespace=namespace,
            chart=chart,
            values={"licence": {"key": pulumi.Output.secret(licence)}, "size": size},
            max_history=2,
            reset_values=True,
            opts=connect(),
        )
        pulumi.export("status", release.status)

    def settings() -> dict[str, str]:
        return core.read_namespaced_config_map("settings", namespace).data

    written = len(lab.audit(CLUSTER))
    assert trial.preview(program)["release"] == "create"
    assert lab.audit(CLUSTER)[written:] == []
    trial.up(program)
    assert settings() == {"licence": "very-secret-licence", "size": "1"}
    assert trial.outputs()["status"].items() >= {"status": "deployed", "version": "1.0.0", "revision": 1}.items()
    assert "very-secret-licence" not in trial.at_rest()
    assert trial.up(program, refresh=True) == {}

    assert trial.up(lambda: program(size=2)) == {"release": "update"}
    assert settings()["size"] == "2"

    packed_chart(tmp_path, "settings", "1.1.0", template)
    assert trial.preview(lambda: program(size=2)) == {"release": "update"}
    trial.up(lambda: program(size=2))
    assert trial.outputs()["status"].items() >= {"version": "1.1.0", "revision": 3}.items()
    assert records(core, namespace) == ["superseded", "deployed"]

    # Somebody upgrades by hand.
    helm(lab, namespace, "upgrade", "settings", chart, "--reuse-values", "--set", "size=7")
    assert settings()["size"] == "7"
    assert trial.up(lambda: program(size=2), refresh=True) == {"release": "update"}
    assert settings()["size"] == "2"

    # Somebody uninstalls it.
    helm(lab, namespace, "uninstall", "settings")
    assert trial.up(lambda: program(size=2), refresh=True)["release"] == "create"
    assert settings()["size"] == "2"

    trial.destroy()
    assert records(core, namespace) == []


def test_a_release_installs_what_a_command_makes_of_it_and_fails_with_the_commands_words(
    trial: Trial, connect: Connect, core: Core, namespace: str, tmp_path: Path
) -> None:
    chart = packed_chart(tmp_path, "settings", "1.0.0", config_map("settings", words="as the chart says"))
    for name, command in {
        "edit": "sed 's/the chart says/we say/'",
        "fail": "echo no tolerations here >&2; exit 3",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{command}\n")
        (tmp_path / name).chmod(0o755)
    edit, fail = (from_the_project(tmp_path / name) for name in ("edit", "fail"))

    def program(command: str) -> None:
        k8s.helm.v3.Release(
            "release", name="settings", namespace=namespace, chart=chart, postrender=command, opts=connect()
        )

    assert "no tolerations here" in trial.failing_up(lambda: program(fail))
    assert records(core, namespace) == []

    trial.up(lambda: program(edit))
    assert core.read_namespaced_config_map("settings", namespace).data == {"words": "as we say"}
    assert trial.up(lambda: program(edit), refresh=True) == {}

    assert "no tolerations here" in trial.failing_up(lambda: program(fail))
    assert records(core, namespace) == ["deployed"]


def helm(lab: Lab, namespace: str, *arguments: str) -> None:
    place = ["--kubeconfig", str(lab.kubeconfig), "--kube-context", CLUSTER, "--namespace", namespace]
    subprocess.run([lab.tool("helm"), *arguments, *place], check=True, capture_output=True)


def test_a_release_that_failed_is_upgraded_by_the_next_run(
    trial: Trial,
    connect: Connect,
    core: Core,
    namespace: str,
    tmp_path: Path,
) -> None:
    chart = packed_chart(tmp_path, "slow", "1.0.0", NEVER_READY)

    def program(skip_await: bool) -> None:
        k8s.helm.v3.Release(
            "release",
            name="slow",
            namespace=namespace,
            chart=chart,
            timeout=2,
            skip_await=skip_await,
            opts=connect(),
        )

    assert "context deadline exceeded" in trial.failing_up(lambda: program(skip_await=False))
    assert records(core, namespace) == ["failed"]
    assert trial.state()["release"]["initErrors"]

    assert trial.up(lambda: program(skip_await=True)) == {"release": "update"}
    assert records(core, namespace)[1:] == ["deployed"]


def test_an_interrupted_release_is_recorded_as_failed_and_upgraded_by_the_next_run(
    trial: Trial,
    connect: Connect,
    core: Core,
    namespace: str,
    tmp_path: Path,
) -> None:
    chart = packed_chart(tmp_path, "slow", "1.0.0", NEVER_READY)

    def program(skip_await: bool) -> None:
        k8s.helm.v3.Release(
            "release", name="slow", namespace=namespace, chart=chart, skip_await=skip_await, opts=connect()
        )

    with ThreadPoolExecutor() as pool:
        running = pool.submit(trial.failing_up, lambda: program(skip_await=False))
        awaited(lambda: records(core, namespace) == ["pending-install"])
        (engine,) = [process for process in psutil.Process().children(recursive=True) if "up" in process.cmdline()]
        engine.send_signal(signal.SIGINT)
        running.result()

    assert records(core, namespace) == ["failed"]
    assert trial.up(lambda: program(skip_await=True)) == {"release": "update"}
    assert records(core, namespace)[1:] == ["deployed"]


def test_a_provider_that_is_killed_leaves_a_pending_record(
    trial: Trial,
    connect: Connect,
    core: Core,
    namespace: str,
    tmp_path: Path,
) -> None:
    chart = packed_chart(tmp_path, "slow", "1.0.0", NEVER_READY)

    def program() -> None:
        k8s.helm.v3.Release("release", name="slow", namespace=namespace, chart=chart, opts=connect())

    with ThreadPoolExecutor() as pool:
        running = pool.submit(trial.failing_up, program)
        awaited(lambda: records(core, namespace) == ["pending-install"])
        (provider,) = [process for process in psutil.Process().children(recursive=True) if serves_kubernetes(process)]
        helpers = provider.children(recursive=True)
        provider.kill()
        running.result()

    assert psutil.wait_procs(helpers, timeout=10)[1] == [], "what the provider ran must not go on without it"
    assert records(core, namespace) == ["pending-install"]


def test_a_provider_whose_engine_is_killed_finishes_what_it_is_at(
    trial: Trial,
    connect: Connect,
    core: Core,
    namespace: str,
    tmp_path: Path,
) -> None:
    chart = packed_chart(tmp_path, "slow", "1.0.0", NEVER_READY)

    def program() -> None:
        k8s.helm.v3.Release("release", name="slow", namespace=namespace, chart=chart, opts=connect())

    with ThreadPoolExecutor() as pool:
        running = pool.submit(trial.failing_up, program)
        awaited(lambda: records(core, namespace) == ["pending-install"])
        (engine,) = [process for process in psutil.Process().children(recursive=True) if "up" in process.cmdline()]
        (provider,) = [process for process in engine.children() if serves_kubernetes(process)]
        engine.kill()
        running.result()
    core.patch_namespaced_persistent_volume_claim_status("never", namespace, {"status": {"phase": "Bound"}})

    awaited(lambda: records(core, namespace) == ["deployed"])
    # The real plugin asks every five minutes only whether its engine is still there.
    end([provider])
    trial.stack.cancel()
    assert "release" not in trial.state()


def serves_kubernetes(process: psutil.Process) -> bool:
    command = " ".join(process.cmdline())
    return "pulumi-resource-kubernetes" in command or "lab.providers kubernetes" in command
