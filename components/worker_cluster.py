"""One worker: namespace, its copy of the trust anchor, CRDs, agent and registration.

Owns what the agent needs on its own cluster, and the worker's KubernetesCluster on the management
cluster. A worker never gets a key of an authority. Its addons are a component of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from components import product
from components.charts import Charts
from components.enrolment import end_of_enrolment, start_of_enrolment
from components.images import image_values, pull_secret
from components.management_plane import ManagementPlane
from components.namespace import Namespace, namespace
from components.relay_pki import RelayPki
from components.release import annotated, checksum, crds_release, release
from components.secrets import Reveal, opaque_secret
from components.settings import WorkerClusterSettings
from components.settings.clusters import layered
from components.settings.fields import Values
from components.settings.values import filled
from components.values_digest import MASKED

# In state; rename with an alias.
_SECRETS = {
    product.RELAY_ROOT_SECRET: "relay-root",
    product.RELAY_TOKEN_SECRET: "relay-token",
    product.RELAY_CLIENT_SECRET: "relay-client",
}


@dataclass(frozen=True, kw_only=True)
class WorkerClusterArgs:
    """What a worker needs to know."""

    cluster: WorkerClusterSettings
    namespace: str
    charts: Charts
    pki: RelayPki
    authority: str
    before_upgrade: pulumi.ResourceHook
    relay_address: pulumi.Input[str]
    relay_needs: Sequence[pulumi.CustomResource]
    """What has to be there before an agent finds the relay at that address."""
    reveal: Reveal
    management: ManagementPlane
    management_provider: k8s.Provider
    """For the registration alone; everything else goes to the component's own provider."""
    webhook_not_ready: pulumi.ErrorHook


class WorkerCluster(pulumi.ComponentResource):
    """An agent on the cluster of the provider it is given, registered with the management plane."""

    namespace: Namespace
    agent: k8s.helm.v3.Release
    registration: k8s.apiextensions.CustomResource
    masked_values: Values
    """The agent release's values with secrets masked; safe to hash and to show."""

    def __init__(self, name: str, args: WorkerClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gloo-mesh:index:WorkerCluster", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.namespace = namespace(f"{name}-namespace", args.namespace, args.cluster.namespaces, self)
        within = self.namespace.name
        contents = args.pki.worker_secrets(args.cluster.name)
        enrols = args.pki.identity_token is not None
        ends = [end_of_enrolment(args.cluster, args.namespace)] if enrols else []
        starts = (
            [start_of_enrolment(args.cluster, args.namespace)] if enrols and not args.cluster.namespaces.create else []
        )
        # An agent that restarts with what the relay doesn't know yet would be out until it does.
        after_relay = pulumi.ResourceOptions(parent=self, depends_on=[args.management.release])
        anchor = opaque_secret(
            f"{name}-{_SECRETS[product.RELAY_ROOT_SECRET]}",
            product.RELAY_ROOT_SECRET,
            within,
            contents.pop(product.RELAY_ROOT_SECRET),
            pulumi.ResourceOptions(
                parent=self,
                depends_on=[args.management.release],
                hooks=pulumi.ResourceHookBinding(before_update=[*ends]),
            ),
            {product.ISSUER_ANNOTATION: args.pki.issuer()},
        )
        secrets = [
            anchor,
            *(
                opaque_secret(f"{name}-{_SECRETS[secret_name]}", secret_name, within, content, after_relay)
                for secret_name, content in contents.items()
            ),
        ]
        secrets += pull_secret(f"{name}-pull-secret", args.cluster.images, within, args.reveal, child)
        crds = crds_release(f"{name}-crds", args.charts, product.AGENT_CHART, within, args.before_upgrade, child)
        self.masked_values = _values(args, MASKED, lambda _: MASKED)
        self.agent = release(
            f"{name}-agent",
            product.AGENT_RELEASE,
            args.charts,
            product.AGENT_CHART,
            within,
            args.before_upgrade,
            values=_values(args, args.pki.worker_fingerprint(args.cluster.name), args.reveal),
            # The chart looks its secrets up by name, which Pulumi cannot see, as it can't that a relay must answer
            # behind an address that is configured.
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[*secrets, crds, *args.relay_needs],
                hooks=pulumi.ResourceHookBinding(before_create=[*starts]),
            ),
        )
        self.registration = k8s.apiextensions.CustomResource(
            f"{name}-registration",
            api_version=product.CLUSTER_API_VERSION,
            kind=product.CLUSTER_KIND,
            metadata={"name": args.cluster.name, "namespace": args.management.namespace.name},
            spec={"clusterDomain": args.cluster.cluster_domain},
            opts=pulumi.ResourceOptions(
                parent=self,
                provider=args.management_provider,
                # Removed before the agent and the kind it is made of, as the vendor deregisters.
                depends_on=[self.agent, args.management.crds],
                hooks=pulumi.ResourceHookBinding(on_error=[args.webhook_not_ready]),
            ),
        )
        self.register_outputs({"agent": self.agent.name})


def _values(args: WorkerClusterArgs, trust: pulumi.Input[str], reveal: Reveal) -> Values:
    """What isn't configured isn't written, so that the chart's own defaults hold; what is passed through comes last."""
    cluster = args.cluster
    agent: Values = {"deploymentOverrides": annotated(checksum(trust))}
    if image := image_values(cluster.images, cluster.version):
        agent["image"] = image
    if resources := cluster.resources.model_dump(exclude_defaults=True):
        agent["resources"] = resources
    if cluster.platform == "openshift":
        agent["floatingUserId"] = True
    ours: Values = {
        "relay": {
            "cluster": cluster.name,
            "serverAddress": args.relay_address,
            "authority": args.authority,
        },
        "settingsRef": {"namespace": args.namespace},
        "enterpriseAgent": agent,
    }
    return layered(ours, filled(cluster.values.agent, reveal))
