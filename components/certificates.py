"""What every source of the relay's trust gives: certificates, their keys, and the set of them.

Owns the shapes alone; `relay_pki` chooses the source.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pulumi


@dataclass(frozen=True)
class Certificate:
    """A certificate's PEM (with intermediates, leaf first, where it has any) and its end, RFC 3339."""

    pem: pulumi.Output[str]
    not_after: pulumi.Output[str]


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, PEM; the key is secret."""

    certificate: Certificate
    key_pem: pulumi.Output[str]
    public_key: pulumi.Output[str]
    """The other half of that key, PEM; a renewal leaves it as it is."""


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """The relay's certificates; None or absent where the Secret that holds one is somebody else's."""

    root: Certificate
    """The trust anchor alone; safe to copy into every cluster."""
    server: Pair | None = None
    signing: Pair | None = None
    clients: Mapping[str, Pair] = field(default_factory=dict[str, Pair])
    """By cluster name, where each worker has one of its own from the start."""

    @property
    def by_name(self) -> dict[str, Certificate]:
        """All of them, as the fleet's record calls them."""
        pairs = {"relay-server": self.server, "relay-signing": self.signing}
        pairs |= {f"relay-client-{cluster}": pair for cluster, pair in self.clients.items()}
        return {"relay-root": self.root} | {name: pair.certificate for name, pair in pairs.items() if pair}
