"""This machine, in a bundle: the configuration, what its commands find, and the versions of everything."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from components.settings import Settings
from components.settings.fields import is_encrypted
from components.values_digest import MASKED
from operations import certificates, charts, decryption, plan, plugins, state
from operations.check import check
from operations.findings import Finding
from operations.gather import secrets
from operations.gather.part import Part
from operations.preflight import preflight
from operations.redaction import looks_secret
from operations.stack import PROJECT_FOLDER, Stack, UsageError

PACKAGES = ("pulumi", "pulumi-kubernetes", "pulumi-random", "pulumi-tls", "kubernetes", "cryptography", "pydantic")
COMMANDS = {"pulumi": ["version"], "helm": ["version", "--short"]}
FINDERS: dict[str, Callable[[Stack, Settings], list[Finding]]] = {
    "preflight": lambda stack, settings: preflight(stack, settings, state.exported(stack.name)).findings,
    "check": lambda stack, settings: check(stack.name, settings).findings,
    "certificates": lambda stack, settings: certificates.look(stack.name, settings).findings,
}
"""By verb, how its findings are had: all of them go in."""


def collected(stack: Stack, settings: Settings) -> Part:
    """What is known on this machine."""
    found = Part()
    document = yaml.load(stack.file.read_text(), yaml.CSafeLoader)
    found.files["settings.json"] = {"config": _opaque(document.get("config", {}))}
    if made := found.attempt("plan", lambda: plan.plan(stack)):
        found.files["plan.json"] = made.report()
    found.files["versions.json"] = _versions(settings, found)
    findings = {verb: found.attempt(verb, lambda find=find: find(stack, settings)) for verb, find in FINDERS.items()}
    found.files["findings.json"] = {
        verb: [finding.report() for finding in told] for verb, told in findings.items() if told is not None
    }
    kubeconfigs = {f"gloo-mesh:{c.kubeconfig.value}" for c in settings.clusters if c.kubeconfig.kind == "secret"}
    # Of a kubeconfig the credentials alone are secret; they come with each cluster's.
    for key, value in (
        found.attempt("search for the stack's secrets", lambda: decryption.secrets(stack)) or {}
    ).items():
        if key not in kubeconfigs:
            found.known |= dict.fromkeys(secrets.values(value), f"the secret {key}")
    for name, value in os.environ.items():
        if looks_secret(name) and not os.path.exists(value):
            found.known[value] = f"the variable {name}"
    # What is no text shows in none.
    with suppress(OSError, UnicodeDecodeError):
        found.known[Path(os.environ.get("PULUMI_CONFIG_PASSPHRASE_FILE", "")).read_text()] = "the passphrase"
    return found


def _versions(settings: Settings, part: Part) -> dict[str, Any]:
    commands = {name: [name, *arguments] for name, arguments in COMMANDS.items()}
    commands["program"] = ["git", "-C", str(PROJECT_FOLDER), "describe", "--always", "--dirty"]
    return {
        **{
            name: part.attempt(f"version of {name}", lambda it=command: _said(it)) for name, command in commands.items()
        },
        "python": sys.version.split()[0],
        "packages": {name: version(name) for name in PACKAGES},
        "plugins": plugins.announcement(),
        "charts": [vars(chart) for chart in charts.locked(Path(settings.charts_folder))],
        "fleet": {cluster.name: cluster.version for cluster in settings.clusters},
    }


def _said(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        raise UsageError(f"{command[0]} is not on PATH")
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def _opaque(value: Any) -> Any:
    """A stack's configuration without what it holds encrypted."""
    if isinstance(value, dict):
        return MASKED if is_encrypted(value) else {key: _opaque(inner) for key, inner in value.items()}
    return [_opaque(inner) for inner in value] if isinstance(value, list) else value
