"""Kubeconfigs: where one lies, what it has or why it can't be used, and what Pulumi's plugin is told of it.

Owns reading them, without a cluster. Logging in with what they hold is the plugin's, and `components.connection`'s.
"""

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from components.settings.fields import Source, from_home, is_encrypted

DEFAULT = Source("path", "~/.kube/config")
LINKS = Path(".kubeconfigs")
"""In the project's folder, a link for each variable that holds a path; see docs/decisions/0006."""

_PATHS = {"cluster": ("certificate-authority",), "user": ("client-certificate", "client-key", "tokenFile")}


class KubeconfigError(Exception):
    """Why a kubeconfig can't be used, and what to write; never a part of its content."""


@dataclass(frozen=True)
class Kubeconfig:
    """A kubeconfig's content, and the folder that its relative paths start from."""

    document: Mapping[str, Any]
    folder: Path

    @property
    def contexts(self) -> list[str]:
        """The names of its contexts."""
        entries: list[dict[str, object]] = self.document["contexts"] or []
        return [str(entry["name"]) for entry in entries]

    def of(self, kind: str, context: str) -> dict[str, Any]:
        """A context's `cluster` or `user`; empty where it has none."""
        name = self._entry("context", context).get(kind)
        return self._entry(kind, name)

    def strays(self, context: str) -> Iterator[str]:
        """Relative paths that kubectl follows from the kubeconfig's folder, and Pulumi's plugin from the project's."""
        found = [(key, self.of(kind, context).get(key)) for kind, keys in _PATHS.items() for key in keys]
        login: object = self.of("user", context).get("exec")
        command = cast("dict[str, object]", login).get("command") if isinstance(login, dict) else None
        if isinstance(command, str) and "/" in command:
            found.append(("command", command))
        for key, path in found:
            if isinstance(path, str) and Path(path).absolute() != (self.folder / path).absolute():
                yield f"{key}: {path}"

    def _entry(self, kind: str, name: object) -> dict[str, Any]:
        entries: object = self.document.get(f"{kind}s")
        for entry in cast("list[object]", entries) if isinstance(entries, list) else []:
            if isinstance(entry, dict) and str((named := cast("dict[str, Any]", entry)).get("name")) == str(name):
                content = named.get(kind)
                return cast("dict[str, Any]", content) if isinstance(content, dict) else {}
        return {}


def read(source: Source, contents: Mapping[str, object]) -> Kubeconfig | None:
    """What it holds, or None where its content is a secret that is opaque or missing; raises KubeconfigError.

    `contents` holds the configuration's top-level values.
    """
    if source.kind == "secret":
        content = contents.get(source.value)
        # JSON is read as such before anyone knows that it is a kubeconfig.
        parsed = cast("object", content) if isinstance(content, dict) else _parsed(str(content or ""))
        opaque = content is None or is_encrypted(parsed)
        return None if opaque else _checked(parsed, Path())
    path = located(source)
    try:
        return _checked(_parsed(path.read_text()), path.parent)
    except FileNotFoundError:
        raise KubeconfigError(
            f"there is no such file ({path.absolute()}); write the path of one, such as ~/.kube/config"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise KubeconfigError(f"it can't be read ({reason}); write the path of a kubeconfig file") from None
    except ValueError:
        raise KubeconfigError("that can't be a path; write one, such as ~/.kube/config") from None


def located(source: Source) -> Path:
    """Where a path or a variable leads; raises KubeconfigError where the variable holds no path, or several."""
    path = source.value
    if source.kind == "env":
        if not (path := os.environ.get(source.value, "")):
            raise KubeconfigError(f"the environment has no {source.value}; set it to the path of a kubeconfig")
        if os.pathsep in path:
            raise KubeconfigError(f"{source.value} holds several paths; set it to the path of one kubeconfig")
    return from_home(path)


def given(source: Source, stack: str) -> str:
    """The path that Pulumi's plugin is given, which is in the state and so must be the same for everybody.

    A variable's is a link, made here, because the path it holds differs from one machine to the next.
    Raises KubeconfigError.
    """
    if source.kind == "path":
        return source.value
    link = LINKS / stack / source.value
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        made = link.with_name(f".{link.name}.{os.getpid()}")
        made.unlink(missing_ok=True)
        made.symlink_to(located(source).absolute())
        # At once, so that a plugin that starts meanwhile finds one or the other.
        made.replace(link)
    except OSError as error:
        raise KubeconfigError(
            f"the link {link} to it can't be made ({error.strerror}); make the project's folder writable"
        ) from None
    return str(link)


def behind(path: str) -> Source:
    """What a path was `given` for: a variable, where one of that name holds a path here, or else itself."""
    link = Path(path)
    variable = Source("env", link.name)
    if link.parent.parent == LINKS:
        with suppress(KubeconfigError):
            located(variable)
            return variable
    return Source("path", path)


def flag(source: Source) -> str:
    """What makes kubectl and Helm read it, to be written in a shell; nothing where they do by themselves.

    KUBECONFIG_FILE stands for a secret's content: nobody is to find a kubeconfig decrypted for them.
    """
    if source.kind == "secret":
        return "--kubeconfig KUBECONFIG_FILE "
    if source.kind == "env":
        return f'--kubeconfig "${source.value}" '
    path = str(from_home(source.value))
    # Shells go by HOME, and take ~ for that alone.
    plain = source.value.startswith("~/") and path == os.path.expanduser(source.value)
    if plain and source == DEFAULT and not os.environ.get("KUBECONFIG"):
        return ""
    return f"--kubeconfig {f'~/{shlex.quote(source.value[2:])}' if plain else shlex.quote(path)} "


def _parsed(text: str) -> object:
    try:
        return yaml.load(text, yaml.CSafeLoader)
    except yaml.YAMLError:
        return None


def _checked(document: Any, folder: Path) -> Kubeconfig:
    kubeconfig = Kubeconfig(document, folder)
    try:
        kubeconfig.contexts  # noqa: B018 - whether it has any
    except (KeyError, TypeError):
        raise KubeconfigError("it isn't a kubeconfig; write the path of one, such as ~/.kube/config") from None
    return kubeconfig
