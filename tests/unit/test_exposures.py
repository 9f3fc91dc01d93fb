"""How the relay is reached: what is refused, what is registered, and which address comes of it."""

import json
from collections.abc import Callable
from typing import Any

import pulumi
import pytest
from pulumi.runtime import rpc
from pulumi_kubernetes.core.v1 import outputs

from components.relay_exposure import NotReadyError, balanced_address, node_address, ready_node
from tests.unit.conftest import Found, Run, faults, unwrapped

GATEWAY: dict[str, Any] = {"istioGateway": {}}
NODE_PORT_GATEWAY: dict[str, Any] = {"istioGateway": {"service": "NodePort"}}
PORTS = [
    outputs.ServicePort(name="http2", port=80, node_port=30080),
    outputs.ServicePort(name="https", port=443, node_port=30443),
]
UNREADY: dict[str, dict[str, Any]] = {
    ":ServicePatch": {"status": {"loadBalancer": {}}},
    ":Service": {"status": {"loadBalancer": {}}},
    ":Endpoints": {"subsets": []},
}
"""By type, what is read of a relay or a gateway without ready pods and without an address."""
Exposed = Callable[[dict[str, Any]], Run]


@pytest.fixture
def exposed(config: dict[str, Any], deploy: Callable[..., Run]) -> Exposed:
    """The seeds' fleet with this relay."""
    return lambda relay: deploy(config | {"relay": relay})


class TestRefused:
    @pytest.mark.parametrize("service", ["LoadBalancer", "NodePort"])
    def test_a_gateway_and_a_way_around_it(self, config: dict[str, Any], service: str) -> None:
        (fault,) = faults(config | {"relay": GATEWAY | {"service": service}})

        assert f"gloo-mesh:relay.service is {service}" in fault
        assert "leave relay.service out" in fault
        assert "gloo-mesh:relay.istioGateway.service" in fault

    def test_a_relay_that_no_other_cluster_reaches_by_the_workers_that_would_have_nothing_to_dial(
        self, config: dict[str, Any]
    ) -> None:
        workers = {"cluster-1": {"relayAddress": "relay.internal:9900"}, "cluster-2": {}, "cluster-3": {}}

        (fault,) = faults(config | {"relay": {"service": "ClusterIP"}, "workers": workers})

        assert "gloo-mesh:relay.service is ClusterIP" in fault
        assert "so cluster-2, cluster-3 would have nothing to dial" in fault
        assert "gloo-mesh:workers.cluster-2.relayAddress" in fault

    def test_a_gateway_that_selects_every_gateway(self, config: dict[str, Any]) -> None:
        (fault,) = faults(config | {"relay": {"istioGateway": {"selector": {}}}})

        assert "gloo-mesh:relay.istioGateway.selector" in fault

    @pytest.mark.parametrize(
        "address", ["relay.example", "relay..example:9900", "relay.example:0", ":9900", "a b:9900"]
    )
    def test_an_address_that_cannot_be_dialled_by_value(self, config: dict[str, Any], address: str) -> None:
        workers = {"cluster-1": {"relayAddress": address}}

        found = faults(config | {"relay": {"address": address}, "workers": workers})

        for key, fault in zip(("relay.address", "workers.cluster-1.relayAddress"), sorted(found), strict=True):
            assert fault == f'gloo-mesh:{key} is "{address}"; host:port is needed, such as relay.example.com:9900.'

    @pytest.mark.parametrize("port", [0, 65536, "https"])
    def test_a_gateways_port_that_is_none_by_value(self, config: dict[str, Any], port: object) -> None:
        (fault,) = faults(config | {"relay": {"istioGateway": {"port": port}}})

        assert "gloo-mesh:relay.istioGateway.port is" in fault


@pytest.mark.parametrize(
    "relay",
    [
        GATEWAY | {"service": "ClusterIP"},
        {"service": "ClusterIP", "address": "relay.example:9900"},
        {"service": "NodePort", "annotations": {"a": "b"}},
        NODE_PORT_GATEWAY | {"address": "relay.example:443", "annotations": {"a": "b"}},
    ],
)
def test_what_does_not_contradict_itself_is_accepted(exposed: Exposed, relay: dict[str, Any]) -> None:
    assert exposed(relay).registered


def test_a_relay_within_its_cluster_is_accepted_where_every_worker_has_an_address(
    config: dict[str, Any], deploy: Callable[..., Run]
) -> None:
    own = {name: {"relayAddress": f"{name}.relay.internal:9900"} for name in ("cluster-1", "cluster-2")}

    stack = deploy(config | {"relay": {"service": "ClusterIP"}, "workers": own})

    assert [dialled(stack, name) for name in own] == [worker["relayAddress"] for worker in own.values()]
    assert service_type(stack) == "ClusterIP"


