"""What a relay serves with: told by its Deployment, the Secrets that one's arguments name, and its Service."""

import ipaddress
from dataclasses import dataclass

from lab.relay import pod, tls
from lab.relay.api import Object, Watched

NAME = "enterprise-networking"
PORT_NAME = "grpc"
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


def serving(deployments: Watched, secrets: Watched, services: Watched, nodes: Watched) -> Serving | None:
    """All of it, or None while something is missing."""
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
