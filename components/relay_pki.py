"""The relay's trust: root, server and signing certificates, and the two tokens.

Owns keys and certificates in the (encrypted) state; touches no cluster. Istio's own CA is another
matter and stays outside this program.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal

import pulumi
import pulumi_random as random
import pulumi_tls as tls

HOURS_PER_YEAR = 365 * 24
RENEWAL_HOURS = 30 * 24
"""How long before its end a certificate is renewed: any `up` within this window does it."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How the certificates below the root are made; sizes in bits, lifetimes in years.

    `strict` follows RFC 5280 (4.2.1.3: CAs carry keyUsage; 4.2.1.12: the signing CA may issue
    clients only, so what it signs can't pose as the relay server). `compat` is the vendor page's.
    """

    leaf_bits: int
    server_years: int
    signing_years: int
    server_uses: tuple[str, ...]
    signing_uses: tuple[str, ...]
    root_uses: tuple[str, ...]
    wildcard: bool


PROFILES: dict[str, Profile] = {
    "strict": Profile(
        leaf_bits=3072,
        server_years=1,
        signing_years=5,
        server_uses=("digital_signature", "key_encipherment", "server_auth", "client_auth"),
        signing_uses=("cert_signing", "crl_signing", "digital_signature", "client_auth"),
        root_uses=("cert_signing", "crl_signing"),
        wildcard=False,
    ),
    "compat": Profile(
        leaf_bits=2048,
        server_years=10,
        signing_years=10,
        server_uses=(
            "content_commitment",
            "digital_signature",
            "key_encipherment",
            "client_auth",
            "server_auth",
        ),
        signing_uses=(
            "content_commitment",
            "digital_signature",
            "key_encipherment",
            "cert_signing",
            "client_auth",
            "server_auth",
        ),
        root_uses=("cert_signing", "crl_signing"),
        wildcard=True,
    ),
}


@dataclass(frozen=True, kw_only=True)
class RelayPkiArgs:
    """What the relay's trust needs to know."""

    namespace: str
    authority: str
    profile: Literal["strict", "compat"]
    protect: bool


@dataclass(frozen=True)
class Issued:
    """A certificate under the relay's root and its private key, both PEM; the key is secret."""

    certificate: tls.LocallySignedCert
    key_pem: pulumi.Output[str]


class RelayPki(pulumi.ComponentResource):
    """The relay's root and what it issued. No cluster is involved, so it needs no provider."""

    root_certificate: tls.SelfSignedCert
    """Its PEM is the trust anchor; safe to copy into every cluster."""
    server: Issued
    signing: Issued
    identity_token: pulumi.Output[str]
    """What an agent shows on its first call; secret."""
    forwarding_token: pulumi.Output[str]
    """What the dashboard shows to the relay's forwarding server; secret."""

    def __init__(self, name: str, args: RelayPkiArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gloo-mesh:index:RelayPki", name, None, opts)
        profile = PROFILES[args.profile]
        wildcard = [f"*.{args.namespace}"] if profile.wildcard else []
        # Losing the root cuts every worker off at once, so its deletion has to be asked for.
        kept = pulumi.ResourceOptions(parent=self, protect=args.protect)
        root_key = tls.PrivateKey(f"{name}-root-key", algorithm="RSA", rsa_bits=4096, opts=kept)
        self.root_certificate = tls.SelfSignedCert(
            f"{name}-root-certificate",
            private_key_pem=root_key.private_key_pem,
            is_ca_certificate=True,
            # 0 is silently ignored by the provider, so the signing CA's own limit can't be set.
            max_path_length=1,
            set_subject_key_id=True,
            allowed_uses=list(profile.root_uses),
            # No early renewal: a new root is a staged rotation, never a side effect of an `up`.
            validity_period_hours=10 * HOURS_PER_YEAR,
            subject={"common_name": f"{name}-root", "organization": args.namespace},
            opts=kept,
        )
        self.server = self._issue(
            f"{name}-server",
            root_key,
            args,
            profile.server_uses,
            profile.server_years,
            dns_names=[
                args.authority,
                f"{args.authority}.svc",
                f"{args.authority}.svc.cluster.local",
                *wildcard,
            ],
        )
        self.signing = self._issue(
            f"{name}-signing", root_key, args, profile.signing_uses, profile.signing_years, dns_names=wildcard
        )
        self.identity_token = self._token(f"{name}-identity-token")
        self.forwarding_token = self._token(f"{name}-forwarding-token")
        # Keys and tokens stay out on purpose: outputs are what people paste into tickets.
        self.register_outputs({"root_certificate_pem": self.root_certificate.cert_pem})

    def _issue(
        self,
        name: str,
        root_key: tls.PrivateKey,
        args: RelayPkiArgs,
        uses: tuple[str, ...],
        years: int,
        dns_names: list[str],
    ) -> Issued:
        child = pulumi.ResourceOptions(parent=self)
        key = tls.PrivateKey(f"{name}-key", algorithm="RSA", rsa_bits=PROFILES[args.profile].leaf_bits, opts=child)
        request = tls.CertRequest(
            f"{name}-request",
            private_key_pem=key.private_key_pem,
            subject={"common_name": name, "organization": args.namespace},
            dns_names=dns_names,
            opts=child,
        )
        certificate = tls.LocallySignedCert(
            f"{name}-certificate",
            cert_request_pem=request.cert_request_pem,
            ca_private_key_pem=root_key.private_key_pem,
            ca_cert_pem=self.root_certificate.cert_pem,
            is_ca_certificate="cert_signing" in uses,
            set_subject_key_id=True,
            allowed_uses=list(uses),
            validity_period_hours=years * HOURS_PER_YEAR,
            early_renewal_hours=RENEWAL_HOURS,
            opts=child,
        )
        return Issued(certificate, key.private_key_pem)

    def _token(self, name: str) -> pulumi.Output[str]:
        return random.RandomPassword(name, length=40, special=False, opts=pulumi.ResourceOptions(parent=self)).result


def fingerprint(*pems: str) -> str:
    """One sha256 over certificates, in hex: it changes exactly when one of them does."""
    return hashlib.sha256("".join(pems).encode()).hexdigest()
