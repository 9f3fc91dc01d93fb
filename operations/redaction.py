"""Taking secrets out of what leaves this machine, and proving that they are out.

Owns the rules: values that are known are searched for in every form they travel in, those that aren't are known by
their names and shapes. What is public (certificates, names of Secrets) stays.
"""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from components.values_digest import MASKED

SHORTEST = 6
"""A shorter value is found everywhere; it is masked by its name alone."""
LINE = 16
"""From how many characters on a line of a secret of several lines is telling by itself."""

_NAMED = re.compile(
    r"(pass(word|wd|phrase)|token|secret|licen[cs]e|credentials?|(licen[cs]e|private|api|access|secret)[-_.]?key|"
    r"htpasswd|salt|cookie)$",
    re.IGNORECASE,
)
_ENVIRONMENT = re.compile(_NAMED.pattern.removesuffix("$") + r"$|_KEY$", re.IGNORECASE)
_ARGUMENT = re.compile(
    r"^(--?[\w.-]*(?:pass(?:word|wd|phrase)|token|secret|licen[cs]e|credentials?|(?:licen[cs]e|api|access)-key)=)(.+)$",
    re.IGNORECASE | re.DOTALL,
)
_SHAPES = (
    # Lines of a key end in \n where the text is JSON.
    re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?-----END [A-Z0-9 ]*PRIVATE KEY-----", re.DOTALL),
    re.compile(r"LS0tLS1CRUdJTi(?:BSU0EgUFJJVkFUR|BQUklWQVRF|BFQyBQUklWQVRF|BFTkNSWVBURU)[A-Za-z0-9+/=_-]*"),
    re.compile(r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*"),
    re.compile(r"(?<=[Bb]earer )[\w.~+/=-]{8,}"),
    re.compile(r"(?<=://)[^/@\s\"']+:[^/@\s\"']+(?=@)"),
)
_REPEATS = "kubectl.kubernetes.io/last-applied-configuration"
"""An annotation that repeats the whole object."""


class Redactor:
    """Knows secrets by their values; never tells one."""

    def __init__(self, known: Mapping[str, str]) -> None:
        """`known` names each value: what it is, and where it came from."""
        # What the mask itself holds would be found wherever something was masked.
        self._forms = {form: name for value, name in known.items() for form in _forms(value) if form not in MASKED}
        # To look for one form after the other would take the square of the number of clusters. A text is looked at in
        # steps: wherever a form lies, one of its first pieces lies at a step.
        shortest = min(map(len, self._forms), default=SHORTEST)
        self._piece = shortest // 2
        self._step = shortest - self._piece + 1
        self._pieces: dict[str, list[tuple[int, str]]] = {}
        for form in self._forms:
            for at in range(self._step):
                self._pieces.setdefault(form[at : at + self._piece], []).append((at, form))

    def document(self, value: Any) -> Any:
        """An object without what is a secret by its name or place; known values go with `text`."""
        if isinstance(value, dict):
            if {"name", "value"} <= value.keys() and _ENVIRONMENT.search(str(value["name"])):
                value = value | {"value": MASKED}
            return {
                name: MASKED if _NAMED.search(name) and isinstance(inner, str) and inner else self.document(inner)
                for name, inner in _plain(value).items()
            }
        if isinstance(value, list):
            return [self.document(inner) for inner in value]
        return _ARGUMENT.sub(rf"\1{MASKED}", value) if isinstance(value, str) else value

    def text(self, text: str) -> str:
        """Text without known values, in whatever form, and without what has the shape of a credential."""
        told: list[str] = []
        end = 0
        for start, form in sorted(self._known(text)):
            # A form may lie within another, or begin in it.
            if start >= end:
                told += [text[end:start], MASKED]
            end = max(end, start + len(form))
        text = "".join([*told, text[end:]])
        for shape in _SHAPES:
            text = shape.sub(MASKED, text)
        return text

    def found(self, content: bytes) -> list[str]:
        """What known values are called that are in `content`."""
        return sorted({self._forms[form] for _, form in self._known(content.decode(errors="surrogateescape"))})

    def _known(self, text: str) -> Iterator[tuple[int, str]]:
        """Where each known form begins in a text."""
        for step in range(0, len(text), self._step):
            for at, form in self._pieces.get(text[step : step + self._piece], ()):
                if at <= step and text.startswith(form, step - at):
                    yield step - at, form


def looks_secret(name: str) -> bool:
    """Whether something of this name is a secret, as environment variables are called."""
    return bool(_ENVIRONMENT.search(name))


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """An object's metadata without what repeats the rest of it."""
    kept = {name: inner for name, inner in value.items() if name != _REPEATS}
    if isinstance(fields := kept.get("managedFields"), list):
        told = ("manager", "operation", "subresource", "time")
        kept["managedFields"] = [{key: field[key] for key in told if key in field} for field in fields]
    return kept


def _forms(value: str) -> Iterator[str]:
    """How a value may be written: as it is, in JSON, in an address, in base64 at any offset, and line by line."""
    value = value.strip()
    if len(value) < SHORTEST:
        return
    yield value
    yield json.dumps(value)[1:-1]
    yield quote(value, safe="")
    yield from _base64(value.encode())
    lines = [line.strip() for line in value.splitlines()]
    if len(lines) > 1:
        for line in lines:
            if len(line) >= LINE and not line.startswith("-----"):
                yield line
                yield from _base64(line.encode())


def _base64(content: bytes) -> Iterator[str]:
    """The characters that base64 has for `content` wherever it lies in something longer."""
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + content).decode().rstrip("=")
        # The first and the last characters also depend on the neighbours.
        inner = encoded[(0, 2, 3)[before] : len(encoded) - (1 if (before + len(content)) % 3 else 0)]
        if len(inner) >= SHORTEST:
            yield inner
            yield inner.translate(str.maketrans("+/", "-_"))
