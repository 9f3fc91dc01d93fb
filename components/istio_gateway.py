"""The relay behind an Istio ingress gateway, by TLS passthrough. Vendor page: prerequisites, option 2.

Owns a Gateway and a VirtualService beside the relay. Istio, its gateway's pods and their Service are
there already and belong to somebody else.
"""

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from components import product
from components.settings import IstioGatewaySettings


@dataclass(frozen=True, kw_only=True)
class IstioGatewayArgs:
    """What the way through the gateway needs to know."""

    gateway: IstioGatewaySettings
    namespace: pulumi.Input[str]
    """The relay's."""
    authority: str
    """The server name agents ask for (SNI), by which the gateway knows the relay's connections."""
    relay_host: str
    """The relay Service's full name in its cluster."""


class IstioGateway(pulumi.ComponentResource):
    """The way through the gateway, on the cluster of the provider it is given."""

    route: k8s.apiextensions.CustomResource
    """Made last: when it is there, the gateway knows the way."""

    def __init__(self, name: str, args: IstioGatewayArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gloo-mesh:index:IstioGateway", name, None, opts)
        port = args.gateway.port
        gateway = k8s.apiextensions.CustomResource(
            f"{name}-gateway",
            api_version=product.ISTIO_API_VERSION,
            kind="Gateway",
            metadata={"name": product.ISTIO_GATEWAY, "namespace": args.namespace},
            spec={
                "selector": args.gateway.selector,
                "servers": [
                    {
                        "port": {"number": port, "name": "https", "protocol": "HTTPS"},
                        # The relay's TLS is mutual, so it has to end at the relay.
                        "tls": {"mode": "PASSTHROUGH"},
                        "hosts": [args.authority],
                    }
                ],
            },
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.route = k8s.apiextensions.CustomResource(
            f"{name}-route",
            api_version=product.ISTIO_API_VERSION,
            kind="VirtualService",
            metadata={"name": product.ISTIO_GATEWAY, "namespace": args.namespace},
            spec={
                "hosts": [args.authority],
                "gateways": [pulumi.Output.concat(args.namespace, "/", product.ISTIO_GATEWAY)],
                "tls": [
                    {
                        "match": [{"port": port, "sniHosts": [args.authority]}],
                        "route": [{"destination": {"host": args.relay_host, "port": {"number": product.RELAY_PORT}}}],
                    }
                ],
            },
            opts=pulumi.ResourceOptions(parent=self, depends_on=[gateway]),
        )
        self.register_outputs({})
