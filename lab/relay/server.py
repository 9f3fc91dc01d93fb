"""The relay's stand-in: serves where the Service of the relay's Deployment says, with the Secrets its arguments name.

It serves nothing while that Deployment isn't ready, and begins anew, dropping every agent, when anything it serves
with has changed, as a pod that was replaced would.
"""

import asyncio
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.relay import api, pod, tls
from lab.relay.api import Api, Object, Watched
from lab.relay.gauges import Gauges

if TYPE_CHECKING:
    from lab.relay.relay import Relay

NAME = "enterprise-networking"
PORT_NAME = "grpc"
AGAIN_SECONDS = 1
Place = tuple[str, int]


@dataclass(frozen=True)
class Serving:
    """All that a relay serves with."""

    places: frozenset[Place]
    pair: tls.Pair
    root: str
    signing: tls.Pair | None
    """What client certificates are issued with; without it the relay issues none."""
    token: str
    template: str


async def serve(cluster: Api, metrics_port: int) -> None:
    """Serve for ever."""
    deployments, secrets = api.deployments(cluster, NAME), api.secrets(cluster)
    services = Watched(cluster, "/api/v1/services", f"metadata.name={NAME}")
    nodes = Watched(cluster, "/api/v1/nodes")
    gauges = Gauges()
    metrics = await gauges.tell(metrics_port)
    relay: Relay | None = None
    changed = asyncio.Event()
    async with metrics, asyncio.TaskGroup() as group:
        for watched in (deployments, secrets, services, nodes):
            group.create_task(watched.follow(changed.set))
        while True:
            changed.clear()
            serving = _serving(deployments, secrets, services, nodes)
            relay = relay or await _begun(serving, gauges)
            complete = relay is None or await relay.change(serving)
            try:
                # A port that somebody else has is tried again.
                await asyncio.wait_for(changed.wait(), None if complete else AGAIN_SECONDS)
            except TimeoutError:
                continue


async def _begun(serving: Serving | None, gauges: Gauges) -> "Relay | None":
    """A relay once there is something to serve with: without one the process stays small."""
    if serving is None:
        return None
    from lab.relay.relay import Relay

    relay = Relay(gauges)
    await relay.begin()
    return relay


def _serving(deployments: Watched, secrets: Watched, services: Watched, nodes: Watched) -> Serving | None:
    running = pod.of(deployments)
    if not running:
        return None
    service = services.find(running.namespace, NAME)
    pair = running.secret(secrets, "relay-tls-secret")
    if not service or not {"tls.crt", "tls.key", "ca.crt"} <= pair.keys():
        return None
    signing = running.secret(secrets, "relay-signing-tls-secret")
    issues = running.arguments.get("--relay-disable-ca") != "true" and {"tls.crt", "tls.key"} <= signing.keys()
    return Serving(
        places=frozenset(_places(service, nodes.all())),
        pair=(pair["tls.crt"], pair["tls.key"]),
        root=pair["ca.crt"],
        signing=(signing["tls.crt"], signing["tls.key"]) if issues else None,
        token=running.token(secrets),
        template=running.template,
    )


def _places(service: Object, nodes: list[Object]) -> list[Place]:
    """Where a Service leads here: at the load balancer's addresses, or at a node port on every node."""
    spec, balancer = service["spec"], service.get("status", {}).get("loadBalancer", {})
    port = next((entry for entry in spec.get("ports", []) if entry.get("name") == PORT_NAME), None)
    if not port:
        return []
    if spec.get("type") == "LoadBalancer":
        found = [(entry.get("ip", ""), port["port"]) for entry in balancer.get("ingress") or []]
    elif spec.get("type") == "NodePort":
        found = [
            (address["address"], port["nodePort"])
            for node in nodes
            for address in node.get("status", {}).get("addresses", [])
        ]
    else:
        found = []
    return [(host, number) for host, number in found if _here(host)]


def _here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
