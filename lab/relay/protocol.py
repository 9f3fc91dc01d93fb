"""What server and agent say to each other, over gRPC."""

import json
from typing import Any

SERVICE = "lab.relay.Relay"
ENROL = "Enrol"
"""One request, {token, request (a PEM of a certificate signing request)}; one answer, {certificate: its chain}."""
PUSH, PULL = "Push", "Pull"
"""Streams that stay open; in their metadata stands which cluster the agent is of."""
CLUSTER = "cluster"


def path(method: str) -> str:
    """A method's name as gRPC sends it."""
    return f"/{SERVICE}/{method}"


def packed(message: dict[str, str]) -> bytes:
    """A message as it is sent."""
    return json.dumps(message).encode()


def unpacked(message: bytes) -> dict[str, Any]:
    """A message as it was meant; an empty one where it is no JSON object."""
    try:
        found = json.loads(message)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
