"""The fleet's own record, as it lies on the management cluster: what the stack deployed.

Owns reading it; the program writes it (`components/fleet.py`).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from pydantic import TypeAdapter

from components import product
from components.settings import MANAGEMENT
from operations.api import Api
from operations.findings import Finding, Kind
from operations.stack import command

OTHER_FLEET = Kind(
    "another-fleet",
    "Two stacks that deploy one fleet undo each other's work with every up.",
    page="collisions",
    stops=True,
)

_STRUCTURED = ("versions", "clusters", "certificates", "values", "masked")


@dataclass(frozen=True)
class Record:
    """What the ConfigMap `gloo-mesh-fleet` holds."""

    stack: str
    version: str
    versions: dict[str, str]
    """By cluster name, the version of its releases."""
    clusters: dict[str, str]
    """By cluster name, the UID of its `gloo-mesh` namespace."""
    certificates: dict[str, dict[str, str]]
    """By certificate, its `sha256` and its end, `notAfter` (RFC 3339)."""
    values: dict[str, str]
    """By `cluster/release`, the sha256 of its values with secrets masked."""
    masked: dict[str, list[list[str | int]]]
    """By `cluster/release`, where in its values those secrets are; a record of earlier programs has none."""

    @classmethod
    def read(cls, management: Api, namespace: str) -> "Record | None":
        """The record in `namespace`; None where nothing was deployed to the end yet, or what is there is no record.

        Raises what the API raises.
        """
        found = management.get(f"/api/v1/namespaces/{namespace}/configmaps/{product.FLEET_CONFIG_MAP}")
        if found is None:
            return None
        try:
            data = found["data"]
            parts = {key: json.loads(data.get(key, "{}")) for key in _STRUCTURED}
            record = TypeAdapter(cls).validate_python({"stack": data["stack"], "version": data["version"], **parts})
            known = record.certificates.values()
            if not all("sha256" in one and datetime.fromisoformat(one["notAfter"]).tzinfo for one in known):
                return None
        except (AttributeError, KeyError, TypeError, ValueError):
            # Somebody else's ConfigMap of that name, or one that was edited by hand.
            return None
        return record

    def of_another(self, stack: str, verb: str) -> Iterator[Finding]:
        """That another stack deployed this fleet, if one did, with what to say instead of `verb` for this one."""
        if self.stack != stack:
            yield OTHER_FLEET.found(
                MANAGEMENT,
                f"ConfigMap {product.FLEET_CONFIG_MAP} is the record of a fleet that the stack {self.stack} deployed, "
                f"and this is {stack}.",
                f"{command(verb, self.stack)}, or, where {self.stack} was renamed: {command('up', stack)}",
            )
