"""How workers reach the relay: by which address, and that it answers.

Owns what finds the address of the relay's Service, or of the Istio gateway's, and the way through that
gateway; both Services are somebody else's. Nothing read here depends on what the release puts out, so
a change of the management plane alone leaves the workers quiet in a preview; another load balancer that the
configuration asks for doesn't. See docs/decisions/0002 and 0005.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import pulumi
import pulumi_kubernetes as k8s
from pulumi.output import UNKNOWN

from components import product
from components.istio_gateway import IstioGateway, IstioGatewayArgs
from components.management_plane import ManagementPlane
from components.relay_dial import answer
from components.settings import ClusterSettings, RelaySettings
from components.settings.pem import fingerprint

_TIMEOUTS = ("deadline exceeded", "timed out", "failed to fully initialize", "failed to become available")
_NODE_ADDRESSES = ("ExternalIP", "InternalIP", "Hostname")
"""Types of a node's addresses, the one that most clusters can reach first."""


@dataclass(frozen=True, kw_only=True)
class RelayExposureArgs:
    """What the exposure needs to know."""

    relay: RelaySettings
    cluster: ClusterSettings
    """The management cluster."""
    namespace: str
    authority: str
    root_pem: pulumi.Input[str]
    """What the relay's certificate is checked against."""
    management: ManagementPlane
    no_address: pulumi.ErrorHook
    """Told when no address appears."""


class NotReadyError(pulumi.RunError):
    """What may come with time, or with a change of the relay's: a pod that is ready, an address."""


