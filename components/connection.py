"""A client for a cluster, for what is asked of it beside Pulumi's provider.

Owns how a kubeconfig and a context become a connection; what is asked is the caller's.
"""

import os
from typing import TYPE_CHECKING, Any

import pulumi

from components.settings import PROJECT, ClusterSettings

if TYPE_CHECKING:
    from kubernetes.client import ApiClient


def connected(cluster: ClusterSettings) -> "ApiClient":
    """A client that tries everything once; the caller gives each request its deadline."""
    # Half a second to import, so only what reaches for clusters pays for it.
    import yaml
    from kubernetes import client, config

    untyped: Any = config
    settings = client.Configuration()
    # Its default of three retries would make four deadlines of one.
    settings.retries = False
    if cluster.kubeconfig.kind == "secret":
        content = yaml.safe_load(pulumi.Config(PROJECT).require(cluster.kubeconfig.value))
        untyped.load_kube_config_from_dict(content, cluster.context, client_configuration=settings)
    else:
        path = cluster.kubeconfig.value
        path = os.environ[path] if cluster.kubeconfig.kind == "env" else path
        untyped.load_kube_config(path, cluster.context, client_configuration=settings)
    return client.ApiClient(settings)
