"""What a cluster itself has to bring: a clock that agrees with ours, and load balancers where one is wanted.

Owns both looks. What can't be known from what is there is not told.
"""

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

from components import product
from components.settings import ClusterSettings, Settings
from operations.api import Api, Refused
from operations.findings import Finding, Kind

_PAGE = "platform"
SKEW_SECONDS = 60

CLOCK_SKEW = Kind(
    "clock-skew",
    "Certificates are dated by this machine's clock; where another is behind it they aren't valid yet, and TLS fails.",
    _PAGE,
)
NO_LOAD_BALANCER = Kind(
    "no-load-balancer", "Without an address agents have nothing to dial, and the up waits until it gives up.", _PAGE
)


def clock(cluster: ClusterSettings, api: Api) -> Iterator[Finding]:
    """Compare this machine's clock with the date on the API server's last answer."""
    if api.date is None:
        return
    try:
        ahead = time.time() - parsedate_to_datetime(api.date).timestamp()
    except ValueError:
        return
    if abs(ahead) >= SKEW_SECONDS:
        yield CLOCK_SKEW.found(
            cluster.name,
            f"This machine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} {cluster.name}'s "
            f"(context {cluster.context}).",
            "Set the one that is wrong by NTP; see this machine's with: date -u",
        )


def load_balancer(settings: Settings, api: Api) -> Iterator[Finding]:
    """Whether the management cluster's load balancers get addresses: the relay's, or while there is none, any."""
    if settings.relay.service_type != "LoadBalancer":
        return
    cluster = settings.management_cluster
    try:
        listed = api.get("/api/v1/services", fieldSelector="spec.type=LoadBalancer") or {"items": []}
    except Refused:
        # Older servers don't select by type, and not everybody may look.
        return
    services = {(s["metadata"]["namespace"], s["metadata"]["name"]): s for s in listed["items"]}
    relay = services.get((settings.namespace, product.RELAY_SERVICE))
    asked = [relay] if relay else list(services.values())
    if not asked or any((service.get("status", {}).get("loadBalancer") or {}).get("ingress") for service in asked):
        return
    named = ", ".join(f"{s['metadata']['namespace']}/{s['metadata']['name']}" for s in asked[:3])
    yield NO_LOAD_BALANCER.found(
        cluster.name,
        f"On {cluster.name} (context {cluster.context}) Service {named} of type LoadBalancer has no address since "
        f"{asked[0]['metadata']['creationTimestamp']}{'' if relay else ', and no other of this type has one'}.",
        f"{cluster.kubectl} -n {asked[0]['metadata']['namespace']} describe service "
        f"{asked[0]['metadata']['name']}; without a load balancer write gloo-mesh:relay: {{service: NodePort}}",
    )
