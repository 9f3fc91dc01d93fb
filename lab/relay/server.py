"""The relay's stand-in: serves where the Service of the relay's Deployment says, with the Secrets its arguments name.

It serves nothing while that Deployment isn't ready, and begins anew, dropping every agent, when anything it serves
with has changed, as a pod that was replaced would.
"""

import asyncio

from lab.relay import api
from lab.relay.api import Api, Watched
from lab.relay.gauges import Gauges
from lab.relay.relay import Relay
from lab.relay.serving import NAME, Serving, serving

AGAIN_SECONDS = 1


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
            wanted = serving(deployments, secrets, services, nodes)
            relay = relay or await _begun(wanted, gauges)
            complete = relay is None or await relay.change(wanted)
            try:
                # A port that somebody else has is tried again.
                await asyncio.wait_for(changed.wait(), None if complete else AGAIN_SECONDS)
            except TimeoutError:
                continue


async def _begun(wanted: Serving | None, gauges: Gauges) -> Relay | None:
    """A relay once there is something to serve with."""
    if wanted is None:
        return None
    relay = Relay(gauges)
    await relay.begin()
    return relay