def test_behind_a_gateway_the_relays_service_is_internal_and_the_gateways_address_is_dialled(exposed: Exposed) -> None:
    stack = exposed(GATEWAY)

    assert service_type(stack) == "ClusterIP"
    assert stack.named("relay-exposure-gateway-service").read == "istio-system/istio-ingressgateway"
    assert dialled(stack, "cluster-1") == "192.0.2.1:443"
    assert not stack.of_type(":ServicePatch")


def test_the_way_through_the_gateway_is_as_the_vendor_writes_it(
    config: dict[str, Any], deploy: Callable[..., Run]
) -> None:
    stack = deploy(
        config
        | {
            "namespace": "relay",
            "management": {"context": "mgmt-cluster", "clusterDomain": "mgmt.example"},
            "relay": {"istioGateway": {"selector": {"app": "edge"}, "port": 8443}},
        }
    )
    gateway, route = stack.named("relay-exposure-istio-gateway"), stack.named("relay-exposure-istio-route")

    for made in (gateway, route):
        assert made.inputs["apiVersion"] == "networking.istio.io/v1beta1"
        assert made.inputs["metadata"] == {"name": "gloo-mesh-ingress", "namespace": "relay"}
        assert made.provider == "management"
    assert gateway.inputs["spec"] == {
        "selector": {"app": "edge"},
        "servers": [
            {
                "port": {"number": 8443, "name": "https", "protocol": "HTTPS"},
                "tls": {"mode": "PASSTHROUGH"},
                "hosts": ["enterprise-networking.relay"],
            }
        ],
    }
    destination = {"host": "enterprise-networking.relay.svc.mgmt.example", "port": {"number": 9900}}
    assert route.inputs["spec"] == {
        "hosts": ["enterprise-networking.relay"],
        "gateways": ["relay/gloo-mesh-ingress"],
        "tls": [
            {
                "match": [{"port": 8443, "sniHosts": ["enterprise-networking.relay"]}],
                "route": [{"destination": destination}],
            }
        ],
    }


@pytest.mark.parametrize(
    ("relay", "service", "port"),
    [
        (NODE_PORT_GATEWAY, "istio-system/istio-ingressgateway", 30443),
        ({"service": "NodePort"}, "relay-exposure-service-id", 30900),
    ],
)
def test_behind_a_node_port_a_node_with_a_ready_pod_is_dialled(
    exposed: Exposed, relay: dict[str, Any], service: str, port: int
) -> None:
    stack = exposed(relay)

    assert stack.named("relay-exposure-endpoints").read == service
    assert stack.named("relay-exposure-node").read == "node-2"
    assert dialled(stack, "cluster-1") == f"(address of node-2):{port}"


def test_a_relays_own_node_port_is_made_and_awaited_with_its_pods(exposed: Exposed) -> None:
    stack = exposed({"service": "NodePort"})

    assert service_type(stack) == "NodePort"
    assert stack.named("relay-exposure-service").inputs["metadata"].get("annotations", {}) == {}


@pytest.mark.parametrize("relay", [{}, GATEWAY, NODE_PORT_GATEWAY, {"service": "NodePort"}])
def test_a_configured_address_is_dialled_and_nothing_is_read_while_all_is_still_made(
    exposed: Exposed, relay: dict[str, Any]
) -> None:
    found, configured = exposed(relay), exposed(relay | {"address": "relay.example:443"})

    assert dialled(configured, "cluster-1") == "relay.example:443"
    assert not [r for r in configured.registered if r.read or r.type.endswith(":ServicePatch")]
    assert service_type(configured) == service_type(found)
    assert kinds(configured) == kinds(found)


def test_a_workers_own_address_goes_before_the_fleets(config: dict[str, Any], deploy: Callable[..., Run]) -> None:
    workers = {"cluster-1": {"relayAddress": "relay.internal:9900"}, "cluster-2": {}}

    stack = deploy(config | {"relay": {"address": "relay.example:443"}, "workers": workers})

    assert dialled(stack, "cluster-1") == "relay.internal:9900"
    assert dialled(stack, "cluster-2") == "relay.example:443"


@pytest.mark.parametrize("relay", [{}, GATEWAY, {"address": "relay.example:443"}])
def test_an_agent_waits_for_the_relay_however_it_is_reached(exposed: Exposed, relay: dict[str, Any]) -> None:
    stack = exposed({**relay, "dialFromHere": False})

    ways = [stack.named("management-release"), *stack.of_type(":VirtualService")]
    assert len(ways) == (2 if "istioGateway" in relay else 1)
    for cluster in ("cluster-1", "cluster-2"):
        assert {way.key for way in ways} <= stack.named(f"{cluster}-agent").dependencies


