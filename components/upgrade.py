"""What has to happen between two versions of a release, before Helm upgrades it.

Owns the refusal of a downgrade, in previews already, and the removal of what the vendor's Helm tests
leave behind. The order of an upgrade (CRDs, management, agents) is in the releases' dependencies.
"""

import asyncio

import pulumi

from components import product
from components.removal import removed
from components.settings import ClusterSettings
from components.versions import is_downgrade


def before_upgrade(cluster: ClusterSettings) -> pulumi.ResourceHook:
    """The hook for every release on one cluster; it does nothing unless the chart's version changes."""
    only_looking = pulumi.runtime.is_dry_run()

    async def change_version(change: pulumi.ResourceHookArgs) -> None:
        before, after = change.old_inputs or {}, change.new_inputs or {}
        deployed, wanted = before.get("version"), after.get("version")
        if not isinstance(deployed, str) or not isinstance(wanted, str) or deployed == wanted:
            return
        if is_downgrade(deployed, wanted):
            raise pulumi.RunError(
                f"Release {after['name']} on cluster {cluster.name} is at {deployed}; {wanted} would be a downgrade. "
                "There is no way back: its CRDs, and what is stored by them, may be of the newer version already. "
                f"Write {deployed} or later in gloo-mesh:version, and in gloo-mesh:workers.NAME.version where a "
                "worker has one."
            )
        if not only_looking and (leftover := product.TEST_OBJECTS.get(after["name"])):
            objects = (f"pod/{leftover}", f"rolebinding/{leftover}")
            if kept := await asyncio.to_thread(removed, cluster, after["namespace"], *objects):
                pulumi.log.warn(
                    f"What Helm's tests left on cluster {cluster.name} could not be removed ({kept}); should the "
                    f"upgrade of {after['name']} fail over it: {cluster.kubectl} "
                    f"-n {after['namespace']} delete {' '.join(objects)}"
                )

    return pulumi.ResourceHook(
        f"{cluster.name}-before-upgrade", change_version, pulumi.ResourceHookOptions(on_dry_run=True)
    )
