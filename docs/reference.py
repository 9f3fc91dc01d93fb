"""The configuration's JSON Schema and reference, generated from the settings: `make reference`.

Owns how the settings are told to editors and readers; what they are is theirs. Editors take the schema from
the first line of a stack's file. A unit test fails when what is generated is no longer what is committed.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from components.settings import PROJECT, Settings
from components.settings.faults import LICENSE_KEY, OIDC_CLIENT_SECRET
from components.settings.fields import Source

FOLDER = Path(__file__).parent
COMMAND = "make reference"
UNITS = {"s": 1, "m": 60, "h": 3600}

SECRETS = {
    LICENSE_KEY: "The licence of Gloo Mesh Enterprise; every fleet needs it.",
    OIDC_CLIENT_SECRET: "The client secret at the OpenID Connect provider; needed with dashboard.oidc.",
}
INTRODUCTION = f"""\
# Configuration

Every key of a stack's configuration, as it stands under `config:` in `Pulumi.STACK.yaml`. Generated from
`components/settings/` by `{COMMAND}`; don't edit. With its first line

```yaml
# yaml-language-server: $schema=docs/configuration.schema.json
```

a stack's file has completion and checks in every editor that speaks YAML's language server. The program itself
checks more, and tells everything that is wrong at once, before anything is created.

`NAME` is a name of yours, `[]` an entry of a list. What is **required** is so wherever the mapping around it is
written.
"""
SECRETS_INTRODUCTION = f"""\
Secrets are keys at the top level, encrypted in the stack's file; in plaintext they are refused. Each is written
by `pulumi config set --secret {PROJECT}:KEY --stack STACK < FILE`. A key of any name holds what another key refers to
by `{{secret: KEY}}`.
"""


class _AsWritten(GenerateJsonSchema):
    """What people write, where it differs from what the program keeps."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: Any) -> dict[str, Any]:
        written = super().default_schema(schema)
        default: object = schema["default_factory"]() if "default_factory" in schema else schema.get("default")
        written.pop("default", None)
        if isinstance(default, Source):
            default = str(default)
        elif str(written.get("title")).startswith("duration"):
            default = _duration(default)
        # A section's defaults are those of its keys.
        if default not in (None, {}, []) and not isinstance(default, BaseModel):
            written["default"] = default
        return written

    def dict_schema(self, schema: Any) -> dict[str, Any]:
        written = super().dict_schema(schema)
        if "patternProperties" in written:
            written["additionalProperties"] = False
        return written


def _duration(seconds: Any) -> str:
    unit, length = max((pair for pair in UNITS.items() if seconds % pair[1] == 0), key=lambda pair: pair[1])
    return f"{seconds // length}{unit}"


def schema() -> dict[str, Any]:
    """Of a whole stack file. Draft 7, which every editor knows."""
    settings = Settings.model_json_schema(by_alias=True, schema_generator=_AsWritten)
    keys = {f"{PROJECT}:{key}": described for key, described in settings["properties"].items()}
    for described in keys.values():
        if described.get("type") == "boolean":
            # `pulumi config set` writes a top-level one as text.
            described["enum"] = [True, False, "true", "false"]
            del described["type"]
    secret = {
        "type": "object",
        "properties": {"secure": {"type": "string"}},
        "required": ["secure"],
        "additionalProperties": False,
        "description": "A secret; `pulumi config set --secret` encrypts it.",
    }
    keys |= {f"{PROJECT}:{key}": secret | {"description": told} for key, told in SECRETS.items()}
    keys["pulumi:disable-default-providers"] = {
        "type": "array",
        "contains": {"enum": ["kubernetes", "*"]},
        "items": {"type": "string"},
        "description": "[kubernetes]: an object without a cluster of its own fails, instead of landing in the "
        "current context.",
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A stack of Gloo Mesh Enterprise",
        "type": "object",
        "properties": {
            "config": {
                "description": settings["description"],
                "type": "object",
                "properties": keys,
                "required": [f"{PROJECT}:{key}" for key in settings["required"]],
                # Any other key of this program's is a secret; other packages' keys are theirs.
                "patternProperties": {f"^(?!{PROJECT}:)": {}},
                "additionalProperties": secret,
            }
        },
        "required": ["config"],
        "$defs": settings["$defs"],
    }


def reference() -> str:
    """docs/configuration.md."""
    whole = schema()
    config, sections = whole["properties"]["config"], whole["$defs"]
    fleet: list[str] = []
    below: list[str] = []
    for key, described in config["properties"].items():
        if not key.startswith(PROJECT) or key.removeprefix(f"{PROJECT}:") in SECRETS:
            continue
        row, *rows = _rows(key, described, sections, key in config["required"])
        fleet.append(row)
        if rows:
            below += [f"## {key}\n", *_table(rows)]
    secrets = [f"| `{PROJECT}:{key}` | {told} |" for key, told in SECRETS.items()]
    return "\n".join(
        [
            INTRODUCTION,
            *_table(fleet),
            "## Secrets\n",
            SECRETS_INTRODUCTION,
            "| key | what it is |\n|---|---|",
            *secrets,
            "",
            *below,
        ]
    )


def _table(rows: list[str]) -> list[str]:
    return ["| key | value | default | what it is |\n|---|---|---|---|", *rows, ""]


def _rows(path: str, described: dict[str, Any], sections: dict[str, Any], required: bool) -> list[str]:
    """A key's row, and those of the keys below it."""
    section, step = _section(described, sections)
    told = described.get("description") or section.get("description", "")
    default = json.dumps(described["default"]).strip('"') if "default" in described else ""
    cells = [f"`{path}`", _value(described), "**required**" if required else f"`{default}`" if default else "", told]
    rows = [f"| {' | '.join(cells)} |"]
    for key, inner in section.get("properties", {}).items():
        rows += _rows(f"{path}{step}.{key}", inner, sections, key in section.get("required", []))
    return rows


def _section(described: dict[str, Any], sections: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The section that a key's value holds, and how a path goes on from the key into it."""
    if "$ref" in described:
        return sections[described["$ref"].rpartition("/")[2]], ""
    inside = [(form, "") for form in described.get("anyOf", [])]
    inside += [(entry, ".NAME") for entry in described.get("patternProperties", {}).values()]
    inside += [(described["items"], "[]")] if "items" in described else []
    for form, step in inside:
        if found := _section(form, sections)[0]:
            return found, step
    return {}, ""


def _value(described: dict[str, Any]) -> str:
    """What may be written, in a word or two."""
    forms = [form for form in described.get("anyOf", []) if form.get("type") != "null"]
    if forms:
        return " or ".join(map(_value, forms))
    if isinstance(described.get("enum", [True])[0], str):
        return " or ".join(f"`{value}`" for value in described["enum"])
    if title := described.get("title"):
        return f"`{title}`" if title.startswith("{") else title
    return {"string": "text", "integer": "number", "array": "list", "object": "mapping"}.get(
        described.get("type", ""), "mapping" if "$ref" in described else "`true` or `false`"
    )


def files() -> dict[Path, str]:
    """What is generated, by the file it belongs in."""
    return {
        FOLDER / "configuration.schema.json": json.dumps(schema(), indent=2) + "\n",
        FOLDER / "configuration.md": reference(),
    }


if __name__ == "__main__":
    for file, content in files().items():
        file.write_text(content)
