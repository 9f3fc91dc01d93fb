"""The relay's trust: its certificates, whatever their source, the two tokens, and who gets which Secret.

Owns that choice and the tokens. Istio's own CA is another matter and stays outside this program.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pulumi
import pulumi_random as random

from components import product
from components.certificates import Certificates, Pair
from components.existing_certificates import existing
from components.generated_certificates import GeneratedArgs, generated
from components.settings import PkiSettings
from components.settings.pem import fingerprint
from components.supplied_certificates import supplied

Content = dict[str, pulumi.Input[str]]


@dataclass(frozen=True, kw_only=True)
class RelayPkiArgs:
    """What the relay's trust needs to know."""

    namespace: str
    authority: str
    cluster_domain: str
    """The management cluster's."""
    workers: list[str]
    protect: bool
    pki: PkiSettings
    pems: Mapping[str, pulumi.Output[str]]
    """What the configuration supplies, by key below `pki`."""


class RelayPki(pulumi.ComponentResource):
    """The relay's certificates and tokens. Only existing ones are on a cluster, that of the provider it is given."""

    certificates: Certificates
    identity_token: pulumi.Output[str] | None
    """What an agent shows on its first call; secret. None where it shows a certificate."""
    forwarding_token: pulumi.Output[str]
    """What the dashboard shows to the relay's forwarding server; secret."""

    def __init__(self, name: str, args: RelayPkiArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gloo-mesh:index:RelayPki", name, None, opts)
        workers = args.workers if args.pki.per_worker else []
        match args.pki.source:
            case "generated":
                making = GeneratedArgs(
                    namespace=args.namespace,
                    authority=args.authority,
                    cluster_domain=args.cluster_domain,
                    profile=args.pki.profile,
                    workers=workers,
                    protect=args.protect,
                )
                self.certificates = generated(name, making, self)
            case "supplied":
                self.certificates = supplied(args.pems, workers)
            case "existing":
                self.certificates = existing(name, args.namespace, self)
        self.identity_token = None if args.pki.per_worker else self._token(f"{name}-identity-token")
        self.forwarding_token = self._token(f"{name}-forwarding-token")
        # Keys and tokens stay out on purpose: outputs are what people paste into tickets.
        self.register_outputs({"root_certificate_pem": self.certificates.root.pem})

    def management_secrets(self) -> dict[str, Content]:
        """What the management cluster gets, by Secret; certificates that exist are in theirs already."""
        certificates = self.certificates
        secrets: dict[str, Content] = {}
        if certificates.server:
            secrets[product.RELAY_SERVER_SECRET] = self._content(certificates.server)
            if certificates.signing:
                secrets[product.RELAY_SIGNING_SECRET] = self._content(certificates.signing)
            secrets[product.RELAY_ROOT_SECRET] = {"ca.crt": certificates.root.pem}
        if self.identity_token:
            secrets[product.RELAY_TOKEN_SECRET] = {"token": self.identity_token}
        secrets[product.RELAY_FORWARDING_TOKEN_SECRET] = {"token": self.forwarding_token}
        return secrets

    def worker_secrets(self, worker: str) -> dict[str, Content]:
        """What a worker gets, by Secret; never a key of an authority."""
        secrets: dict[str, Content] = {product.RELAY_ROOT_SECRET: {"ca.crt": self.certificates.root.pem}}
        if self.identity_token:
            secrets[product.RELAY_TOKEN_SECRET] = {"token": self.identity_token}
        if worker in self.certificates.clients:
            secrets[product.RELAY_CLIENT_SECRET] = self._content(self.certificates.clients[worker])
        return secrets

    def management_fingerprint(self) -> pulumi.Output[str]:
        """Of what relay and dashboard mount; an existing certificate is unknown here, but for the root."""
        return self._fingerprint([self.certificates.server, self.certificates.signing], self.forwarding_token)

    def worker_fingerprint(self, worker: str) -> pulumi.Output[str]:
        """Of what a worker's agent mounts, and of what the relay issued its certificate by."""
        return self._fingerprint([self.certificates.clients.get(worker)], self.issuer())

    def issuer(self) -> pulumi.Output[str]:
        """By what the relay issues agents' certificates: the root's fingerprint, and after a slash the signing key's.

        The second only where that key is known here. A renewed signing certificate has the key of before, and what was
        issued by that stays good.
        """
        signing = self.certificates.signing
        keys = [signing.public_key] if signing else []
        return pulumi.Output.all(self.certificates.root.pem, *keys).apply(lambda pems: "/".join(map(fingerprint, pems)))

    def _fingerprint(self, pairs: Iterable[Pair | None], *tokens: pulumi.Output[str]) -> pulumi.Output[str]:
        pems = [self.certificates.root.pem, *(pair.certificate.pem for pair in pairs if pair)]
        if self.identity_token:
            pems.append(self.identity_token)
        return pulumi.Output.all(*pems, *tokens).apply(lambda texts: fingerprint(*texts))

    def _content(self, pair: Pair) -> Content:
        return {"tls.key": pair.key_pem, "tls.crt": pair.certificate.pem, "ca.crt": self.certificates.root.pem}

    def _token(self, name: str) -> pulumi.Output[str]:
        return random.RandomPassword(name, length=40, special=False, opts=pulumi.ResourceOptions(parent=self)).result
