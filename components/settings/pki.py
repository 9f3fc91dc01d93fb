"""Where the relay's certificates come from, as configured. Vendor page: prerequisites, establishing trust."""

from typing import Literal

from pydantic import Field

from components.settings.fields import DnsLabel, PemSource, Section


class PairSettings(Section):
    """A certificate (or chain, leaf first) and its private key, PEM."""

    certificate: PemSource
    """The certificate, intermediate authorities after it."""
    key: PemSource
    """Its private key."""


class PkiSettings(Section):
    """Where the relay's certificates come from, and which profile they follow."""

    source: Literal["generated", "supplied", "existing"] = "generated"
    """generated: by this program; supplied: PEMs given here; existing: Secrets made by cert-manager or Vault."""
    profile: Literal["strict", "compat"] = "strict"
    """Of generated ones: strict follows RFC 5280, compat the vendor page's script."""
    client_certificates: Literal["relay", "perWorker"] = "relay"
    """Who issues what agents show: the relay, or this program's PKI for each worker (disableRelayCa)."""
    root: PemSource | None = None
    """Supplied: the root, or the chain to it."""
    server: PairSettings | None = None
    """Supplied: the relay server's."""
    signing: PairSettings | None = None
    """Supplied: the authority that issues agents' certificates; not needed with perWorker."""
    clients: dict[DnsLabel, PairSettings] = Field(default_factory=dict)
    """Supplied, perWorker: each worker's, by its name."""
