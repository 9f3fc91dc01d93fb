"""The addons' post-renderer: where they run and where their images come from, which their charts have no values for.

Helm gives it a release's manifests on stdin and installs what it prints. What to set travels in the manifests, as an
annotation of the addons' pods, because Pulumi's plugin passes no arguments; so it is in the release's values, where a
change of it is a diff. Run by `components/place-addons`; it needs nothing but PyYAML.
"""

import json
import re
import sys
from typing import Any

import yaml

from components import product


def placed(manifests: str) -> str:
    """The manifests with the addons' Deployments placed as their annotation says, everything else to the letter.

    Raises ValueError where no annotation is: the chart would have dropped what the configuration asks for.
    """
    documents = re.split(r"(?m)^---[ \t]*\n", manifests)
    deployments: dict[int, dict[str, Any]] = {}
    placement: dict[str, Any] | None = None
    for index, document in enumerate(documents):
        content: Any = yaml.load(document, yaml.CSafeLoader)
        if content and content["kind"] == "Deployment" and content["metadata"]["name"] in product.ADDONS:
            deployments[index] = content
            annotations: dict[str, str] = content["spec"]["template"]["metadata"].get("annotations") or {}
            if found := annotations.pop(product.PLACEMENT_ANNOTATION, None):
                placement = json.loads(found)
    if placement is None:
        raise ValueError(
            f"No addon's pods carry the annotation {product.PLACEMENT_ANNOTATION}, so this chart doesn't follow "
            "extraTemplateAnnotations, or gloo-mesh:values take it out; nothing is installed without its placement."
        )
    for index, deployment in deployments.items():
        _place(deployment["spec"]["template"]["spec"], placement)
        documents[index] = yaml.safe_dump(deployment, sort_keys=False)
    return "---\n".join(documents)


def _place(pod: dict[str, Any], placement: dict[str, Any]) -> None:
    if selector := placement.get("nodeSelector"):
        pod["nodeSelector"] = {**(pod.get("nodeSelector") or {}), **selector}
    if tolerations := placement.get("tolerations"):
        pod["tolerations"] = [*(pod.get("tolerations") or []), *tolerations]
    if name := placement.get("pullSecret"):
        pod["imagePullSecrets"] = [*(pod.get("imagePullSecrets") or []), {"name": name}]
    if registry := placement.get("registry"):
        containers: list[dict[str, str]] = [*pod["containers"], *(pod.get("initContainers") or [])]
        for container in containers:
            container["image"] = f"{registry}/{container['image'].rpartition('/')[2]}"


if __name__ == "__main__":
    try:
        sys.stdout.write(placed(sys.stdin.read()))
    except ValueError as error:
        sys.exit(str(error))