def test_what_is_read_takes_nothing_from_the_release(exposed: Exposed) -> None:
    stack = exposed(NODE_PORT_GATEWAY)
    read = {r.name: r.dependencies for r in stack.registered if r.read}

    assert set(read) == {"relay-exposure-gateway-service", "relay-exposure-endpoints", "relay-exposure-node"}
    assert stack.named("management-release").key not in {key for keys in read.values() for key in keys}
    assert {r.provider for r in stack.registered if r.read} == {"management"}


@pytest.fixture
def warnings(found: Callable[[Found], None], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the program warns of, where neither relay nor gateway is ready."""
    found(lambda args, _: next((read for suffix, read in UNREADY.items() if args.typ.endswith(suffix)), {}))
    warned: list[str] = []
    monkeypatch.setattr("pulumi.log.warn", warned.append)
    return warned


@pytest.mark.parametrize("relay", [{}, {"service": "NodePort"}])
def test_a_relay_that_isnt_ready_fails_the_run_that_was_to_make_it_ready(
    exposed: Exposed, warnings: list[str], monkeypatch: pytest.MonkeyPatch, relay: dict[str, Any]
) -> None:
    monkeypatch.setattr("pulumi.runtime.is_dry_run", lambda: False)

    with pytest.raises(pulumi.RunError, match="Service gloo-mesh/enterprise-networking"):
        exposed(relay | {"dialFromHere": False})
    assert warnings == []


@pytest.mark.parametrize("relay", [GATEWAY, NODE_PORT_GATEWAY])
def test_a_gateway_that_isnt_ready_fails_the_preview_because_no_run_would_mend_it(
    exposed: Exposed, warnings: list[str], relay: dict[str, Any]
) -> None:
    with pytest.raises(pulumi.RunError, match="Service istio-system/istio-ingressgateway"):
        exposed(relay)
    assert warnings == []


@pytest.mark.parametrize(
    ("relay", "lacks"), [({}, "0 load balancer addresses"), ({"service": "NodePort"}, "no ready pod")]
)
def test_a_relay_that_isnt_ready_is_a_warning_in_the_preview_of_the_run_that_may_mend_it(
    exposed: Exposed, warnings: list[str], relay: dict[str, Any], lacks: str
) -> None:
    stack = exposed(relay)

    (warned,) = warnings
    assert lacks in warned
    assert "unknown to a preview" in warned
    assert rpc.UNKNOWN in json.dumps(stack.named("cluster-1-agent").wire)
    assert stack.named("management-release").inputs["version"] == "1.2.9"


def test_a_relay_without_its_port_fails_the_preview_because_no_time_brings_it() -> None:
    ingress = balanced([outputs.LoadBalancerIngress(ip="203.0.113.7")])

    with pytest.raises(pulumi.RunError) as lacking:
        balanced_address("a/b", "grpc", spec(), ingress)
    assert not isinstance(lacking.value, NotReadyError)


def test_the_address_is_read_again_when_the_services_annotations_change_and_else_not(exposed: Exposed) -> None:
    def patched(**relay: Any) -> dict[str, Any]:
        return exposed(relay).named("relay-exposure-service").inputs["metadata"]["annotations"]

    internal, external = ({"annotations": {"type": kind}} for kind in ("internal", "external"))

    assert patched(**internal) == patched(**internal)
    assert patched(**internal) != patched(**external)
    assert patched().keys() == {"pulumi.com/waitFor"}


def test_annotations_reach_the_relays_service_and_nothing_is_said_without_them(exposed: Exposed) -> None:
    internal = {"networking.gke.io/load-balancer-type": "Internal"}

    assert relay_values(exposed({"annotations": internal}))["serviceOverrides"] == {
        "metadata": {"annotations": internal}
    }
    assert "serviceOverrides" not in relay_values(exposed({}))


class TestAddresses:
    @pytest.mark.parametrize(
        ("ingress", "address"),
        [
            ([outputs.LoadBalancerIngress(ip="203.0.113.7")], "203.0.113.7:443"),
            ([outputs.LoadBalancerIngress(hostname="lb.example")], "lb.example:443"),
            ([outputs.LoadBalancerIngress(ip="203.0.113.7", ip_mode="Proxy")], "203.0.113.7:443"),
            ([outputs.LoadBalancerIngress(ip="2001:db8::7")], "[2001:db8::7]:443"),
            (
                [outputs.LoadBalancerIngress(), outputs.LoadBalancerIngress(hostname="lb.example")],
                "lb.example:443",
            ),
        ],
    )
    def test_the_first_entry_with_an_ip_or_a_hostname_counts(
        self, ingress: list[outputs.LoadBalancerIngress], address: str
    ) -> None:
        assert balanced_address("a/b", "https", spec(), balanced(ingress)) == address

    @pytest.mark.parametrize("status", [None, outputs.ServiceStatus(), outputs.ServiceStatus(load_balancer=None)])
    def test_no_entry_is_told_with_service_type_and_ways_out(self, status: outputs.ServiceStatus | None) -> None:
        with pytest.raises(pulumi.RunError) as told:
            balanced_address("istio-system/gateway", "https", spec("NodePort"), status)

        for part in ("istio-system/gateway", "type NodePort", "0 load balancer addresses", "istioGateway", "address"):
            assert part in str(told.value)

    def test_a_port_of_another_name_is_told_with_the_names_there_are(self) -> None:
        ingress = balanced([outputs.LoadBalancerIngress(ip="203.0.113.7")])

        with pytest.raises(pulumi.RunError, match=r"ports http2 80, https 443; needed are .* a port named grpc"):
            balanced_address("a/b", "grpc", spec(), ingress)

    @pytest.mark.parametrize(
        ("kinds", "address"),
        [
            (("Hostname", "InternalIP", "ExternalIP"), "of ExternalIP:30443"),
            (("Hostname", "InternalIP"), "of InternalIP:30443"),
            (("InternalDNS", "Hostname"), "of Hostname:30443"),
        ],
    )
    def test_of_a_nodes_addresses_the_one_most_clusters_reach_counts(
        self, kinds: tuple[str, ...], address: str
    ) -> None:
        assert node_address("a/b", "https", spec(), node(*kinds)) == address

    def test_the_first_of_two_addresses_of_a_kind_counts(self) -> None:
        addresses = [outputs.NodeAddress(type="InternalIP", address=ip) for ip in ("192.0.2.1", "2001:db8::1")]

        assert node_address("a/b", "https", spec(), outputs.NodeStatus(addresses=addresses)) == "192.0.2.1:30443"

    @pytest.mark.parametrize("status", [None, outputs.NodeStatus()])
    def test_a_node_without_an_address_is_told(self, status: outputs.NodeStatus | None) -> None:
        with pytest.raises(pulumi.RunError, match="a node with addresses of types none"):
            node_address("a/b", "https", spec(), status)

    def test_a_service_without_node_ports_is_told(self) -> None:
        bare = outputs.ServiceSpec(type="ClusterIP", ports=[outputs.ServicePort(name="https", port=443)])

        with pytest.raises(pulumi.RunError, match="type ClusterIP"):
            node_address("a/b", "https", bare, node("InternalIP"))

    @pytest.mark.parametrize("subsets", [None, [], "not ready"])
    def test_no_ready_pod_is_told_by_service(self, subsets: Any) -> None:
        if subsets:
            waiting = outputs.EndpointAddress(ip="198.51.100.1", node_name="node-1")
            subsets = [outputs.EndpointSubset(not_ready_addresses=[waiting])]

        with pytest.raises(pulumi.RunError, match="a/b has no ready pod"):
            ready_node("a/b", subsets)

    def test_of_several_nodes_with_ready_pods_always_the_same_is_taken(self) -> None:
        pods = [outputs.EndpointAddress(ip="198.51.100.1", node_name=name) for name in ("node-3", "node-2")]
        ways = [
            [outputs.EndpointSubset(addresses=pods)],
            [outputs.EndpointSubset(addresses=[pod]) for pod in reversed(pods)],
        ]

        assert {ready_node("a/b", subsets) for subsets in ways} == {"node-2"}


def spec(type: str = "LoadBalancer") -> outputs.ServiceSpec:
    return outputs.ServiceSpec(type=type, ports=PORTS)


def balanced(ingress: list[outputs.LoadBalancerIngress]) -> outputs.ServiceStatus:
    return outputs.ServiceStatus(load_balancer=outputs.LoadBalancerStatus(ingress=ingress))


def node(*kinds: str) -> outputs.NodeStatus:
    return outputs.NodeStatus(addresses=[outputs.NodeAddress(type=kind, address=f"of {kind}") for kind in kinds])


def dialled(stack: Run, worker: str) -> str:
    return unwrapped(stack.named(f"{worker}-agent").inputs["values"])["relay"]["serverAddress"]


def relay_values(stack: Run) -> dict[str, Any]:
    values = unwrapped(stack.named("management-release").inputs["values"])
    return values["enterprise-networking"]["enterpriseNetworking"]


def service_type(stack: Run) -> str:
    return relay_values(stack)["serviceType"]


def kinds(stack: Run) -> list[str]:
    """Of what is made, patches aside."""
    return sorted(r.type for r in stack.registered if not r.read and not r.type.endswith(":ServicePatch"))
