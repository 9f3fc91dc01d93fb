"""Secrets on their way: what gives a configuration's, and the object on a cluster that holds one.

Owns neither's content. Pulumi keeps it secret on the wire and in the state.
"""

from collections.abc import Callable, Mapping

import pulumi
import pulumi_kubernetes as k8s

Reveal = Callable[[str], pulumi.Input[str]]
"""Gives the content of a top-level secret key, or what stands for it."""


def opaque_secret(
    name: str,
    secret_name: str,
    namespace: pulumi.Input[str],
    content: Mapping[str, pulumi.Input[str]],
    opts: pulumi.ResourceOptions,
    annotations: Mapping[str, pulumi.Input[str]] | None = None,
) -> k8s.core.v1.Secret:
    """An Opaque Secret of this content."""
    metadata: k8s.meta.v1.ObjectMetaArgsDict = {"name": secret_name, "namespace": namespace}
    if annotations:
        metadata["annotations"] = annotations
    return k8s.core.v1.Secret(name, metadata=metadata, string_data=content, opts=opts)
