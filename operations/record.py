"""The fleet's own record, as it lies on the management cluster: what the stack deployed.

Owns reading it; the program writes it (`components/fleet.py`).
"""

import json
from dataclasses import dataclass

from components import product
from operations.api import Api


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
        structured = ("versions", "clusters", "certificates", "values", "masked")
        try:
            data = found["data"]
            parts = {key: json.loads(data.get(key, "{}")) for key in structured}
            if not all(isinstance(part, dict) for part in parts.values()):
                return None
            return cls(stack=data["stack"], version=data["version"], **parts)
        except (AttributeError, KeyError, TypeError, ValueError):
            # Somebody else's ConfigMap of that name, or one that was edited by hand.
            return None
