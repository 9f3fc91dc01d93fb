"""Where images come from: an `image` of the vendor's values, and the Secret its registry is entered with.

Owns both for every cluster. Which containers a chart has, and where their values lie, is each release's.
"""

import pulumi
import pulumi_kubernetes as k8s

from components import product
from components.secrets import Reveal
from components.settings.clusters import ImagesSettings


def image_values(images: ImagesSettings, version: str | None = None) -> dict[str, str]:
    """What an image has instead of the chart's own: registry, tag, pullSecret; nothing by default.

    `version` of an image that the vendor builds for FIPS too, so of none that is somebody else's.
    """
    values = {"registry": images.registry or "", "pullSecret": images.pull_secret_name or ""}
    if images.fips and version:
        values["tag"] = f"{version}-fips"
    return {key: value for key, value in values.items() if value}


def pull_secret(
    name: str,
    images: ImagesSettings,
    namespace: pulumi.Input[str],
    reveal: Reveal,
    opts: pulumi.ResourceOptions,
) -> list[k8s.core.v1.Secret]:
    """The Secret made from `{secret: KEY}`, for releases to depend on; empty where none is to be made."""
    if images.pull_secret_key is None:
        return []
    return [
        k8s.core.v1.Secret(
            name,
            metadata={"name": product.PULL_SECRET, "namespace": namespace},
            type="kubernetes.io/dockerconfigjson",
            string_data={".dockerconfigjson": reveal(images.pull_secret_key)},
            opts=opts,
        )
    ]
