"""`python -m tests.half_agent`: an agent that only pulls from the relay, or only pushes, until it is killed.

Who it is comes as JSON on standard input.
"""

import asyncio
import json
import sys

from lab.relay import agent
from lab.relay.pod import Pod
from lab.relay.protocol import CLUSTER, path


async def connect(
    method: str, cluster: str, address: str, authority: str, root: str, client: tuple[str, str] | None
) -> None:
    """Keep one stream open."""
    arguments = {"--cluster": cluster, "--relay-address": address, "--relay-authority": authority}
    wanted = agent.Wanted(Pod("gloo-mesh", arguments, ""), root, "", client)
    async with agent.conversation(wanted) as channel:
        call = channel.stream_stream(path(method))(metadata=((CLUSTER, cluster),))
        await call.read()
        await call.read()


if __name__ == "__main__":
    asyncio.run(connect(**json.load(sys.stdin)))
