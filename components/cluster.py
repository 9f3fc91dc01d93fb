"""A kube context and the one provider for it.

Owns the connection, and nothing on the cluster.
"""

import pulumi
import pulumi_kubernetes as k8s

from components.settings import PROJECT, ClusterSettings
from components.settings.kubeconfig import given


def connect(cluster: ClusterSettings) -> k8s.Provider:
    """The one provider for a cluster: kubeconfig and context always explicit, never the ambient ones.

    Its logical name and identifier are the cluster's name in the configuration. Both are in the
    state, and a change of either replaces everything on that cluster.
    """
    source = cluster.kubeconfig
    content = pulumi.Config(PROJECT).require_secret(source.value) if source.kind == "secret" else None
    return k8s.Provider(
        cluster.name,
        kubeconfig=content or given(source, pulumi.get_stack()),
        context=cluster.context,
        cluster_identifier=cluster.name,
        # A Secret or ConfigMap with a fixed name would otherwise be deleted and made anew to change it.
        enable_secret_mutable=True,
        enable_config_map_mutable=True,
        # What we own we repair, whoever edited it: a hand-made label would end an `up` in a field conflict.
        enable_patch_force=True,
    )
