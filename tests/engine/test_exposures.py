"""Every way to reach the relay, one after the other on one fleet: what the agent dials is read from its Deployment."""

import base64
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from kubernetes import client

from lab.fleet import MANAGEMENT, Lab
from tests.awaiting import awaited
from tests.engine.fleet import Fleet, changed
from tests.relay import Relay, self_signed

pytestmark = [pytest.mark.engine, pytest.mark.lived_in_order]

LAB_WORKERS = 1
WORKER = "cluster-1"
AGENT = {WORKER: {f"{WORKER}-agent": "update"}}
AUTHORITY = "enterprise-networking.gloo-mesh"
ISTIO = "istio-system"
GATEWAY = "istio-ingressgateway"
UNDIALLED = {"dialFromHere": False}
"""Nothing answers behind the lab's Istio gateway."""
NODE_PORT_GATEWAY = UNDIALLED | {"istioGateway": {"service": "NodePort"}}


@pytest.fixture(scope="module")
def fleet(lab: Lab) -> Fleet:
    """The fleet behind its load balancer."""
    fleet = Fleet(lab, "exposures", {"gloo-mesh:relay": {"annotations": {"lab/asked-for": "internal"}}})
    fleet.settle()
    return fleet


def test_a_load_balancers_address_is_dialled_and_its_service_annotated(fleet: Fleet) -> None:
    assert dialled(fleet) == fleet.lab.relay_address
    assert relay_service(fleet).metadata.annotations["lab/asked-for"] == "internal"


def test_a_gateway_that_is_not_there_fails_the_preview_by_name(fleet: Fleet) -> None:
    fleet.configure("relay", UNDIALLED | {"istioGateway": {"name": "elsewhere"}})

    failed = fleet.run("preview")

    assert failed.returncode == 1
    assert f"{ISTIO}/elsewhere" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_behind_an_istio_gateway_its_load_balancer_is_dialled_and_istio_knows_the_way(fleet: Fleet) -> None:
    fleet.configure("relay", UNDIALLED | {"istioGateway": {}})
    fleet.settle()

    assert dialled(fleet) == f"{fleet.lab.address}:443"
    assert relay_service(fleet).spec.type == "ClusterIP"
    gateway = istio(fleet, "gateways")["spec"]
    assert gateway["servers"][0]["tls"] == {"mode": "PASSTHROUGH"}
    assert gateway["servers"][0]["hosts"] == [AUTHORITY]
    (route,) = istio(fleet, "virtualservices")["spec"]["tls"]
    assert route["match"] == [{"port": 443, "sniHosts": [AUTHORITY]}]
    assert route["route"][0]["destination"]["host"] == f"{AUTHORITY}.svc.cluster.local"


def test_behind_the_gateways_node_port_the_node_of_its_pod_is_dialled(fleet: Fleet) -> None:
    core = fleet.core(MANAGEMENT)
    core.patch_namespaced_service(GATEWAY, ISTIO, {"spec": {"type": "NodePort"}})
    fleet.configure("relay", NODE_PORT_GATEWAY)

    fleet.settle()

    service: Any = core.read_namespaced_service(GATEWAY, ISTIO)
    (port,) = [port.node_port for port in service.spec.ports if port.name == "https"]
    assert nodes_of(fleet, ISTIO, GATEWAY) == {"node-2"}
    assert dialled(fleet) == f"{address_of(fleet, 'node-2')}:{port}"
    assert fleet.pulumi("stack", "output", "relayNode").strip() == "node-2"


def test_a_change_of_management_alone_leaves_agents_behind_a_node_port_unchanged(fleet: Fleet) -> None:
    fleet.configure("relay", NODE_PORT_GATEWAY | {"readyWithin": "6m"})

    assert changed(fleet.preview()) == {"management": {"management-release": "update"}}
    fleet.configure("relay", NODE_PORT_GATEWAY)


def test_a_gateway_pod_that_moved_to_another_node_is_found(fleet: Fleet) -> None:
    elsewhere = {"kubernetes.io/hostname": "node-1", "node-role.kubernetes.io/ingress": None}
    moved = {"spec": {"template": {"spec": {"nodeSelector": elsewhere}}}}
    fleet.apps(MANAGEMENT).patch_namespaced_deployment(GATEWAY, ISTIO, moved)
    awaited(lambda: nodes_of(fleet, ISTIO, GATEWAY) == {"node-1"})

    assert changed(fleet.preview(), [WORKER]) == AGENT


