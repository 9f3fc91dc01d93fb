"""Whether clusters answer, asked of all at the same time with a deadline.

Owns one question, reads `/version` and nothing else.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from components.settings import ClusterSettings

SECONDS = 5


def unreachable(clusters: Iterable[ClusterSettings]) -> dict[str, str]:
    """By cluster name, why a cluster doesn't answer; empty when all do."""
    asked = list(clusters)
    with ThreadPoolExecutor(max_workers=max(1, min(32, len(asked)))) as pool:
        answers = zip(asked, pool.map(_silence, asked), strict=True)
    return {cluster.name: reason for cluster, reason in answers if reason}


def _silence(cluster: ClusterSettings) -> str | None:
    # Half a second to import, so only what reaches for clusters pays for it.
    from kubernetes import client, config

    try:
        settings = client.Configuration()
        # Its default of three retries would make four deadlines of one.
        settings.retries = False
        config.load_kube_config(cluster.kubeconfig.value, cluster.context, client_configuration=settings)
        client.VersionApi(client.ApiClient(settings)).get_code(_request_timeout=SECONDS)
    except client.ApiException as error:
        return f"answers {error.status} {error.reason}"
    except Exception as error:
        return " ".join(str(error).split())[:200] or type(error).__name__
    return None
