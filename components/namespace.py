"""A namespace this program needs on a cluster: made here, or somebody else's and only labelled.

Owns which of the two, and the labels. What is inside belongs to whoever asks for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from components.settings.clusters import NamespacesSettings

_KIND = "kubernetes:core/v1:Namespace"


@dataclass(frozen=True)
class Namespace:
    """A namespace that is there."""

    name: pulumi.Output[str]
    uid: pulumi.Output[str]
    """Tells its cluster from any other."""


def namespace(
    resource: str,
    name: str,
    settings: NamespacesSettings,
    parent: pulumi.Resource,
    labels: Mapping[str, str] | None = None,
) -> Namespace:
    """The namespace `name` with the configured labels and `labels` over them, as the `resource` of that name.

    An alias lets an existing one change hands in place: without it a namespace that is no longer ours to make would
    be deleted, with everything in it.
    """
    metadata: k8s.meta.v1.ObjectMetaArgsDict = {"name": name}
    if given := {**settings.labels, **(labels or {})}:
        metadata["labels"] = given
    before = f"{_KIND}Patch" if settings.create else _KIND
    opts = pulumi.ResourceOptions(parent=parent, aliases=[pulumi.Alias(type_=before)])
    if settings.create:
        made = k8s.core.v1.Namespace(resource, metadata=metadata, opts=opts).metadata
    else:
        made = k8s.core.v1.NamespacePatch(resource, metadata={**metadata}, opts=opts).metadata
    return Namespace(made.name, made.uid)