def test_behind_the_relays_own_node_port_the_node_of_its_pod_is_dialled(fleet: Fleet) -> None:
    fleet.configure("relay", {"service": "NodePort"})

    fleet.settle()

    (node,) = nodes_of(fleet, "gloo-mesh", "enterprise-networking")
    (port,) = [port.node_port for port in relay_service(fleet).spec.ports if port.name == "grpc"]
    assert dialled(fleet) == f"{address_of(fleet, node)}:{port}"
    assert fleet.preview()["changes"] == {}


def test_a_relay_without_ready_pods_can_be_mended_by_the_up_that_previews_it(fleet: Fleet) -> None:
    before = dialled(fleet)
    core = fleet.core(MANAGEMENT)
    pods: Any = core.list_namespaced_pod("gloo-mesh", label_selector="app=enterprise-networking")
    for pod in pods.items:
        unready = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
        core.patch_namespaced_pod_status(pod.metadata.name, "gloo-mesh", unready)
    awaited(lambda: not nodes_of(fleet, "gloo-mesh", "enterprise-networking"))
    fleet.configure("management", {"context": MANAGEMENT, "disallowIntersectingConfig": True})

    mended = fleet.run("up", "--yes")

    assert mended.returncode == 0, mended.stderr
    assert "has no ready pod on any node" in mended.stdout + mended.stderr
    assert nodes_of(fleet, "gloo-mesh", "enterprise-networking")
    assert dialled(fleet).rpartition(":")[2] == before.rpartition(":")[2]
    fleet.configure("management", {"context": MANAGEMENT})


def test_an_address_where_nobody_answers_stops_the_agents_with_a_sentence(fleet: Fleet) -> None:
    before = dialled(fleet)
    with Relay(*self_signed(AUTHORITY)).start() as another:
        fleet.configure("relay", {"address": another.address, "readyWithin": "10s"})
        failed = fleet.run("up", "--yes")

    assert failed.returncode == 1
    for part in (another.address, "within 10 s", "not under this fleet's root", "gloo-mesh:relay.dialFromHere"):
        assert part in failed.stderr
    assert "Traceback" not in failed.stdout + failed.stderr
    assert dialled(fleet) == before


def test_a_configured_address_is_dialled_once_the_relay_answers_there(fleet: Fleet) -> None:
    secret = fleet.secret(MANAGEMENT, "relay-server-tls-secret")
    certificate, key = (base64.b64decode(secret[name]).decode() for name in ("tls.crt", "tls.key"))
    before = dialled(fleet)
    with Relay(certificate, key) as relay, ThreadPoolExecutor(1) as apart:
        fleet.configure("relay", {"service": "ClusterIP", "address": relay.address})
        up = apart.submit(fleet.run, "up", "--yes")
        # The relay's Service changes in the real run alone, and before the dial.
        awaited(lambda: up.done() or relay_service(fleet).spec.type == "ClusterIP")
        assert dialled(fleet) == before
        relay.start()

        assert up.result().returncode == 0, up.result().stderr
        assert dialled(fleet) == relay.address
        assert set(relay.asked_for) == {AUTHORITY}


def dialled(fleet: Fleet) -> str:
    """What the agent's Deployment says it dials."""
    agent: Any = fleet.apps(WORKER).read_namespaced_deployment("enterprise-agent", "gloo-mesh")
    arguments = dict(argument.partition("=")[::2] for argument in agent.spec.template.spec.containers[0].args)
    return arguments["--relay-address"]


def relay_service(fleet: Fleet) -> Any:
    return fleet.core(MANAGEMENT).read_namespaced_service("enterprise-networking", "gloo-mesh")


def istio(fleet: Fleet, plural: str) -> Any:
    custom = client.CustomObjectsApi(fleet.api(MANAGEMENT))
    return custom.get_namespaced_custom_object(
        "networking.istio.io", "v1beta1", "gloo-mesh", plural, "gloo-mesh-ingress"
    )


def nodes_of(fleet: Fleet, namespace: str, service: str) -> set[str]:
    """The nodes of the ready pods of a Service."""
    endpoints: Any = fleet.core(MANAGEMENT).read_namespaced_endpoints(service, namespace)
    return {address.node_name for subset in endpoints.subsets or [] for address in subset.addresses or []}


def address_of(fleet: Fleet, node: str) -> str:
    found: Any = fleet.core(MANAGEMENT).read_node(node)
    (address,) = [entry.address for entry in found.status.addresses if entry.type == "InternalIP"]
    return address
