"""The relay's certificates, made by this program: a root, and what it issues.

Owns keys and certificates in the (encrypted) state; touches no cluster.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import pulumi
import pulumi_tls as tls

from components.certificates import Certificate, Certificates, Pair
from components.settings import pem

HOURS_PER_YEAR = 365 * 24
RENEWAL_HOURS = pem.SOON // timedelta(hours=1)
"""How long before its end a certificate is renewed: any `up` within this window does it."""
CLIENT_USES = ("digital_signature", "key_encipherment", "client_auth")
CLIENT_YEARS = 1


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
    wildcard: bool


PROFILES: dict[str, Profile] = {
    "strict": Profile(
        leaf_bits=3072,
        server_years=1,
        signing_years=5,
        server_uses=("digital_signature", "key_encipherment", "server_auth", "client_auth"),
        signing_uses=("cert_signing", "crl_signing", "digital_signature", "client_auth"),
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
        wildcard=True,
    ),
}


@dataclass(frozen=True, kw_only=True)
class GeneratedArgs:
    """What certificates of this program's own need to know."""

    namespace: str
    authority: str
    cluster_domain: str
    """The management cluster's."""
    profile: Literal["strict", "compat"]
    workers: Iterable[str]
    """Those that get a client certificate each; without any there is a signing certificate instead."""
    protect: bool


def generated(name: str, args: GeneratedArgs, parent: pulumi.Resource) -> Certificates:
    """Make the root, and have it issue the others."""
    profile = PROFILES[args.profile]
    wildcard = [f"*.{args.namespace}"] if profile.wildcard else []
    # Losing the root cuts every worker off at once, so its deletion has to be asked for.
    kept = pulumi.ResourceOptions(parent=parent, protect=args.protect)
    root_key = tls.PrivateKey(f"{name}-root-key", algorithm="RSA", rsa_bits=4096, opts=kept)
    root = tls.SelfSignedCert(
        f"{name}-root-certificate",
        private_key_pem=root_key.private_key_pem,
        is_ca_certificate=True,
        # 0 is silently ignored by the provider, so the signing CA's own limit can't be set.
        max_path_length=1,
        set_subject_key_id=True,
        allowed_uses=["cert_signing", "crl_signing"],
        # No early renewal: a new root is asked for (`up --renew relay-root`), never a side effect.
        validity_period_hours=10 * HOURS_PER_YEAR,
        subject={"common_name": f"{name}-root", "organization": args.namespace},
        opts=kept,
    )

    def issue(name: str, uses: tuple[str, ...], years: int, dns_names: list[str]) -> Pair:
        child = pulumi.ResourceOptions(parent=parent)
        key = tls.PrivateKey(f"{name}-key", algorithm="RSA", rsa_bits=profile.leaf_bits, opts=child)
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
            ca_cert_pem=root.cert_pem,
            is_ca_certificate="cert_signing" in uses,
            set_subject_key_id=True,
            allowed_uses=list(uses),
            validity_period_hours=years * HOURS_PER_YEAR,
            early_renewal_hours=RENEWAL_HOURS,
            opts=child,
        )
        issued = Certificate(certificate.cert_pem, certificate.validity_end_time)
        return Pair(issued, key.private_key_pem, key.public_key_pem)

    in_cluster = [args.authority, f"{args.authority}.svc", f"{args.authority}.svc.{args.cluster_domain}"]
    server = issue(f"{name}-server", profile.server_uses, profile.server_years, [*in_cluster, *wildcard])
    # A worker's name is all that its certificate says: the relay takes it for the cluster's identity.
    clients = {worker: issue(f"{name}-client-{worker}", CLIENT_USES, CLIENT_YEARS, [worker]) for worker in args.workers}
    return Certificates(
        root=Certificate(root.cert_pem, root.validity_end_time),
        server=server,
        signing=None if clients else issue(f"{name}-signing", profile.signing_uses, profile.signing_years, wildcard),
        clients=clients,
    )
