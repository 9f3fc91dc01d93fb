"""What has to happen between two versions of a release, before Helm upgrades it.

Owns the refusal of a downgrade, in previews already, and the removal of what the vendor's Helm tests
leave behind. The order of an upgrade (CRDs, management, agents) is in the releases' dependencies.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import pulumi

from components import product
from components.connection import connected, reason
from components.settings import ClusterSettings
from components.versions import is_downgrade

SECONDS = 5
"""Deadline of one request; a cluster that is down must not hold its own upgrade up any longer."""


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
            kept = await asyncio.to_thread(_remove, cluster, after, leftover)
            if kept:
                pulumi.log.warn(
                    f"What Helm's tests left on cluster {cluster.name} could not be removed ({kept}); should the "
                    f"upgrade of {after['name']} fail over it: {cluster.kubectl} "
                    f"-n {after['namespace']} delete pod/{leftover} rolebinding/{leftover}"
                )

    return pulumi.ResourceHook(
        f"{cluster.name}-before-upgrade", change_version, pulumi.ResourceHookOptions(on_dry_run=True)
    )


def _remove(cluster: ClusterSettings, release: Mapping[str, Any], name: str) -> str | None:
    """Delete a test's pod and its right to look, if they are there; why that failed, if it did."""
    from kubernetes import client

    try:
        api = connected(cluster)
        for delete in (
            client.CoreV1Api(api).delete_namespaced_pod,
            client.RbacAuthorizationV1Api(api).delete_namespaced_role_binding,
        ):
            try:
                # At once: a pod that is still ending would be in the way of the upgrade's own.
                delete(name, release["namespace"], grace_period_seconds=0, _request_timeout=SECONDS)
            except client.ApiException as refusal:
                untyped: Any = refusal
                if untyped.status != 404:
                    return f"{untyped.status} {untyped.reason}"
    except Exception as error:
        return reason(error)
    return None
