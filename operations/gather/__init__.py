"""A support bundle: what a stranger needs to see of a fleet, without a single secret.

Owns what is in it and how it is packed; what is collected is told in a file for each place. Everything goes through one
redactor, which knows every secret that can be read from here; a bundle in which it then still finds one is not written.
"""

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.connection import reason
from components.settings.pem import rfc3339
from operations import decryption, everywhere
from operations.gather import cluster, machine
from operations.redaction import Redactor
from operations.stack import Stack, UsageError

SECONDS = 90
"""Deadline of looking at a cluster, its login aside."""
FOLDER = "files"
"""Within the archive; shorter than any value that is looked for, so none is found in it."""


@dataclass(frozen=True)
class Bundle:
    """A bundle that was written."""

    path: Path
    files: int
    size: int
    missing: list[tuple[str, str]]


def gather(stack: Stack, output: Path | None = None) -> Bundle:
    """Write a bundle about a stack's fleet; raises UsageError when it can't, or when a secret would be in it."""
    settings = decryption.opened(stack)
    made = datetime.now(UTC)
    path = output or Path(f"gloo-mesh-{stack.name}-{made:%Y%m%d-%H%M%S}.tar.gz")
    if path.exists():
        raise UsageError(f"{path} exists; name another file with --output.")
    looked = everywhere.look(settings.clusters, lambda it, api: cluster.collected(it, api, settings), SECONDS)
    parts = [machine.collected(stack, settings), *looked.seen.values()]
    missing = [entry for part in parts for entry in part.missing]
    missing += [(name, reason(error)) for name, error in looked.unseen.items()]
    redactor = Redactor({value: name for part in parts for value, name in part.known.items()})
    files = {
        redactor.text(path): redactor.text(_text(redactor.document(content))).encode()
        for part in parts
        for path, content in part.files.items()
    }
    files["manifest.json"] = redactor.text(_text(_manifest(stack, made, files, missing))).encode()
    packed = _packed(files, made)
    _proved(redactor, files, packed)
    _write(path, gzip.compress(packed, mtime=0))
    return Bundle(path, len(files), path.stat().st_size, [(what, redactor.text(why)) for what, why in missing])


def _manifest(stack: Stack, made: datetime, files: Mapping[str, bytes], missing: Iterable[tuple[str, str]]) -> Any:
    return {
        "stack": stack.name,
        "made": rfc3339(made),
        "files": {path: hashlib.sha256(content).hexdigest() for path, content in sorted(files.items())},
        "missing": [{"what": what, "why": why} for what, why in missing],
    }


def _text(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content, indent=1) + "\n"


def _packed(files: Mapping[str, bytes], made: datetime) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, content in sorted(files.items()):
            member = tarfile.TarInfo(f"{FOLDER}/{path}")
            member.size, member.mode, member.mtime = len(content), 0o600, int(made.timestamp())
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def _proved(redactor: Redactor, files: Mapping[str, bytes], packed: bytes) -> None:
    """Raises UsageError when a secret that is known is in the bundle after all."""
    if left := redactor.found(packed):
        where = [path for path, content in files.items() if redactor.found(content)] or ["the names of files"]
        raise UsageError(
            f"Nothing is written, because the bundle would hold {', '.join(left)}, in {', '.join(where)}. That is a "
            "fault of this program: please tell its maintainers, without the value."
        )


def _write(path: Path, content: bytes) -> None:
    """For its owner alone, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
        part.replace(path)
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}.") from None
