"""Kubeconfig files, looked into without a cluster: which contexts they have, or why they can't be used."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import yaml

from components.settings.fields import Source

DEFAULT = Source("path", "~/.kube/config")


def contexts(source: Source, contents: Mapping[str, object]) -> list[str] | str | None:
    """The contexts it has, what is wrong with it, or None where its secret content is opaque.

    `contents` holds the configuration's top-level values.
    """
    if source.kind == "secret":
        content = contents.get(source.value)
        if content is None:
            return f"there is no such key; write it with: pulumi config set --secret gloo-mesh:{source.value} < FILE"
        return _parsed(content) if isinstance(content, str) else None
    path = source.value
    if source.kind == "env":
        if not (path := os.environ.get(source.value, "")):
            return f"the environment has no {source.value}; set it to the path of a kubeconfig"
        if os.pathsep in path:
            return f"{source.value} holds several paths; set it to the path of one kubeconfig"
    try:
        return _parsed(Path(path).expanduser().read_text())
    except FileNotFoundError:
        return "there is no such file; write the path of one, such as ~/.kube/config"
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        return f"it can't be read ({reason}); write the path of a kubeconfig file"
    except (ValueError, RuntimeError):
        return "that can't be a path; write one, such as ~/.kube/config"


def _parsed(text: str) -> list[str] | str:
    try:
        document: Any = yaml.load(text, yaml.CSafeLoader)
        return [str(entry["name"]) for entry in cast("list[dict[str, object]]", document["contexts"] or [])]
    except (yaml.YAMLError, KeyError, TypeError):
        return "it isn't a kubeconfig; write the path of one, such as ~/.kube/config"
