"""Looking at several clusters at the same time, within one deadline.

Owns the side by side: one cluster that is slow, or down, takes nothing from the others.
"""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from components.settings import ClusterSettings
from operations.api import Api

Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Looked(Generic[Seen]):
    """What was seen, and where nothing could be; both by the cluster's name, in the configuration's order."""

    seen: dict[str, Seen]
    unseen: dict[str, Exception]


def look(
    clusters: Iterable[ClusterSettings], at: Callable[[ClusterSettings, Api], Seen], seconds: float
) -> Looked[Seen]:
    """What `at` sees of each cluster; `seconds` is for all together. Whatever `at` raises keeps to its cluster."""
    asked = list(clusters)
    until = time.monotonic() + seconds
    seen: dict[str, Seen] = {}
    unseen: dict[str, Exception] = {}
    with ThreadPoolExecutor(max_workers=max(1, min(32, len(asked)))) as pool:
        answers = [(cluster.name, pool.submit(lambda c: at(c, Api(c, until)), cluster)) for cluster in asked]
        for name, answer in answers:
            try:
                seen[name] = answer.result()
            except Exception as error:
                unseen[name] = error
    return Looked(seen, unseen)