class RelayExposure(pulumi.ComponentResource):
    """The relay's address on the management cluster."""

    address: pulumi.Output[str]
    """host:port for workers without an address of their own."""
    node: pulumi.Output[str] | None = None
    """Behind a node port: the node whose address that is."""
    needed: list[pulumi.CustomResource]
    """What has to be there before an agent finds the relay behind its address."""

    def __init__(self, name: str, args: RelayExposureArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gloo-mesh:index:RelayExposure", name, None, opts)
        self._args = args
        self._name = name
        self._answering: dict[str | None, pulumi.Output[str]] = {}
        self.needed = [args.management.release]
        relay, gateway = args.relay, args.relay.istio_gateway
        relay_host = f"{product.RELAY_SERVICE}.{args.namespace}.svc.{args.cluster.cluster_domain}"
        if gateway:
            behind = IstioGateway(
                f"{name}-istio",
                IstioGatewayArgs(
                    gateway=gateway,
                    namespace=args.management.namespace.name,
                    authority=args.authority,
                    relay_host=relay_host,
                ),
                pulumi.ResourceOptions(parent=self),
            )
            self.needed.append(behind.route)
        if relay.address:
            self.address = pulumi.Output.from_input(relay.address)
        elif gateway:
            called = f"{gateway.namespace}/{gateway.name}"
            service = k8s.core.v1.Service.get(f"{name}-gateway-service", called, pulumi.ResourceOptions(parent=self))
            self.address = self._found(service, gateway.service, called, product.ISTIO_GATEWAY_PORT)
        elif relay.service == "ClusterIP":
            self.address = pulumi.Output.from_input(f"{relay_host}:{product.RELAY_PORT}")
        else:
            called = f"{args.namespace}/{product.RELAY_SERVICE}"
            self.address = self._found(self._relays_service(), relay.service, called, product.RELAY_PORT_NAME)
        self.register_outputs({"address": self.address})

    def address_for(self, own: str | None) -> pulumi.Output[str]:
        """What a worker dials, `own` its own address if it has one; in a real run, once that answers."""
        if own not in self._answering:
            address = pulumi.Output.from_input(own) if own else self.address
            dialled = self._args.relay.dial_from_here and not pulumi.runtime.is_dry_run()
            self._answering[own] = self._once_it_answers(address) if dialled else address
        return self._answering[own]

    def _once_it_answers(self, address: pulumi.Output[str]) -> pulumi.Output[str]:
        args = self._args

        async def dial(known: Sequence[str]) -> str:
            address, root_pem, *_ = known
            await answer(address, args.authority, root_pem, args.relay.ready_within)
            return address

        # Their ids come when they are ready. In a preview they would make every address unknown.
        return pulumi.Output.all(address, args.root_pem, *(needed.id for needed in self.needed)).apply(dial)

    def _relays_service(self) -> k8s.core.v1.ServicePatch:
        within = f"{self._args.relay.ready_within}s"
        balanced = self._args.relay.service == "LoadBalancer"
        # Ten times quicker than the provider's own wait for a Service, which a node port is left to: that one
        # also waits for pods.
        annotations = {"pulumi.com/waitFor": "jsonpath={.status.loadBalancer.ingress}"} if balanced else {}
        if balanced and (asked := self._args.relay.annotations):
            annotations[product.BALANCER_ANNOTATION] = fingerprint(json.dumps(asked, sort_keys=True))
        return k8s.core.v1.ServicePatch(
            f"{self._name}-service",
            metadata={"name": product.RELAY_SERVICE, "namespace": self._args.namespace, "annotations": annotations},
            opts=pulumi.ResourceOptions(
                parent=self,
                # The chart makes the Service; nothing of the release flows in here, see above.
                depends_on=[self._args.management.release],
                custom_timeouts=pulumi.CustomTimeouts(create=within, update=within),
                hooks=pulumi.ResourceHookBinding(on_error=[self._args.no_address]),
            ),
        )

    def _found(
        self,
        service: k8s.core.v1.Service | k8s.core.v1.ServicePatch,
        exposed: str,
        called: str,
        port_name: str,
    ) -> pulumi.Output[str]:
        child = pulumi.ResourceOptions(parent=self)
        # Nested, because Output.all would turn the typed values into plain dicts.
        if exposed == "LoadBalancer":
            return service.spec.apply(
                lambda spec: service.status.apply(
                    lambda status: self._now_or_later(lambda: balanced_address(called, port_name, spec, status))
                )
            )
        endpoints = k8s.core.v1.Endpoints.get(f"{self._name}-endpoints", service.id, child)
        self.node = endpoints.subsets.apply(lambda subsets: self._now_or_later(lambda: ready_node(called, subsets)))
        node = k8s.core.v1.Node.get(f"{self._name}-node", self.node, child)
        return service.spec.apply(
            lambda spec: node.status.apply(lambda status: node_address(called, port_name, spec, status))
        )

    def _now_or_later(self, find: Callable[[], str]) -> str:
        """What is found; a preview leaves unknown what isn't ready, as the run may be what mends the relay."""
        try:
            return find()
        except NotReadyError as lacking:
            if self._args.relay.istio_gateway or not pulumi.runtime.is_dry_run():
                raise
            pulumi.log.warn(
                f"{lacking} Until then the address is unknown to a preview, and every agent seems to change."
            )
            return cast("str", UNKNOWN)


Spec = k8s.core.v1.outputs.ServiceSpec | k8s.core.v1.outputs.ServiceSpecPatch | None
Status = k8s.core.v1.outputs.ServiceStatus | k8s.core.v1.outputs.ServiceStatusPatch | None


def balanced_address(service: str, port_name: str, spec: Spec, status: Status) -> str:
    """host:port of a load balancer: an IP (GKE) or a hostname (EKS) of the first entry that has one.

    Raises RunError without such a port, NotReadyError without a host: an agent would dial ":9900" for ever.
    """
    ingress = status.load_balancer.ingress or [] if status and status.load_balancer else []
    host = next((entry.ip or entry.hostname for entry in ingress if entry.ip or entry.hostname), None)
    port = next((entry.port for entry in _ports(spec) if entry.name == port_name), None)
    if not host or not port:
        unusable = _unusable(service, port_name, spec, f"{len(ingress)} load balancer addresses")
        raise NotReadyError(unusable) if port else pulumi.RunError(unusable)
    return _joined(host, port)


def ready_node(service: str, subsets: Sequence[k8s.core.v1.outputs.EndpointSubset] | None) -> str:
    """The node of a ready pod of a Service, the first by name: another pod may move it, and every agent with it.

    Raises NotReadyError when there is none. Vendor page: a node port may lead nowhere on other nodes.
    """
    ready = [address for subset in subsets or [] for address in subset.addresses or []]
    nodes = [address.node_name for address in ready if address.node_name]
    if not nodes:
        raise NotReadyError(
            f"Service {service} has no ready pod on any node, so there is no node for agents to dial. Look at its "
            "pods, and run again when one is ready."
        )
    return min(nodes)


def node_address(service: str, port_name: str, spec: Spec, status: k8s.core.v1.outputs.NodeStatus | None) -> str:
    """host:port of a node port, by the node's address that most clusters can reach.

    Raises RunError without one, or without such a port.
    """
    addresses = status.addresses or [] if status else []
    known = {entry.type: entry.address for entry in reversed(addresses)}
    host = next((known[kind] for kind in _NODE_ADDRESSES if kind in known), None)
    port = next((entry.node_port for entry in _ports(spec) if entry.name == port_name), None)
    if not host or not port:
        raise pulumi.RunError(
            _unusable(service, port_name, spec, f"a node with addresses of types {', '.join(known) or 'none'}")
        )
    return _joined(host, port)


def _ports(
    spec: Spec,
) -> Sequence[k8s.core.v1.outputs.ServicePort | k8s.core.v1.outputs.ServicePortPatch]:
    return spec.ports or [] if spec else []


def _joined(host: str, port: float) -> str:
    return f"[{host}]:{int(port)}" if ":" in host else f"{host}:{int(port)}"


def _unusable(service: str, port_name: str, spec: Spec, found: str) -> str:
    ports = ", ".join(f"{entry.name} {entry.port:g}" for entry in _ports(spec)) or "none"
    return (
        f"Service {service} gives agents nothing to dial: it is of type {spec.type if spec else 'unknown'}, has "
        f"{found} and the ports {ports}; needed are an address and a port named {port_name}. Mend that Service, or "
        "write how workers reach the relay under gloo-mesh:relay (service, istioGateway or address)."
    )


def no_address(cluster: ClusterSettings, namespace: str, relay: RelaySettings) -> pulumi.ErrorHook:
    """A hook that says what wasn't ready in time, where, and what to do; it never retries."""
    where = f"in namespace {namespace} on cluster {cluster.name} (context {cluster.context})"
    look = f"See which: {cluster.kubectl} -n {namespace} get service,pods."
    more_time = "allow more time with gloo-mesh:relay.readyWithin."
    if relay.service_type == "LoadBalancer":
        other = "write gloo-mesh:relay.service: ClusterIP beside relay.address, or " if relay.address else ""
        sentence = (
            f"Service {product.RELAY_SERVICE} {where} has no load balancer address after {relay.ready_within} s, or "
            f"the pods of its release aren't ready. {look} Give that cluster a load balancer controller, or "
            f"{other}{more_time}"
        )
    else:
        sentence = (
            f"The pods of release {product.MANAGEMENT_RELEASE} {where} aren't ready after {relay.ready_within} s. "
            f"{look} Mend them, or {more_time}"
        )

    def say(failed: pulumi.ErrorHookArgs) -> bool:
        if any(timeout in error for error in failed.errors for timeout in _TIMEOUTS):
            pulumi.log.error(sentence)
        return False

    return pulumi.ErrorHook("relay-has-no-address", say)
