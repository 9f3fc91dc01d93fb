"""Certificates for tests: made as asked, right or wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

SERVER = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
AUTHORITY = "enterprise-networking.gloo-mesh"
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Made:
    """A certificate and its key; an authority if it was made one."""

    certificate: x509.Certificate
    key: CertificateIssuerPrivateKeyTypes

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        return private_pem(self.key, serialization.NoEncryption())

    def issue(
        self,
        name: str,
        *,
        names: Sequence[str] = (),
        uses: Sequence[ObjectIdentifier] = (),
        ca: bool = False,
        path_length: int | None = None,
        signs: bool | None = True,
        begins: timedelta = -DAY,
        ends: timedelta = 365 * DAY,
        key: CertificateIssuerPrivateKeyTypes | None = None,
    ) -> "Made":
        """What this authority issues; `begins` and `ends` from now, `signs` None for no keyUsage."""
        return _make(name, names, uses, ca, path_length, signs, begins, ends, key, self)

    def server(self, *names: str) -> "Made":
        return self.issue("server", names=names or (AUTHORITY,), uses=(SERVER, CLIENT))

    def signing(self) -> "Made":
        return self.issue("signing", uses=(CLIENT,), ca=True)

    def client(self, cluster: str) -> "Made":
        return self.issue("client", names=(cluster,), uses=(CLIENT,))


def root(
    name: str = "root",
    *,
    names: Sequence[str] = (),
    ca: bool = True,
    path_length: int | None = None,
    signs: bool | None = True,
    ends: timedelta = 3650 * DAY,
) -> Made:
    """A certificate that vouches for itself."""
    return _make(name, names, (), ca, path_length, signs, -DAY, ends, None, None)


def private_pem(key: CertificateIssuerPrivateKeyTypes, encryption: serialization.KeySerializationEncryption) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, encryption
    ).decode()


def _make(
    name: str,
    names: Sequence[str],
    uses: Sequence[ObjectIdentifier],
    ca: bool,
    path_length: int | None,
    signs: bool | None,
    begins: timedelta,
    ends: timedelta,
    key: CertificateIssuerPrivateKeyTypes | None,
    issuer: Made | None,
) -> Made:
    own = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder(
            issuer.certificate.subject if issuer else subject, subject, own.public_key(), x509.random_serial_number()
        )
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .add_extension(x509.BasicConstraints(ca, path_length), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False)
    )
    if signs is not None:
        may = ca and signs
        usage = x509.KeyUsage(True, False, False, False, False, may, may, False, False)
        builder = builder.add_extension(usage, critical=True)
    if issuer:
        known = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
        builder = builder.add_extension(known, critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False)
    if uses:
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    return Made(builder.sign(issuer.key if issuer else own, hashes.SHA256()), own)
