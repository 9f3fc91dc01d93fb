"""Certificates for agents: asked for by an agent, issued by the relay with its signing certificate."""

import datetime
import warnings

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lab.relay.tls import Pair, RefusedError

YEAR = datetime.timedelta(days=365)
HOUR = datetime.timedelta(hours=1)


def request(cluster: str) -> Pair:
    """A new key, and a request for a certificate with the cluster's name as its one DNS name; the request first."""
    key = ec.generate_private_key(ec.SECP256R1())
    asked = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(_name(cluster))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(cluster)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return asked.public_bytes(serialization.Encoding.PEM).decode(), private.decode()


def issue(asked: str, signing: Pair) -> str:
    """A client's certificate for the request's name, and after it what it was signed with; one year at most."""
    try:
        wanted = x509.load_pem_x509_csr(asked.encode())
        names = _dns_names(wanted)
    except ValueError:
        raise RefusedError("that is no certificate signing request") from None
    if not wanted.is_signature_valid or len(names) != 1:
        raise RefusedError("a request is signed by its own key and has the cluster's name as its one DNS name")
    try:
        issuer = x509.load_pem_x509_certificates(signing[0].encode())[0]
        key = serialization.load_pem_private_key(signing[1].encode(), password=None)
    except ValueError:
        raise RefusedError("the relay's signing Secret holds no certificate or no key") from None
    now = datetime.datetime.now(datetime.UTC)
    signer: CertificateIssuerPrivateKeyTypes = key  # type: ignore[assignment]
    made = (
        x509.CertificateBuilder()
        .subject_name(_name(names[0]))
        .issuer_name(issuer.subject)
        .public_key(wanted.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - HOUR)
        .not_valid_after(min(now + YEAR, issuer.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(names[0])]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False)  # type: ignore[arg-type]
        .sign(signer, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode() + signing[0]


def names(certificate: bytes) -> list[str]:
    """The DNS names of a certificate, which OpenSSL has verified."""
    with warnings.catch_warnings():
        # The vendor's page gives certificates the serial number 0.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        return _dns_names(x509.load_der_x509_certificate(certificate))


def _dns_names(found: x509.Certificate | x509.CertificateSigningRequest) -> list[str]:
    try:
        extension = found.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return extension.value.get_values_for_type(x509.DNSName)


def _name(common: str) -> x509.Name:
    # A common name is no longer than 64 characters; nobody reads it.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])
