"""The relay's certificates where cert-manager or Vault put them: Secrets on the management cluster.

Owns a read of the root alone; every other Secret has a key in it, which would then be in the state.
`operations up` looks at those before it deploys.
"""

import base64
from collections.abc import Mapping

import pulumi
import pulumi_kubernetes as k8s

from components import product
from components.certificates import Certificate, Certificates
from components.settings import pem


def existing(name: str, namespace: str, parent: pulumi.Resource) -> Certificates:
    """The root, read from the cluster of `parent`'s provider."""
    secret = k8s.core.v1.Secret.get(
        f"{name}-existing-root",
        f"{namespace}/{product.RELAY_ROOT_SECRET}",
        # Somebody may have put a key beside ca.crt. The plugin keeps what it reads twice, `kubectl apply` once more.
        opts=pulumi.ResourceOptions(parent=parent, additional_secret_outputs=["data", "__inputs", "metadata"]),
    )
    root = pulumi.Output.unsecret(secret.data.apply(lambda data: _anchor(data, namespace)))
    return Certificates(root=Certificate(root, root.apply(pem.end)))


def _anchor(data: Mapping[str, str] | None, namespace: str) -> str:
    try:
        return pem.first_pem(base64.b64decode((data or {}).get("ca.crt", "")).decode())
    except ValueError:
        raise pulumi.RunError(
            f"Secret {product.RELAY_ROOT_SECRET} in namespace {namespace} of the management cluster has no certificate "
            "in ca.crt; put the root there (docs/own-pki.md)."
        ) from None
