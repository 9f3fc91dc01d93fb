"""How workers reach the relay, as configured. Vendor page: prerequisites, ingress setup, options 1 and 2."""

from collections.abc import Collection, Iterator
from typing import Literal

from pydantic import Field

from components.settings.faults import PROJECT
from components.settings.fields import Address, DnsLabel, Labels, Seconds, Section


class IstioGatewaySettings(Section):
    """The relay behind an Istio ingress gateway that is there already, by TLS passthrough."""

    selector: Labels = Field(default_factory=lambda: {"istio": "ingressgateway"}, min_length=1)
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
    """The relay's own Service; behind an Istio gateway it is ClusterIP, and needn't be written."""
    annotations: Labels = Field(default_factory=dict)
    """Of the relay's Service: a cloud's load balancer is configured by them."""
    istio_gateway: IstioGatewaySettings | None = None
    """Expose the relay through an Istio ingress gateway."""
    address: Address | None = None
    """What workers dial, host:port; read from the Service or the gateway when not given."""
    ready_within: Seconds = 300
    """How long an address may take to appear, and then to resolve and answer."""
    dial_from_here: bool = True
    """Whether the address can be reached from where the program runs; false for a private one."""

    @property
    def service_type(self) -> Literal["LoadBalancer", "NodePort", "ClusterIP"]:
        """The type of the relay's own Service: behind a gateway only the gateway has to reach it."""
        return "ClusterIP" if self.istio_gateway else self.service

    def contradictions(self, addressless: Collection[str]) -> Iterator[str]:
        """A sentence for each; `addressless` names the workers without a relayAddress of their own."""
        if self.istio_gateway and "service" in self.model_fields_set and self.service != "ClusterIP":
            yield (
                f"{PROJECT}:relay.service is {self.service}, but behind {PROJECT}:relay.istioGateway the relay's own "
                f"Service is ClusterIP; leave relay.service out. How the gateway's Service is exposed is written in "
                f"{PROJECT}:relay.istioGateway.service."
            )
        if self.service == "ClusterIP" and not self.istio_gateway and not self.address and addressless:
            yield (
                f"{PROJECT}:relay.service is ClusterIP, which other clusters can't reach, so "
                f"{', '.join(sorted(addressless))} would have nothing to dial; write {PROJECT}:relay.address, "
                f"{PROJECT}:relay.istioGateway or {PROJECT}:workers.{min(addressless)}.relayAddress."
            )
