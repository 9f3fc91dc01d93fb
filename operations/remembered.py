"""Clusters as the state reaches them: by the kubeconfig and the context that the last run had.

Owns that reading. The configuration may name another cluster by now, or none.
"""

from dataclasses import replace

from components.settings import ClusterSettings
from components.settings.fields import Source
from operations import state
from operations.state import State


def names(document: State) -> list[str]:
    """Every cluster that the state knows, by name: the engine keeps them in the order in which they came about."""
    return sorted(state.name(entry["urn"]) for entry in state.entries(document) if entry["type"] == state.PROVIDER)


def cluster(document: State, name: str, like: ClusterSettings) -> ClusterSettings | None:
    """How to reach one of them, everything else as in `like`; None where the state holds its kubeconfig encrypted."""
    (inputs,) = [
        entry["inputs"]
        for entry in state.entries(document)
        if entry["type"] == state.PROVIDER and state.name(entry["urn"]) == name
    ]
    if not isinstance(inputs.get("kubeconfig"), str):
        return None
    return replace(like, name=name, kubeconfig=Source("path", inputs["kubeconfig"]), context=inputs["context"])
