"""Whether clusters answer, asked of all at the same time with a deadline.

Owns one question, reads `/version` and nothing else.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from components.connection import connected
from components.settings import ClusterSettings

SECONDS = 5


def unreachable(clusters: Iterable[ClusterSettings]) -> dict[str, Exception]:
    """By cluster name, why a cluster doesn't answer; empty when all do."""
    asked = list(clusters)
    with ThreadPoolExecutor(max_workers=max(1, min(32, len(asked)))) as pool:
        answers = zip(asked, pool.map(_silence, asked), strict=True)
        return {cluster.name: error for cluster, error in answers if error}


def _silence(cluster: ClusterSettings) -> Exception | None:
    from kubernetes import client

    try:
        with connected(cluster) as api:
            client.VersionApi(api).get_code(_request_timeout=SECONDS)
    except Exception as error:
        return error
    return None
