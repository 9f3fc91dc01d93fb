"""A worker's rate limiter and external authentication, in a namespace that Istio injects.

Owns the addons namespace and release of one worker. Istio and its webhook are there already.
"""

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from components import product
from components.charts import Charts
from components.management_plane import MASKED
from components.release import release


@dataclass(frozen=True, kw_only=True)
class AddonsArgs:
    """What the addons need to know."""

    charts: Charts
    license_key: pulumi.Input[str]
    before_upgrade: pulumi.ResourceHook


class Addons(pulumi.ComponentResource):
    """The addons on the cluster of the provider they are given. They wait for no relay."""

    masked_values: dict[str, pulumi.Input[object]]
    """The release's values with the licence masked; safe to hash and to show."""

    def __init__(self, name: str, args: AddonsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gloo-mesh:index:Addons", name, None, opts)
        # Injection happens as a pod is made, so the label has to be there before the release.
        namespace = k8s.core.v1.Namespace(
            f"{name}-namespace",
            metadata={"name": product.ADDONS_NAMESPACE, "labels": product.INJECTION_LABEL},
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.masked_values = _values(MASKED)
        installed = release(
            f"{name}-release",
            product.ADDONS_RELEASE,
            args.charts,
            product.AGENT_CHART,
            namespace.metadata.name,
            args.before_upgrade,
            values=_values(args.license_key),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({"release": installed.name})


def _values(license_key: pulumi.Input[str]) -> dict[str, pulumi.Input[object]]:
    return {
        "licenseKey": license_key,
        "enterpriseAgent": {"enabled": False},
        "rate-limiter": {"enabled": True},
        "ext-auth-service": {"enabled": True},
    }
