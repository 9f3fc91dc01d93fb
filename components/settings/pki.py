"""Where the relay's certificates come from, as configured. Vendor page: prerequisites, establishing trust.

Owns what fits which source, and finding the PEMs that a configuration names; `pem` says what these have to be.
"""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Literal

from pydantic import Field, ValidationError

from components import product
from components.settings import pem
from components.settings.faults import PROJECT, nearest
from components.settings.fields import DnsLabel, PemSource, Section, Source, from_home, is_encrypted
from components.settings.pem import Pem, PemPair, Trust

PKI = f"{PROJECT}:pki"

_PAIR, _ANCHOR, _TOKEN = ("tls.crt", "tls.key", "ca.crt"), ("ca.crt",), ("token",)


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
    """Who issues what agents show: the relay, or this PKI for each worker (disableRelayCa)."""
    root: PemSource | None = None
    """Supplied: the root, or the chain to it; public."""
    server: PairSettings | None = None
    """Supplied: the relay server's."""
    signing: PairSettings | None = None
    """Supplied: the authority that issues agents' certificates; not with perWorker."""
    clients: dict[DnsLabel, PairSettings] = Field(default_factory=dict)
    """Supplied, perWorker: each worker's, by its name."""

    @property
    def per_worker(self) -> bool:
        """Whether each worker has a client certificate of its own from the start."""
        return self.client_certificates == "perWorker"

    def secrets(self, worker: bool) -> dict[str, tuple[str, ...]]:
        """The relay's Secrets on a worker, or on the management cluster, whoever makes them: by name, their keys."""
        if worker:
            own = {product.RELAY_CLIENT_SECRET: _PAIR} if self.per_worker else {product.RELAY_TOKEN_SECRET: _TOKEN}
            return {product.RELAY_ROOT_SECRET: _ANCHOR} | own
        issuing = {product.RELAY_SIGNING_SECRET: _PAIR, product.RELAY_TOKEN_SECRET: _TOKEN}
        return {
            product.RELAY_SERVER_SECRET: _PAIR,
            product.RELAY_ROOT_SECRET: _ANCHOR,
            **({} if self.per_worker else issuing),
            product.RELAY_FORWARDING_TOKEN_SECRET: _TOKEN,
        }

    def others(self, worker: bool) -> set[str]:
        """Those of them that cert-manager or Vault makes: no token, and no worker's copy of the root."""
        if self.source != "existing":
            return set()
        copied = {product.RELAY_ROOT_SECRET} if worker else set[str]()
        return {name for name, keys in self.secrets(worker).items() if keys != _TOKEN} - copied

    @property
    def sources(self) -> dict[str, Source]:
        """Every PEM that is named here, by its key below `pki`."""
        pairs = {"server": self.server, "signing": self.signing}
        pairs |= {f"clients.{worker}": pair for worker, pair in self.clients.items()}
        named = {"root": self.root} if self.root else {}
        for key, pair in pairs.items():
            if pair:
                named |= {f"{key}.certificate": pair.certificate, f"{key}.key": pair.key}
        return named

    def contradictions(self, workers: AbstractSet[str], created: list[str]) -> Iterator[str]:
        """What doesn't fit the source; `created` names the clusters whose namespaces this program makes."""
        fitting = {
            "generated": {"profile"},
            "supplied": {"root", "server", "clients" if self.per_worker else "signing"},
            "existing": set[str](),
        }[self.source]
        chosen = f"source {self.source}" + (" and clientCertificates perWorker" if self.per_worker else "")
        for key in sorted(self.model_fields_set & {"profile", "root", "server", "signing", "clients"} - fitting):
            yield f"{PKI}.{key} has no meaning with {chosen}; remove it, or change {PKI}.source or clientCertificates."
        if self.source == "supplied":
            for key in sorted(fitting - {"clients"}):
                if getattr(self, key) is None:
                    shape = "{file: PATH}" if key == "root" else "{certificate: {file: PATH}, key: {secret: KEY}}"
                    yield f"{PKI}.{key} is missing; with {chosen} write one, such as {shape}."
            for worker in sorted(workers - self.clients.keys()) if self.per_worker else ():
                yield (
                    f"{PKI}.clients.{worker} is missing; each worker needs a certificate of its own with {chosen}, "
                    "such as {certificate: {file: PATH}, key: {secret: KEY}}."
                )
            for worker in sorted(self.clients.keys() - workers):
                yield f"{PKI}.clients.{worker} is for no worker of this fleet; {nearest(worker, workers)}."
        if self.source == "existing":
            for cluster in created:
                yield (
                    f"{PKI}.source is existing, so the namespace with its Secrets is there before the first up; set "
                    f"{PROJECT}:{cluster}.namespaces.create to false."
                )


def pem_faults(raw: Mapping[str, object], authority: str, *, dated: bool) -> Iterator[str]:
    """What is wrong with the PEMs that are named, as far as their content is known here; with `dated`, today."""
    trust, unreadable = _supplied(raw, authority)
    yield from unreadable
    if trust:
        yield from pem.faults(trust, dated=dated)


def pem_warnings(raw: Mapping[str, object], authority: str) -> Iterator[str]:
    """What should not stay as it is, of a configuration without faults."""
    trust, _ = _supplied(raw, authority)
    if trust:
        yield from pem.warnings(trust)


def _supplied(raw: Mapping[str, object], authority: str) -> tuple[Trust | None, list[str]]:
    """The PEMs of a supplied PKI, and a sentence for each file that can't be read.

    Taken from the raw values, so that a fault in another section hides nothing here.
    """
    try:
        pki = PkiSettings.model_validate(raw.get("pki", {}))
    except ValidationError:
        return None, []
    if pki.source != "supplied":
        return None, []
    known: dict[str, Pem] = {}
    unreadable: list[str] = []
    for key, source in pki.sources.items():
        name = f"{PKI}.{key}"
        if source.kind == "file":
            try:
                known[key] = Pem(f"{name} ({source})", read(source))
            except FileNotFoundError:
                unreadable.append(f"{name} is {source}; there is no such file, write the path of a PEM.")
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or "not text"
                unreadable.append(f"{name} is {source}; it can't be read ({reason}), write the path of a PEM.")
        # A missing one is told as every other secret key is; outside a deployment it is opaque.
        elif (content := str(raw.get(source.value, "")).strip()) and not is_encrypted(raw[source.value]):
            known[key] = Pem(f"{name} ({source})", content)

    def pair(key: str) -> PemPair:
        return PemPair(known.get(f"{key}.certificate"), known.get(f"{key}.key"))

    trust = Trust(
        authority=authority,
        root=known.get("root"),
        server=pair("server"),
        signing=pair("signing"),
        clients={worker: pair(f"clients.{worker}") for worker in pki.clients},
    )
    return trust, unreadable


def read(source: Source) -> str:
    """A PEM file's content; raises OSError or ValueError where that can't be had."""
    return from_home(source.value).read_text()
