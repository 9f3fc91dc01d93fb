"""Looking at several clusters at the same time, each within a deadline.

Owns the side by side: one cluster that is slow, or down, takes nothing from the others. One that doesn't answer
its first question within seconds isn't asked another.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from components.settings import ClusterSettings
from operations.api import FIRST_SECONDS, Api
from operations.deadline import started

AT_ONCE = 32
"""Calls; each takes a thread and a few descriptors."""

Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Looked(Generic[Seen]):
    """What was seen, and where nothing could be; both by the cluster's name, in the configuration's order."""

    seen: dict[str, Seen]
    unseen: dict[str, Exception]


def look(
    clusters: Iterable[ClusterSettings], at: Callable[[ClusterSettings, Api], Seen], seconds: float
) -> Looked[Seen]:
    """What `at` sees of each cluster, within `seconds` of its login. Whatever `at` raises keeps to its cluster."""
    asked = list(clusters)
    seen: dict[str, Seen] = {}
    unseen: dict[str, Exception] = {}

    def entered(cluster: ClusterSettings) -> Seen:
        api = Api(cluster, seconds)
        api.enter()
        return at(cluster, api)

    answers = started(entered, asked, AT_ONCE)
    try:
        for cluster, answer in zip(asked, answers, strict=True):
            try:
                seen[cluster.name] = answer.result()
            except Exception as error:
                unseen[cluster.name] = error
    finally:
        # Who is interrupted enters no other cluster.
        for answer in answers:
            answer.cancel()
    return Looked(seen, unseen)


def unreachable(clusters: Iterable[ClusterSettings]) -> dict[str, Exception]:
    """By cluster name, why a cluster doesn't answer; empty when all do."""
    return look(clusters, lambda _cluster, _api: None, FIRST_SECONDS).unseen
