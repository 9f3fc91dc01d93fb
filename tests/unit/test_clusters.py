"""What each worker has of its own, and how clusters are connected to."""

import json
import os
import pwd
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from components import product
from components.settings import ClusterSettings, Settings
from components.settings.clusters import ImagesSettings, NamespacesSettings, ResourcesSettings
from components.settings.fields import kubeconfig_source
from operations.program import is_secret
from tests.unit.conftest import CONTEXTS, Run, only_fault, unwrapped

HOME = pwd.getpwuid(os.getuid()).pw_dir
KUBECONFIG = {"contexts": [{"name": name, "context": {"cluster": "c", "user": "u"}} for name in CONTEXTS]}
REGISTRY = json.dumps({"auths": {"registry.example": {"auth": "registry-canary"}}})
Deploy = Callable[..., Run]


def one(config: dict[str, Any], **worker: Any) -> dict[str, Any]:
    """The fleet, with cluster-1 configured so."""
    return config | {"workers": {"cluster-1": worker, "cluster-2": {}}}


def values(run: Run, name: str) -> dict[str, Any]:
    return unwrapped(run.named(name, "Release").inputs["values"])


def relative(config: dict[str, Any], tmp_path: Path, *, cluster: Any = None, user: Any = None) -> str:
    """The fault of a kubeconfig in a folder of its own."""
    document = KUBECONFIG | {
        "clusters": [{"name": "c", "cluster": cluster or {}}],
        "users": [{"name": "u", "user": user or {}}],
    }
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/config").write_text(yaml.safe_dump(document))
    return only_fault(
        config
        | {"management": {"context": "mgmt-cluster", "kubeconfig": "elsewhere/config"}, "workers": {"cluster-1": {}}}
    )


