"""`python -m tests.engine.puller`: an agent that pulls from the relay and pushes nothing, until it is killed.

Who it is comes as JSON on standard input.
"""

import asyncio
import json
import sys

from lab.relay import agent
from lab.relay.pod import Pod
from lab.relay.protocol import CLUSTER, PULL, path


async def pull(cluster: str, address: str, authority: str, root: str, client: tuple[str, str]) -> None:
    """Keep one stream open."""
    arguments = {"--cluster": cluster, "--relay-address": address, "--relay-authority": authority}
    wanted = agent.Wanted(Pod("gloo-mesh", arguments, ""), root, "", client)
    async with agent.conversation(wanted) as channel:
        call = channel.stream_stream(path(PULL))(metadata=((CLUSTER, cluster),))
        await call.read()
        await call.read()


if __name__ == "__main__":
    asyncio.run(pull(**json.load(sys.stdin)))
