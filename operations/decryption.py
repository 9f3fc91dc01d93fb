"""A stack's settings with what is secret in its file, decrypted by Pulumi's CLI where there is any.

Owns which secrets are asked for. What they are is never told.
"""

import json
import os
from typing import Any

from components.settings import PROJECT, Settings
from operations.cli import CommandError, cli, last_error
from operations.stack import Stack, UsageError


def opened(stack: Stack) -> Settings:
    """What a stack's file says, in the environment of its commands, with each kubeconfig that is a secret decrypted.

    Raises UsageError and ConfigurationError; needs Pulumi's CLI only where there is such a kubeconfig.
    """
    os.environ.update(stack.environment)
    return with_kubeconfigs(stack, stack.settings())


def with_kubeconfigs(stack: Stack, settings: Settings) -> Settings:
    """The settings again, with each kubeconfig that is a secret decrypted; raises UsageError."""
    found = kubeconfigs(stack, settings)
    return stack.settings(found) if found else settings


def kubeconfigs(stack: Stack, settings: Settings) -> dict[str, str]:
    """The content of each kubeconfig that is a secret of this stack's file, by key; raises UsageError."""
    keys = {cluster.kubeconfig.value for cluster in settings.clusters if cluster.kubeconfig.kind == "secret"}
    return {key: _decrypted(stack, key) for key in sorted(keys)}


def certificates(stack: Stack, settings: Settings) -> dict[str, str]:
    """Each certificate that is a secret of this stack's file, by key, as the program reads them; raises UsageError."""
    sources = settings.pki.sources.items()
    keys = {source.value for name, source in sources if source.kind == "secret" and not name.endswith(".key")}
    return {key: _decrypted(stack, key) for key in sorted(keys)}


def secrets(stack: Stack) -> dict[str, str]:
    """Every secret of a stack's file, by its full key; raises UsageError."""
    found = _configuration(stack, "--show-secrets")
    return {key: str(entry["value"]) for key, entry in found.items() if entry["secret"]}


def _decrypted(stack: Stack, key: str) -> str:
    return _configuration(stack, "get", f"{PROJECT}:{key}")["value"]


def _configuration(stack: Stack, *arguments: str) -> dict[str, Any]:
    options = ("--json", "--stack", stack.name, "--config-file", str(stack.file))
    named = " ".join(arguments[1:]) or "the secrets"
    try:
        return json.loads(cli("config", *arguments, *options))
    except UsageError as error:
        raise UsageError(f"To decrypt {named}: {error}") from None
    except CommandError as error:
        raise UsageError(error.unknown(stack.name) or f"Pulumi can't decrypt {named}: {last_error(error)}") from None
