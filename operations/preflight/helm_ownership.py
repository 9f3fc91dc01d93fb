"""How an object belongs to a Helm release: a label and two annotations, without which Helm installs nothing over it.

Owns what they are (helm.sh: pkg/action/validate.go), and the command that hands objects over.
"""

from collections.abc import Iterable
from typing import Any

from components.settings import ClusterSettings

_LABEL = {"app.kubernetes.io/managed-by": "Helm"}


def _annotations(release: str, namespace: str) -> dict[str, str]:
    return {"meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": namespace}


def belongs(metadata: dict[str, Any], release: str, namespace: str) -> bool:
    """Whether Helm takes an object for one of this release."""
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    return labels.items() >= _LABEL.items() and annotations.items() >= _annotations(release, namespace).items()


def handover(cluster: ClusterSettings, objects: Iterable[str], release: str, namespace: str) -> str:
    """The command that has Helm take them for the release's; `objects` as kubectl is given them."""
    listed = " ".join(objects)
    return " && ".join(
        f"{cluster.kubectl} {verb} {listed} {' '.join(f'{key}={value}' for key, value in entries.items())} --overwrite"
        for verb, entries in (("label", _LABEL), ("annotate", _annotations(release, namespace)))
    )