class TestRefusals:
    @pytest.mark.parametrize("name", ["../x", "A B", "", "1X", "A/B"])
    def test_a_name_that_is_no_variables_is_refused(self, config: dict[str, Any], name: str) -> None:
        assert "{env: NAME} of a variable" in only_fault(config | {"kubeconfig": {"env": name}})

    def test_a_variable_that_is_not_set_is_refused_by_key_and_name(self, config: dict[str, Any]) -> None:
        assert only_fault(one(config, kubeconfig={"env": "NOT_SET_ANYWHERE"})) == (
            "gloo-mesh:workers.cluster-1.kubeconfig is {env: NOT_SET_ANYWHERE}; the environment has no "
            "NOT_SET_ANYWHERE; set it to the path of a kubeconfig."
        )

    def test_a_variable_with_several_paths_is_refused(
        self, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SEVERAL", os.pathsep.join(["a", "b"]))

        assert "SEVERAL holds several paths" in only_fault(config | {"kubeconfig": {"env": "SEVERAL"}})

    def test_a_secret_kubeconfig_in_plaintext_is_refused_without_repeating_it(self, config: dict[str, Any]) -> None:
        fault = only_fault(config | {"kubeconfig": {"secret": "ours"}, "ours": yaml.safe_dump(KUBECONFIG)})

        assert "gloo-mesh:ours is in plaintext" in fault
        assert "contexts" not in fault

    def test_a_missing_secret_kubeconfig_is_told_once(self, config: dict[str, Any]) -> None:
        assert "gloo-mesh:ours is missing" in only_fault(config | {"kubeconfig": {"secret": "ours"}})

    @pytest.mark.parametrize("content", ["canary", "[canary]", "{canary: 1}", '{"contexts": 7}'])
    def test_a_secret_that_is_no_kubeconfig_is_refused_without_repeating_it(
        self, config: dict[str, Any], content: str, deploy: Deploy
    ) -> None:
        with pytest.raises(pulumi.RunError, match=r"\{secret: ours\}; it isn.t a kubeconfig") as refused:
            deploy(config | {"kubeconfig": {"secret": "ours"}, "ours": content}, ("licenseKey", "ours"))

        assert "canary" not in str(refused.value)

    @pytest.mark.parametrize("key", ["client-certificate", "client-key", "tokenFile"])
    def test_a_users_path_relative_to_the_kubeconfig_is_refused(
        self, config: dict[str, Any], key: str, tmp_path: Path
    ) -> None:
        assert f"whose {key}: x.pem is relative to elsewhere/config" in relative(config, tmp_path, user={key: "x.pem"})

    def test_an_authority_relative_to_the_kubeconfig_is_refused(self, config: dict[str, Any], tmp_path: Path) -> None:
        fault = relative(config, tmp_path, cluster={"certificate-authority": "ca.crt"})

        assert "Pulumi's plugin would look for it from the project's folder" in fault

    def test_a_plugin_relative_to_the_kubeconfig_is_refused(self, config: dict[str, Any], tmp_path: Path) -> None:
        assert "whose command: ./login" in relative(config, tmp_path, user={"exec": {"command": "./login"}})

    @pytest.mark.parametrize("label", ["istio-injection", "istio.io/rev"])
    def test_injection_by_hand_is_refused(self, config: dict[str, Any], label: str) -> None:
        fault = only_fault(one(config, namespaces={"labels": {label: "x"}}))

        assert "gloo-mesh:workers.cluster-1.namespaces.labels is a mapping" in fault
        assert "name a revision with istio.revision" in fault

    @pytest.mark.parametrize("labels", [{"a b": "x"}, {"x": "a b"}, {"x": "y" * 64}, {"": "x"}, {"x/y/z": "x"}])
    def test_labels_that_are_none_are_refused(self, config: dict[str, Any], labels: dict[str, str]) -> None:
        assert "labels are needed" in only_fault(config | {"defaults": {"namespaces": {"labels": labels}}})

    def test_a_toleration_that_is_none_is_refused(self, config: dict[str, Any]) -> None:
        fault = only_fault(one(config, addons={"tolerations": [{"kye": "mesh"}]}))

        assert fault == "gloo-mesh:workers.cluster-1.addons.tolerations.0.kye is not a setting; the nearest is key."


class TestConnections:
    def test_a_path_stays_as_it_is_written(self, config: dict[str, Any], deploy: Deploy, tmp_path: Path) -> None:
        (tmp_path / "kubeconfig").rename(tmp_path / "other")
        run = deploy(config | {"kubeconfig": "other"})

        assert {r.inputs["kubeconfig"] for r in run.of_type("providers:kubernetes")} == {"other"}

    def test_what_the_state_keeps_of_a_variable_is_the_same_for_everybody(
        self, config: dict[str, Any], deploy: Deploy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[dict[str, Any]] = []
        for home in ("anna", "ben"):
            (tmp_path / home).mkdir()
            (tmp_path / home / "config").write_text(yaml.safe_dump(KUBECONFIG))
            monkeypatch.setenv("HOME", str(tmp_path / home))
            monkeypatch.setenv("CLUSTERS", str(tmp_path / home / "config"))
            run = deploy(config | {"kubeconfig": {"env": "CLUSTERS"}})
            seen.append(run.named("cluster-1", "providers:kubernetes").inputs)
            assert Path(seen[-1]["kubeconfig"]).resolve() == tmp_path / home / "config"

        assert seen[0] == seen[1]
        assert seen[0]["kubeconfig"] == ".kubeconfigs/test/CLUSTERS"
        assert [file.name for file in Path(".kubeconfigs/test").iterdir()] == ["CLUSTERS"]

    @pytest.mark.parametrize("form", [yaml.safe_dump, json.dumps])
    def test_a_secrets_content_is_secret_on_the_wire(
        self, config: dict[str, Any], deploy: Deploy, form: Callable[[object], str]
    ) -> None:
        config |= {"kubeconfig": {"secret": "fleet"}, "fleet": form(KUBECONFIG | {"users": ["canary"]})}
        run = deploy(config, ("licenseKey", "fleet"))

        given = {provider.name: provider.inputs["kubeconfig"] for provider in run.of_type("providers:kubernetes")}
        assert given.keys() == {"management", "cluster-1", "cluster-2"}
        for kubeconfig in given.values():
            assert is_secret(kubeconfig)
            assert "canary" in unwrapped(kubeconfig)

    def test_contexts_are_opaque(self, config: dict[str, Any], deploy: Deploy, tmp_path: Path) -> None:
        contexts = ["default/api-dc1:6443/ci", "arn:aws:eks:eu-1:1:cluster/x", "gke_p_z_two", "a b@c"]
        document = {"contexts": [{"name": name, "context": {}} for name in contexts]}
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(document))
        workers = {f"w-{number}": {"context": name} for number, name in enumerate(contexts[1:])}
        run = deploy(config | {"management": {"context": contexts[0]}, "workers": workers})

        found = {r.inputs["clusterIdentifier"]: r.inputs["context"] for r in run.of_type("providers:kubernetes")}
        assert found == {"management": contexts[0]} | {name: worker["context"] for name, worker in workers.items()}


class TestCommands:
    """A kube context says nothing without the kubeconfig that it is in, and there are shells between."""

    @pytest.mark.parametrize(
        ("kubeconfig", "words"),
        [
            ("~/fleet one/config", ["--kubeconfig", f"{HOME}/fleet one/config"]),
            ("fleets/$a;b", ["--kubeconfig", "fleets/$a;b"]),
            ({"env": "DC2_KUBECONFIG"}, ["--kubeconfig", "/mnt/dc 2"]),
            ({"secret": "ours"}, ["--kubeconfig", "KUBECONFIG_FILE"]),
            ("~/.kube/config", []),
        ],
    )
    def test_they_reach_the_cluster_that_is_meant(
        self, kubeconfig: object, words: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("KUBECONFIG", raising=False)
        cluster = reached(kubeconfig, "admin@dc 1's", monkeypatch)

        assert typed(cluster.kubectl) == ["kubectl", *words, "--context", "admin@dc 1's"]
        assert typed(cluster.helm) == ["helm", *words, "--kube-context", "admin@dc 1's"]

    @pytest.mark.parametrize(("name", "value"), [("KUBECONFIG", "/somewhere/else"), ("HOME", "/somewhere/else")])
    def test_the_default_is_named_where_kubectl_would_take_another(
        self, name: str, value: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As Pulumi's plugin finds it, which asks the system where home is; see docs/decisions/0006."""
        cluster = reached("~/.kube/config", "c", monkeypatch)
        monkeypatch.setenv(name, value)

        assert typed(cluster.kubectl)[1:3] == ["--kubeconfig", f"{HOME}/.kube/config"]


def reached(kubeconfig: object, context: str, monkeypatch: pytest.MonkeyPatch) -> ClusterSettings:
    """A cluster as it is connected to, for somebody whose home and variable are these."""
    monkeypatch.setenv("HOME", HOME)
    monkeypatch.setenv("DC2_KUBECONFIG", "/mnt/dc 2")
    return ClusterSettings(
        name="cluster-1",
        kubeconfig=kubeconfig_source(kubeconfig),
        context=context,
        cluster_domain="cluster.local",
        platform="kubernetes",
        namespaces=NamespacesSettings(),
        images=ImagesSettings(),
        resources=ResourcesSettings(),
        version="1.2.0",
    )


def typed(command: str) -> list[str]:
    """The words that a shell makes of a command."""
    done = subprocess.run(["bash", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


class TestWorkers:
    def test_a_worker_dials_its_own_address_and_others_the_fleets(self, config: dict[str, Any], deploy: Deploy) -> None:
        run = deploy(one(config, relayAddress="relay.internal:9900"))

        assert values(run, "cluster-1-agent")["relay"]["serverAddress"] == "relay.internal:9900"
        assert values(run, "cluster-2-agent")["relay"]["serverAddress"] == "192.0.2.1:9900"

    def test_a_worker_is_registered_with_its_domain(self, config: dict[str, Any], deploy: Deploy) -> None:
        run = deploy(one(config, clusterDomain="dc1.example"))

        assert run.named("cluster-1-registration").inputs["spec"] == {"clusterDomain": "dc1.example"}

    def test_defaults_lie_under_every_worker_and_its_own_go_over_them(
        self, config: dict[str, Any], deploy: Deploy
    ) -> None:
        config["defaults"] = {
            "clusterDomain": "fleet.example",
            "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}},
            "values": {"agent": {"verbose": True, "defaultMetricsPort": 1}},
        }
        run = deploy(one(config, resources={"requests": {"cpu": "1"}}, values={"agent": {"defaultMetricsPort": 2}}))
        agents = [values(run, f"cluster-{number}-agent") for number in (1, 2)]

        assert [a["enterpriseAgent"]["resources"]["requests"] for a in agents] == [
            {"cpu": "1", "memory": "256Mi"},
            {"cpu": "100m", "memory": "256Mi"},
        ]
        assert [(a["verbose"], a["defaultMetricsPort"]) for a in agents] == [(True, 2), (True, 1)]

    def test_a_revision_injects_instead_of_the_label(self, config: dict[str, Any], deploy: Deploy) -> None:
        run = deploy(one(config, istio={"revision": "1-12"}))

        assert run.named("cluster-1-addons-namespace").inputs["metadata"]["labels"] == {"istio.io/rev": "1-12"}
        assert "labels" not in run.named("cluster-1-namespace").inputs["metadata"]

    @pytest.mark.parametrize("cluster", ["management", "cluster-1"])
    def test_somebody_elses_namespaces_are_only_labelled(
        self, config: dict[str, Any], deploy: Deploy, cluster: str
    ) -> None:
        theirs = {"create": False, "labels": {"team": "mesh"}}
        if cluster == "management":
            config["management"]["namespaces"] = theirs
        run = deploy(one(config, namespaces=theirs) if cluster == "cluster-1" else config)
        found = [r for r in run.kubernetes if r.provider == cluster and r.inputs.get("kind") == "Namespace"]

        assert {r.type for r in found} == {"kubernetes:core/v1:NamespacePatch"}
        for patch in found:
            assert set(patch.inputs) == {"apiVersion", "kind", "metadata"}
            assert patch.inputs["metadata"]["labels"].items() >= {"team": "mesh"}.items()
            assert ("istio-injection" in patch.inputs["metadata"]["labels"]) is ("addons" in patch.name)
        assert f"(UID of {cluster}-namespace)" in run.named("fleet-record").inputs["data"]["clusters"]

    def test_a_namespace_changes_hands_in_place(self, config: dict[str, Any], deploy: Deploy) -> None:
        ours = deploy(config).named("cluster-1-namespace")
        theirs = deploy(one(config, namespaces={"create": False})).named("cluster-1-namespace")

        assert ours.aliases == ("kubernetes:core/v1:NamespacePatch",)
        assert theirs.aliases == ("kubernetes:core/v1:Namespace",)

    def test_a_worker_may_have_no_addons(self, config: dict[str, Any], deploy: Deploy) -> None:
        run = deploy(one(config, addons={"enabled": False}))
        addons = [r.name for r in run.registered if "addons" in r.name]

        assert addons
        assert not [name for name in addons if name.startswith("cluster-1")]

    def test_images_come_from_the_registry_by_a_secret_made_in_both_namespaces(
        self, config: dict[str, Any], deploy: Deploy
    ) -> None:
        images = {"registry": "registry.example/mesh", "pullSecret": {"secret": "registry"}, "fips": True}
        run = deploy(one(config, images=images) | {"registry": REGISTRY}, ("licenseKey", "registry"))
        made = [run.named(name) for name in ("cluster-1-pull-secret", "cluster-1-addons-pull-secret")]

        assert values(run, "cluster-1-agent")["enterpriseAgent"]["image"] == {
            "registry": "registry.example/mesh",
            "pullSecret": product.PULL_SECRET,
            "tag": "1.2.9-fips",
        }
        assert [r.inputs["metadata"]["namespace"] for r in made] == ["gloo-mesh", "gloo-mesh-addons"]
        assert {r.inputs["type"] for r in made} == {"kubernetes.io/dockerconfigjson"}
        assert all(is_secret(r.inputs["stringData"]) for r in made)
        assert "registry-canary" not in json.dumps([r.inputs for r in run.registered if r not in made])
        assert made[0].key in run.named("cluster-1-agent").dependencies
        assert made[1].key in run.named("cluster-1-addons-release").dependencies
        assert not [r for r in run.registered if r.name.startswith("cluster-2") and "pull-secret" in r.name]

    def test_placed_addons_carry_their_placement_and_others_no_post_renderer(
        self, config: dict[str, Any], deploy: Deploy
    ) -> None:
        addons = {"nodeSelector": {"pool": "mesh"}, "tolerations": [{"key": "mesh", "operator": "Exists"}]}
        run = deploy(one(config, addons=addons, images={"registry": "registry.example", "pullSecret": "theirs"}))
        placed, plain = (run.named(f"cluster-{number}-addons-release", "Release") for number in (1, 2))

        assert placed.inputs["postrender"] == product.POST_RENDERER
        for addon in ("rate-limiter", "ext-auth-service"):
            annotations = unwrapped(placed.inputs["values"])[addon]["extraTemplateAnnotations"]
            assert json.loads(annotations[product.PLACEMENT_ANNOTATION]) == {
                **addons,
                "registry": "registry.example",
                "pullSecret": "theirs",
            }
        assert "postrender" not in plain.inputs
        assert product.PLACEMENT_ANNOTATION not in json.dumps(unwrapped(plain.inputs["values"]))

    def test_openshift_gets_floating_users_and_what_injection_needs_before_the_addons(
        self, config: dict[str, Any], deploy: Deploy
    ) -> None:
        run = deploy(one(config, platform="openshift"))
        binding, attachment = run.named("cluster-1-addons-any-user"), run.named("cluster-1-addons-istio-cni")

        assert values(run, "cluster-1-agent")["enterpriseAgent"]["floatingUserId"] is True
        assert "floatingUserId" not in values(run, "cluster-2-agent")["enterpriseAgent"]
        assert binding.inputs["subjects"][0]["name"] == "system:serviceaccounts:gloo-mesh-addons"
        assert attachment.inputs["kind"] == "NetworkAttachmentDefinition"
        assert {binding.key, attachment.key} <= run.named("cluster-1-addons-release").dependencies
        assert not [r for r in run.registered if r.name.startswith("cluster-2") and r.name.endswith("any-user")]

    def test_a_plain_workers_values_are_what_they_always_were(self, stack: Run) -> None:
        assert set(values(stack, "cluster-1-agent")) == {"relay", "settingsRef", "enterpriseAgent"}
        assert set(values(stack, "cluster-1-agent")["enterpriseAgent"]) == {"deploymentOverrides"}
        assert values(stack, "cluster-1-addons-release").keys() == {
            "licenseKey",
            "enterpriseAgent",
            "rate-limiter",
            "ext-auth-service",
        }
        assert stack.named("cluster-1-namespace").inputs["metadata"] == {"name": "gloo-mesh"}
        assert Settings.model_fields["defaults"].default.model_fields_set == set()
