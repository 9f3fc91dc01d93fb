"""A worker's rate limiter and external authentication, in a namespace that Istio injects.

Owns the addons' namespace, what has to be in it before them, and their release. Istio is there already.
"""

import json
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from components import product
from components.charts import Charts
from components.images import pull_secret
from components.namespace import namespace
from components.release import checksum, release
from components.secrets import Reveal
from components.settings import WorkerClusterSettings
from components.settings.clusters import layered
from components.settings.faults import LICENSE_KEY
from components.settings.fields import Values
from components.settings.values import filled
from components.values_digest import MASKED


@dataclass(frozen=True, kw_only=True)
class AddonsArgs:
    """What the addons need to know."""

    cluster: WorkerClusterSettings
    charts: Charts
    agent: k8s.helm.v3.Release
    """Of the same cluster: what configures the addons, and brings their CRDs before a new version of them."""
    before_upgrade: pulumi.ResourceHook
    reveal: Reveal


class Addons(pulumi.ComponentResource):
    """The addons on the cluster of the provider they are given, after its agent."""

    masked_values: Values
    """The release's values with secrets masked; safe to hash and to show."""

    def __init__(self, name: str, args: AddonsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gloo-mesh:index:Addons", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        cluster = args.cluster
        # Injection happens as a pod is made, so the label has to be there before the release.
        injected = product.injection(cluster.istio.revision)
        made = namespace(f"{name}-namespace", product.ADDONS_NAMESPACE, cluster.namespaces, self, injected)
        before = pull_secret(f"{name}-pull-secret", cluster.images, made.name, args.reveal, child)
        if cluster.platform == "openshift":
            before = [*before, *_openshift(name, made.name, child)]
        placement = _placement(cluster)
        self.masked_values = _values(cluster, placement, lambda _: MASKED)
        installed = release(
            f"{name}-release",
            product.ADDONS_RELEASE,
            args.charts,
            product.AGENT_CHART,
            made.name,
            args.before_upgrade,
            values=_values(cluster, placement, args.reveal),
            postrender=product.POST_RENDERER if placement else None,
            # Pods name the pull secret, and OpenShift lets them in; the chart tells Pulumi of neither.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[*before, args.agent]),
        )
        self.register_outputs({"release": installed.name})


def _values(cluster: WorkerClusterSettings, placement: Values, reveal: Reveal) -> Values:
    licence = reveal(LICENSE_KEY)
    # Istio looks at the label as a pod is made, so that another revision takes another pod.
    annotations = checksum(licence, json.dumps(product.injection(cluster.istio.revision)))
    if placement:
        annotations[product.PLACEMENT_ANNOTATION] = json.dumps(placement, sort_keys=True)
    addon: Values = {"enabled": True, "extraTemplateAnnotations": annotations}
    ours: Values = {
        "licenseKey": licence,
        "enterpriseAgent": {"enabled": False},
        "rate-limiter": addon,
        "ext-auth-service": addon,
    }
    return layered(ours, filled(cluster.values.addons, reveal))


def _placement(cluster: WorkerClusterSettings) -> Values:
    """What the post-renderer sets; empty where the chart's own defaults are to hold."""
    wanted: Values = {
        "nodeSelector": cluster.addons.node_selector,
        "tolerations": [
            toleration.model_dump(by_alias=True, exclude_none=True) for toleration in cluster.addons.tolerations
        ],
        "registry": cluster.images.registry,
        "pullSecret": cluster.images.pull_secret_name,
    }
    return {key: value for key, value in wanted.items() if value}


def _openshift(name: str, within: pulumi.Input[str], opts: pulumi.ResourceOptions) -> list[pulumi.Resource]:
    """The addons' fixed user ids allowed, and injection's network attached (vendor page: OpenShift)."""
    api_version, kind, attachment = product.ISTIO_CNI_ATTACHMENT
    return [
        k8s.rbac.v1.RoleBinding(
            f"{name}-any-user",
            metadata={"name": product.OPENSHIFT_ANY_USER, "namespace": within},
            role_ref={
                "api_group": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": product.OPENSHIFT_ANY_USER,
            },
            subjects=[
                {
                    "api_group": "rbac.authorization.k8s.io",
                    "kind": "Group",
                    "name": f"system:serviceaccounts:{product.ADDONS_NAMESPACE}",
                }
            ],
            opts=opts,
        ),
        k8s.apiextensions.CustomResource(
            f"{name}-istio-cni",
            api_version=api_version,
            kind=kind,
            metadata={"name": attachment, "namespace": within},
            opts=opts,
        ),
    ]
