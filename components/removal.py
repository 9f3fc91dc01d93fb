"""Deleting, beside Pulumi's provider, what others left on a cluster and the fleet can't go on with.

Owns the deletion alone: what goes, and when, is its caller's.
"""

from typing import Any

from components.connection import connected, reason
from components.settings import ClusterSettings

SECONDS = 5
"""Deadline of one request; a cluster that is down must not hold its own update up any longer."""


def removed(cluster: ClusterSettings, namespace: str, *objects: str) -> str | None:
    """Delete objects, each `secret/NAME`, `pod/NAME` or `rolebinding/NAME`, if they are there; why that failed."""
    from kubernetes import client

    try:
        api = connected(cluster)
        core = client.CoreV1Api(api)
        delete = {
            "secret": core.delete_namespaced_secret,
            "pod": core.delete_namespaced_pod,
            "rolebinding": client.RbacAuthorizationV1Api(api).delete_namespaced_role_binding,
        }
        for kind, _, name in (called.partition("/") for called in objects):
            try:
                # At once: a pod that is still ending would be in the way of its successor.
                delete[kind](name, namespace, grace_period_seconds=0, _request_timeout=SECONDS)
            except client.ApiException as refusal:
                untyped: Any = refusal
                if untyped.status != 404:
                    return f"{untyped.status} {untyped.reason}"
    except Exception as error:
        return reason(error)
    return None
