"""How workers reach the relay, as configured. Vendor page: prerequisites, ingress setup, options 1 and 2."""

from typing import Literal

from pydantic import Field

from components.settings.fields import Address, DnsLabel, Labels, Seconds, Section


class IstioGatewaySettings(Section):
    """The relay behind an Istio ingress gateway that is there already, by TLS passthrough."""

    selector: Labels = Field(default_factory=lambda: {"istio": "ingressgateway"})
    """Labels of the gateway's pods."""
    namespace: DnsLabel = "istio-system"
    """Where the gateway's Service is."""
    name: DnsLabel = "istio-ingressgateway"
    """What the gateway's Service is called; its port must be named https."""
    service: Literal["LoadBalancer", "NodePort"] = "LoadBalancer"
    """How that Service is exposed."""
    port: int = Field(443, ge=1, le=65535)
    """The port the Gateway listens on."""


class RelaySettings(Section):
    """How agents reach the relay server."""

    service: Literal["LoadBalancer", "NodePort", "ClusterIP"] = "LoadBalancer"
    """The relay's own Service; ClusterIP behind an Istio gateway."""
    annotations: Labels = Field(default_factory=dict)
    """Of the relay's Service: a cloud's load balancer is configured by them."""
    istio_gateway: IstioGatewaySettings | None = None
    """Expose the relay through an Istio ingress gateway."""
    address: Address | None = None
    """What workers dial, host:port; read from the Service or the gateway when not given."""
    ready_within: Seconds = 300
    """How long an address may take to appear, resolve and answer."""
    dial_from_here: bool = True
    """Whether the address can be reached from where the program runs; false for a private one."""
