"""The management cluster: its namespace, the relay's secrets, the CRDs and the vendor's release.

Owns these; what else is on the management cluster has components of its own. The namespace is never
labelled for injection: the management plane must not depend on Istio's webhook (vendor page, production best practice).
"""

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from components import product
from components.images import pull_secret
from components.management_values import management_values
from components.namespace import Namespace, namespace
from components.relay_pki import RelayPki
from components.release import crds_release, release
from components.secrets import Reveal, opaque_secret
from components.settings import Settings
from components.settings.fields import Values
from components.values_digest import MASKED


@dataclass(frozen=True, kw_only=True)
class ManagementPlaneArgs:
    """What the management plane needs to know."""

    settings: Settings
    pki: RelayPki
    before_upgrade: pulumi.ResourceHook
    reveal: Reveal
    no_address: pulumi.ErrorHook
    """Told when the release isn't ready by then."""


class ManagementPlane(pulumi.ComponentResource):
    """Gloo Mesh Enterprise itself, on the cluster of the provider it is given."""

    namespace: Namespace
    crds: k8s.helm.v3.Release
    release: k8s.helm.v3.Release
    masked_values: Values
    """The release's values with secrets masked; safe to hash and to show."""

    def __init__(self, name: str, args: ManagementPlaneArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gloo-mesh:index:ManagementPlane", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        settings, charts = args.settings, args.settings.charts
        cluster = settings.management_cluster
        self.namespace = namespace(f"{name}-namespace", settings.namespace, cluster.namespaces, self)
        within = self.namespace.name
        secrets = [
            opaque_secret(f"{name}-{secret_name}", secret_name, within, content, child)
            for secret_name, content in args.pki.management_secrets().items()
        ]
        secrets += pull_secret(f"{name}-pull-secret", cluster.images, within, args.reveal, child)
        self.crds = crds_release(f"{name}-crds", charts, product.MANAGEMENT_CHART, within, args.before_upgrade, child)
        self.release = release(
            f"{name}-release",
            product.MANAGEMENT_RELEASE,
            charts,
            product.MANAGEMENT_CHART,
            within,
            args.before_upgrade,
            values=management_values(settings, args.pki.management_fingerprint(), args.reveal),
            timeout=settings.relay.ready_within,
            opts=pulumi.ResourceOptions(
                parent=self,
                # The chart finds its secrets by name and uses kinds of its own, which Pulumi cannot see.
                depends_on=[*secrets, self.crds],
                # Helm's own wait for the load balancer fails before ours could.
                hooks=pulumi.ResourceHookBinding(on_error=[args.no_address]),
            ),
        )
        self.masked_values = management_values(settings, MASKED, lambda _: MASKED)
        self.register_outputs({"release": self.release.name})
