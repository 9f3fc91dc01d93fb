"""An agent's enrolment with the relay: its token, and the certificate that the relay issues it for that.

Owns what ends one when the fleet's trust anchor changes. The Secret that an agent keeps its certificate in is the
agent's; it would show the old one for as long as that is there.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import pulumi

from components import product
from components.removal import removed
from components.settings import ClusterSettings


def end_of_enrolment(cluster: ClusterSettings, namespace: str) -> pulumi.ResourceHook:
    """A hook for a worker's copy of the trust anchor: once that is another, the agent has to ask anew.

    Its release, which waits for the anchor, restarts it.
    """
    secret = f"secret/{product.RELAY_CLIENT_SECRET}"

    async def forget(change: pulumi.ResourceHookArgs) -> None:
        before, after = _anchor(change.old_inputs), _anchor(change.new_inputs)
        # Of what a recovery took in, nothing is known.
        if before in (None, after):
            return
        if kept := await asyncio.to_thread(removed, cluster, namespace, secret):
            pulumi.log.warn(
                f"The agent on cluster {cluster.name} keeps a certificate under the root that was ({kept}). It asks "
                f"for another after: {cluster.kubectl} -n {namespace} delete {secret} && {cluster.kubectl} "
                f"-n {namespace} rollout restart deployment/{product.AGENT_DEPLOYMENT}"
            )

    return pulumi.ResourceHook(f"{cluster.name}-end-of-enrolment", forget)


def _anchor(inputs: Mapping[str, Any] | None) -> str | None:
    """The fingerprint that a copy of the trust anchor bears."""
    metadata: Any = (inputs or {}).get("metadata") or {}
    annotations: Any = metadata.get("annotations") or {}
    return annotations.get(product.TRUST_ANCHOR_ANNOTATION)
