"""The deployment as the program makes it of a stack's file: no engine, no cluster, and mostly no decrypting.

Owns what is shown of each resource, in an order that is the same on every run, and the comparison of two plans. Secrets
are masked; what only a deployment can know (an address, a fingerprint) is named as such.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from components.settings import MANAGEMENT, Settings, configured, encrypted
from components.values_digest import MASKED
from operations import decryption, program
from operations.objects import at, differences, written
from operations.program import Registered
from operations.progress import SHARED
from operations.stack import Stack

LATER = "(known after up)"
HIDDEN = ("privateKeyPem", "caPrivateKeyPem")
"""What is a secret, though its content is only a deployment's."""


@dataclass(frozen=True)
class Planned:
    """One resource as it would be deployed."""

    type: str
    name: str
    """In the state; that of the object is among the inputs."""
    step: int
    """What is at a step waits for something at the step before."""
    after: list[str]
    """What it waits for itself, as `type::name`."""
    protect: bool
    read: str
    """The id of what is only read; empty for everything else."""
    inputs: Any

    @property
    def key(self) -> str:
        """What `after` of others calls it."""
        return f"{self.type}::{self.name}"

    @property
    def kind(self) -> str:
        """The last part of its type."""
        return self.type.rpartition(":")[2]

    @property
    def called(self) -> str:
        """The object's own name, where it has one."""
        inputs = self.inputs if isinstance(self.inputs, dict) else {}
        return (inputs.get("metadata") or inputs).get("name") or self.read or self.name


@dataclass(frozen=True)
class Plan:
    """A stack's resources by cluster, in order; those without a cluster first."""

    stack: str
    version: str
    contexts: dict[str, str]
    clusters: dict[str, list[Planned]]

    def report(self) -> dict[str, Any]:
        """For machines, and for a later `compared`."""
        return asdict(self)


def plan(stack: Stack) -> Plan:
    """What an `up` would deploy where nothing is yet; raises what the configuration's faults raise.

    Pulumi's CLI is needed only where a certificate is a secret of the stack's file.
    """
    os.environ.update(stack.environment)
    config = configured(stack.file)
    secret = encrypted(config)
    settings = Settings.parse(config, secret)
    if decrypted := decryption.certificates(stack, settings):
        config |= decrypted
        # Whether they are certificates can be told only now.
        settings = Settings.parse(config, secret)
    given = program.given(config).items()
    contents = {content.strip() for key, content in given if key.partition(":")[2] in secret}
    registered = program.recorded(stack.name, config, secret)
    return Plan(
        stack.name,
        settings.version,
        {cluster.name: cluster.context for cluster in settings.clusters},
        _by_cluster(registered, contents),
    )


def compared(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The difference between two reports: by resource and path what was there and what is, null where there is none.

    A secret that changed is masked in both, so it isn't seen.
    """
    old, new = dict(_flat(before)), dict(_flat(after))
    changed = {
        key: {
            written(path): {"before": at(old[key], path), "after": at(new[key], path)}
            for path in differences(old[key], new[key])
        }
        for key in sorted(old.keys() & new.keys())
    }
    return {
        "added": sorted(new.keys() - old.keys()),
        "removed": sorted(old.keys() - new.keys()),
        "changed": {key: paths for key, paths in changed.items() if paths},
    }


def direct(resources: Iterable[Planned]) -> Iterator[tuple[str, str]]:
    """Who waits for whom, without what follows from the rest: pairs of keys, the awaited first."""
    waits = {resource.key: set(resource.after) for resource in resources}
    reached: dict[str, set[str]] = {}

    def beyond(key: str) -> set[str]:
        if key not in reached:
            reached[key] = set().union(*({before} | beyond(before) for before in waits.get(key, ())))
        return reached[key]

    for key, awaited in waits.items():
        for before in sorted(awaited):
            if not any(before in beyond(other) for other in awaited if other != before):
                yield before, key


def _flat(report: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for cluster, resources in report["clusters"].items():
        for resource in resources:
            told = {key: resource[key] for key in ("inputs", "after", "protect", "read")}
            # Where something is in the order follows from what it waits for.
            yield f"{cluster} {resource['type'].rpartition(':')[2]} {resource['name']}", told


def _by_cluster(registered: list[Registered], contents: Collection[str]) -> dict[str, list[Planned]]:
    # Components are how the program is written, not what is deployed.
    deployed = {resource.key: resource for resource in registered if not resource.type.startswith("gloo-mesh:")}
    steps: dict[str, int] = {}

    def step(key: str) -> int:
        if key not in steps:
            awaited = deployed[key].dependencies & deployed.keys()
            steps[key] = 1 + max(map(step, awaited), default=0)
        return steps[key]

    clusters: dict[str, list[Planned]] = {SHARED: [], MANAGEMENT: []}
    for key in sorted(deployed, key=lambda key: (step(key), key)):
        resource = deployed[key]
        if resource.type == "pulumi:providers:kubernetes":
            clusters.setdefault(resource.name, [])
            continue
        planned = Planned(
            type=resource.type,
            name=resource.name,
            step=steps[key],
            after=sorted(resource.dependencies & deployed.keys()),
            protect=resource.protect,
            read=resource.read,
            inputs=_masked(resource.wire, contents, resource.type.endswith(":Secret")),
        )
        clusters.setdefault(resource.provider or SHARED, []).append(planned)
    return {name: resources for name, resources in clusters.items() if resources}


def _masked(value: Any, secret: Collection[str], hidden: bool, *, inside: bool = False, key: str = "") -> Any:
    """Inputs as they travelled, without what is in the SDK's envelope: `inside` it everything is masked."""
    if program.is_secret(value):
        return _masked(value["value"], secret, hidden, inside=True, key=key)
    if isinstance(value, dict):
        return {
            name: _masked(inner, secret, hidden or name in HIDDEN, inside=inside, key=name)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_masked(inner, secret, hidden, inside=inside, key=key) for inner in value]
    if not inside:
        return int(value) if isinstance(value, float) and value.is_integer() else value
    if isinstance(value, str) and any(content and content in value for content in secret):
        return MASKED
    # An object's namespace is another one's output, and in a configuration anyway.
    if key == "namespace":
        return value
    return MASKED if hidden else LATER
