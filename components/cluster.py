"""A kube context and the one provider for it.

Owns the connection, and nothing on the cluster.
"""

import pulumi
import pulumi_kubernetes as k8s

from components.settings import PROJECT, ClusterSettings
from components.settings import kubeconfig as kubeconfigs
from components.settings.fields import Source


def connect(cluster: ClusterSettings) -> k8s.Provider:
    """The one provider for a cluster: kubeconfig and context always explicit, never the ambient ones.

    Its logical name and identifier are the cluster's name in the configuration. Both are in the
    state, and a change of either replaces everything on that cluster. Raises RunError where its kubeconfig can't be
    used.
    """
    return k8s.Provider(
        cluster.name,
        kubeconfig=_kubeconfig(cluster.kubeconfig),
        context=cluster.context,
        cluster_identifier=cluster.name,
        # A Secret or ConfigMap with a fixed name would otherwise be deleted and made anew to change it.
        enable_secret_mutable=True,
        enable_config_map_mutable=True,
        # What we own we repair, whoever edited it: a hand-made label would end an `up` in a field conflict.
        enable_patch_force=True,
    )


def _kubeconfig(source: Source) -> pulumi.Input[str]:
    """Its content where that is a secret, else its path."""
    if source.kind == "secret":
        return pulumi.Config(PROJECT).require_secret(source.value)
    try:
        return kubeconfigs.given(source, pulumi.get_stack())
    except kubeconfigs.KubeconfigError as error:
        raise pulumi.RunError(f"The kubeconfig {source} can't be used: {error}.") from None
