"""`python -m lab.relay server|agent`, as the lab starts them; a person has no use for it."""

import argparse
import asyncio
import os
import sys
from pathlib import Path


def main() -> None:
    """Run one of the two beside a cluster until the process is ended."""
    parser = argparse.ArgumentParser(prog="python -m lab.relay", description=__doc__)
    parser.add_argument("role", choices=("server", "agent"))
    parser.add_argument("--api-server", required=True, help="the cluster's API server, as URL")
    parser.add_argument("--metrics-port", type=int, default=0, help="where the server tells its gauges")
    parser.add_argument("folder", type=Path, help="the cluster's folder, with its administrator's certificate")
    given = parser.parse_args()
    # A socket's path may be no longer than a hundred characters; a name in the current folder is.
    os.chdir(given.folder)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]

    from lab.relay.api import Api

    api = Api(given.api_server, given.folder)
    # Each loads only what it needs: there are as many agents as workers.
    if given.role == "server":
        from lab.relay.server import serve

        asyncio.run(serve(api, given.metrics_port))
    else:
        from lab.relay.agent import run

        asyncio.run(run(api))


if __name__ == "__main__":
    main()
