"""The fleet's Helm releases as the program would make them, and as Helm would render them.

Owns the step from the program's values to manifests. Nothing is written, and no value leaves this process
but on helm's standard input.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components import subprocesses
from components.settings import ClusterSettings
from components.settings import kubeconfig as kubeconfigs
from components.values_digest import MASKED
from operations import program
from operations.api import Api
from operations.leftovers import scratch
from operations.releases import Deployed, HelmError, Key, Manifest, by_key
from operations.stack import PROJECT_FOLDER, UsageError

VERSION_SECONDS = 30
"""Deadline of helm's telling what it is, which asks nobody."""
TEMPLATE_SECONDS = 30
"""Deadline of rendering a chart where nobody is asked either."""


@dataclass(frozen=True)
class Wanted:
    """A release as the program would make it."""

    cluster: str
    name: str
    namespace: str
    chart: str
    version: str
    values: Any
    """With secrets, and what only a deployment can know, in the SDK's envelope."""
    post_renderer: str | None


def wanted(stack: str, config: Mapping[str, object], secret: Collection[str]) -> list[Wanted]:
    """Every release that the program makes of a configuration, of which `secret` names the secret keys."""
    return [
        Wanted(
            cluster=resource.provider,
            name=_plain(resource.wire["name"]),
            namespace=_plain(resource.wire["namespace"]),
            chart=_plain(resource.wire["chart"]),
            version=_plain(resource.wire["version"]),
            values=resource.wire.get("values", {}),
            post_renderer=resource.wire.get("postrender"),
        )
        for resource in program.recorded(stack, config, secret)
        if resource.type.startswith("kubernetes:helm.sh/") and resource.type.endswith(":Release")
    ]


def helm_command() -> str:
    """Where Helm's command is; raises UsageError where it is nowhere, or another than is asked for."""
    helm = shutil.which("helm")
    if helm is None:
        raise UsageError(
            "Helm's command, `helm`, is not on PATH; charts are rendered with it. Install Helm 3, from 3.13."
        )
    version = [helm, "version", "--template", "{{.Version}}"]
    try:
        asked = subprocess.run(version, capture_output=True, text=True, check=False, timeout=VERSION_SECONDS)
    except OSError as error:
        raise UsageError(f"{helm} can't be run: {error.strerror}. Install Helm 3, from 3.13.") from None
    except subprocess.TimeoutExpired:
        raise UsageError(f"{helm} hasn't told its version within {VERSION_SECONDS} s; see what `helm` is.") from None
    if not re.match(r"v3\.(1[3-9]|[2-9]\d)\.", asked.stdout):
        # Helm 4 takes the name of a plugin where 3 takes the addons' post-renderer.
        told = asked.stdout.strip() or "of no version that it tells"
        raise UsageError(f"{helm} is {told}; charts are rendered with Helm 3, from 3.13. Put that on PATH first.")
    return helm


def rendered(helm: str, cluster: ClusterSettings, release: Wanted, live: Deployed, api: Api) -> dict[Key, Manifest]:
    """The manifests that an upgrade would apply, hooks aside; helm asks the cluster, as charts do in `lookup`.

    Raises HelmError with helm's own complaint, less anything that may be secret.
    """
    command = ["upgrade", "--reset-values", "--skip-crds", "--disable-openapi-validation", "--dry-run=server"]
    command += ["--output", "json", "--kube-context", cluster.context]
    command += ["--post-renderer", release.post_renderer] if release.post_renderer else []
    with _kubeconfig(cluster) as kubeconfig:
        output = _output([helm, *command, "--kubeconfig", kubeconfig], release, live.values, api.left())
    return by_key(json.loads(output)["manifest"], release.namespace)


def templated(helm: str, release: Wanted, api: Api, *, upgrade: bool) -> dict[Key, Manifest]:
    """The manifests that an install or upgrade would apply, hooks aside, as far as that takes no cluster.

    Charts' `lookup` finds nothing. A post-renderer, which changes no name, isn't run. Raises HelmError, too.
    """
    command = [helm, "template", "--no-hooks", "--kube-version", api.version, *(["--is-upgrade"] if upgrade else [])]
    return by_key(_output(command, release, None, min(TEMPLATE_SECONDS, api.left())), release.namespace)


def _output(command: list[str], release: Wanted, live: Any, seconds: float) -> str:
    """What helm makes of a release, by a command with its options."""
    taken: list[str] = []
    values = json.dumps(_filled(release.values, live, taken))
    try:
        done = subprocesses.run(
            [*command, release.name, release.chart, "--namespace", release.namespace, "--values", "-"],
            seconds=seconds,
            environment=os.environ | {program.PYTHON_VARIABLE: sys.executable},
            given=values.encode(),
            folder=PROJECT_FOLDER,
        )
    except subprocess.TimeoutExpired:
        raise HelmError(f"helm did not render {release.name} in time") from None
    if done.returncode:
        # As it is, line by line, and as helm quotes it.
        quoted = [json.dumps(text, ensure_ascii=False)[1:-1] for text in taken]
        forms = {*taken, *quoted, *(line for text in taken for line in text.splitlines())}
        reason = done.stderr.decode(errors="replace")
        for form in sorted((form for form in forms if len(form) > 3), key=len, reverse=True):
            reason = reason.replace(form, MASKED)
        reason = " ".join(reason.split()).removeprefix("Error: ")
        raise HelmError(f"helm can't render {release.name} {release.version}: {reason}")
    return done.stdout.decode()


@contextmanager
def _kubeconfig(cluster: ClusterSettings) -> Iterator[str]:
    """A file for helm to read; that of a secret one is only its owner's, and gone afterwards."""
    if cluster.kubeconfig.kind != "secret":
        yield str(kubeconfigs.located(cluster.kubeconfig))
        return
    with scratch() as folder:
        content = cluster.kubeconfig_content
        file = Path(folder, "kubeconfig")
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        yield str(file)


def _plain(value: Any) -> str:
    return value["value"] if program.is_secret(value) else value


def _filled(value: Any, live: Any, taken: list[str]) -> Any:
    """Values with what is opaque to us as it is deployed, noted in `taken`; the stand-in where it isn't."""
    if program.is_secret(value):
        known = value["value"] if live is None else live
        taken += _texts(known)
        return known
    if isinstance(value, dict):
        below = live if isinstance(live, dict) else {}
        return {key: _filled(inner, below.get(key), taken) for key, inner in value.items()}
    if isinstance(value, list):
        items = live if isinstance(live, list) and len(live) == len(value) else [None] * len(value)
        return [_filled(inner, item, taken) for inner, item in zip(value, items, strict=True)]
    return value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)
