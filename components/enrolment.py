"""An agent's enrolment with the relay: its token, and the certificate that the relay issues it for that.

Owns what ends one when the fleet's root, or the key that the relay signs with, is another, and what an earlier agent
left of one. The Secret that an agent keeps its certificate in is the agent's; it shows that one for as long as it is
there.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import pulumi

from components import product
from components.removal import removed
from components.settings import ClusterSettings


def start_of_enrolment(cluster: ClusterSettings, namespace: str) -> pulumi.ResourceHook:
    """A hook for an agent's release, before it is made in a namespace that was there before.

    An agent before it, by another name or of another fleet, may have left its certificate, which no removal takes away.
    """

    async def forget(_: pulumi.ResourceHookArgs) -> None:
        await _forget(
            cluster, namespace, f"What an earlier agent may have left on cluster {cluster.name} can't be removed"
        )

    return pulumi.ResourceHook(f"{cluster.name}-start-of-enrolment", forget)


def end_of_enrolment(cluster: ClusterSettings, namespace: str) -> pulumi.ResourceHook:
    """A hook for a worker's copy of the root, before another gets there: the agent has to ask anew.

    Its release, which waits for that copy, restarts it. A certificate that can't be removed fails the copy, and so
    leaves both for the next up.
    """

    async def forget(change: pulumi.ResourceHookArgs) -> None:
        before, after = _issuer(change.old_inputs), _issuer(change.new_inputs)
        # Of what a recovery took in, nothing is known; of a signing key not always anything.
        if not before[0] or all(old == new for old, new in zip(before, after, strict=False)):
            return
        kept = f"The agent on cluster {cluster.name} would keep a certificate that the relay no longer takes"
        await _forget(cluster, namespace, kept)

    return pulumi.ResourceHook(f"{cluster.name}-end-of-enrolment", forget)


async def _forget(cluster: ClusterSettings, namespace: str, otherwise: str) -> None:
    secret = f"secret/{product.RELAY_CLIENT_SECRET}"
    if why := await asyncio.to_thread(removed, cluster, namespace, secret):
        delete = f"{cluster.kubectl} -n {namespace} delete {secret}"
        raise pulumi.RunError(f"{otherwise} ({why}). Mend that and run up again, or first: {delete}")


def _issuer(inputs: Mapping[str, Any] | None) -> list[str]:
    """What a copy of the root bears: that root's fingerprint and, where it is known, the signing key's."""
    metadata: Any = (inputs or {}).get("metadata") or {}
    annotations: Any = metadata.get("annotations") or {}
    return annotations.get(product.ISSUER_ANNOTATION, "").split("/")
