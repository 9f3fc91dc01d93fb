"""`python -m lab.relay`, as the lab starts it; a person has no use for it."""

import argparse
import asyncio
import os
import sys
from pathlib import Path

from lab.relay.agent import run
from lab.relay.api import Api
from lab.relay.server import serve


def main() -> None:
    """Be the relay or the agent of a cluster, whichever is deployed there, until the process is ended."""
    parser = argparse.ArgumentParser(prog="python -m lab.relay", description=__doc__)
    parser.add_argument("--api-server", required=True, help="the cluster's API server, as URL")
    parser.add_argument("--metrics-port", type=int, required=True, help="where the relay tells its gauges")
    parser.add_argument("folder", type=Path, help="the cluster's folder, with its administrator's certificate")
    given = parser.parse_args()
    # A socket's path may be no longer than a hundred characters; a name in the current folder is.
    os.chdir(given.folder)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    asyncio.run(_beside(Api(given.api_server, given.folder), given.metrics_port))


async def _beside(cluster: Api, metrics_port: int) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(serve(cluster, metrics_port))
        group.create_task(run(cluster))


if __name__ == "__main__":
    main()
