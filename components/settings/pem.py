"""What a relay's certificates have to be, told from their PEMs.

Owns the checks, for PEMs of a configuration and of Secrets alike, and the order in which certificates are
handed on. Knows neither configuration nor cluster, and never repeats a PEM. Chains are followed by issuer and
signature, as Go does, because the vendor's own script makes certificates that RFC 5280 would refuse.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from warnings import catch_warnings, simplefilter

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

MIN_RSA_BITS = 2048
MIN_EC_BITS = 256
SOON = timedelta(days=30)
"""How long before its end a certificate should be renewed; what this program makes is, by any `up`."""

SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH
_USES = {SERVER_AUTH: "serverAuth", CLIENT_AUTH: "clientAuth"}

ISSUE = "issue it anew"


@dataclass(frozen=True)
class Pem:
    """A PEM, and what a sentence calls it."""

    name: str
    text: str = field(repr=False)


@dataclass(frozen=True)
class PemPair:
    """A certificate (or chain, leaf first) and its private key; None is what can't be looked at from here."""

    certificate: Pem | None
    key: Pem | None


@dataclass(frozen=True, kw_only=True)
class Trust:
    """The PEMs of one relay, as far as they are known."""

    authority: str
    """The server name that agents verify."""
    root: Pem | None
    server: PemPair | None = None
    signing: PemPair | None = None
    clients: Mapping[str, PemPair] = field(default_factory=dict[str, PemPair])
    """By the cluster's name."""


class _UnreadableError(ValueError):
    """A sentence about a PEM that can't be used at all."""


def faults(trust: Trust, *, dated: bool = True) -> Iterator[str]:
    """A sentence for each reason why this trust can't work; without `dated`, why it never could."""
    anchor, intermediates = None, list[x509.Certificate]()
    if trust.root:
        try:
            anchor, intermediates = _anchor(_certificates(trust.root), trust.root.name)
            yield from _general_faults(anchor, trust.root.name, dated)
            yield from _authority_faults(anchor, trust.root.name)
        except _UnreadableError as unreadable:
            yield str(unreadable)
    for pair, role in _roles(trust):
        try:
            certificates = _certificates(pair.certificate) if pair.certificate else []
        except _UnreadableError as unreadable:
            yield str(unreadable)
            certificates = []
        if pair.certificate and certificates:
            name = pair.certificate.name
            leaf, *rest = certificates
            yield from _general_faults(leaf, name, dated)
            yield from role.faults(leaf, name)
            if anchor and trust.root:
                path = _path(leaf, [*rest, *intermediates], anchor)
                yield from _path_faults(leaf, path, anchor, name, trust.root.name, role, dated)
        if pair.key:
            yield from _key_faults(pair.key, pair.certificate, certificates)


def warnings(trust: Trust) -> Iterator[str]:
    """A sentence for each thing that works and shouldn't stay; of a trust without faults."""
    if trust.root:
        anchor, intermediates = _anchor(_certificates(trust.root), trust.root.name)
        yield from _general_warnings(anchor, trust.root.name)
    else:
        anchor, intermediates = None, []
    for pair, _ in _roles(trust):
        if not pair.certificate:
            continue
        leaf, *rest = _certificates(pair.certificate)
        yield from _general_warnings(leaf, pair.certificate.name)
        if pair != trust.signing:
            continue
        if _allows(leaf, SERVER_AUTH):
            yield (
                f"{pair.certificate.name} may issue server certificates, so whoever has its key can pose as the relay; "
                "issue it with extendedKeyUsage clientAuth alone."
            )
        if anchor and _path(leaf, [*rest, *intermediates], anchor):
            yield (
                f"{pair.certificate.name} is below an intermediate, which the relay may not hand out with what it "
                "issues; where agents are rejected, give that intermediate alone as the root."
            )


def anchor_pem(root: str) -> str:
    """The trust anchor of a root's PEM, alone: agents read no further than the first block of ca.crt."""
    return _pem(_anchor(_certificates(Pem("the root", root)), "the root")[0])


def chain_pem(root: str, certificate: str) -> str:
    """A certificate with the intermediates up to the anchor, leaf first, as a TLS server shows them."""
    anchor, intermediates = _anchor(_certificates(Pem("the root", root)), "the root")
    leaf, *rest = _certificates(Pem("the certificate", certificate))
    return _pem(leaf, *(_path(leaf, [*rest, *intermediates], anchor) or ()))


def first_pem(bundle: str, name: str = "the bundle") -> str:
    """The first certificate of a bundle, which is all that agents read; raises ValueError with a sentence."""
    return _pem(_certificates(Pem(name, bundle))[0])


def public_key(certificate: str) -> str:
    """The key, as PEM, that a certificate, or the first of its chain, is for."""
    found = _certificates(Pem("the certificate", certificate))[0]
    encoding = serialization.Encoding.PEM
    return found.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def as_read(content: str, key: str, name: str) -> str:
    """What relay and agents use of a Secret's key: of ca.crt the first block, else all; raises ValueError."""
    return first_pem(content, name) if key == "ca.crt" else content


def end(certificate: str) -> str:
    """When a certificate, or the first of its chain, ends (RFC 3339)."""
    return rfc3339(lifetime(certificate, "the certificate")[1])


def rfc3339(moment: datetime) -> str:
    """A moment in UTC as the fleet's record writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def fingerprint(*texts: str) -> str:
    """One sha256 over texts, in hex: it changes when one of them does."""
    return hashlib.sha256("".join(texts).encode()).hexdigest()


def fingerprints(content: str) -> set[str]:
    """Of a certificate's text, and of its first block, which is all that agents read of somebody else's ca.crt."""
    try:
        return {fingerprint(content), fingerprint(first_pem(content))}
    except ValueError:
        return {fingerprint(content)}


def covers(pattern: str, name: str) -> bool:
    """As Go matches: exactly, or by a wildcard for the whole first label (the vendor's is `*.gloo-mesh`)."""
    pattern, name = pattern.lower(), name.lower()
    return pattern == name or (pattern.startswith("*.") and "." in name and pattern[2:] == name.partition(".")[2])


def lifetime(bundle: str, name: str) -> tuple[datetime, datetime]:
    """When the first certificate began, and when the first of them all ends; raises ValueError with a sentence."""
    found = _certificates(Pem(name, bundle))
    return found[0].not_valid_before_utc, min(certificate.not_valid_after_utc for certificate in found)


@dataclass(frozen=True)
class _Role:
    """What a certificate is for: a leaf with a name and a use, or an authority that issues leaves for the use."""

    use: ObjectIdentifier
    authority: bool = False
    dns_name: str = ""
    called: str = ""
    remedy: str = ""

    def faults(self, certificate: x509.Certificate, name: str) -> Iterator[str]:
        if self.authority:
            yield from _authority_faults(certificate, name)
        elif _is_authority(certificate):
            yield f"{name} is a CA's certificate; {ISSUE} with CA:FALSE (basicConstraints)."
        names = _dns_names(certificate)
        if self.dns_name and not any(covers(dns_name, self.dns_name) for dns_name in names):
            yield (
                f"{name} is for {', '.join(names) or 'no DNS name'}, not for {self.called} {self.dns_name}; "
                f"{ISSUE} with that DNS name (SAN), {self.remedy}."
            )
        if not _allows(certificate, self.use):
            yield f"{name} is not for {_USES[self.use]}; {ISSUE} with that extendedKeyUsage."


def _roles(trust: Trust) -> Iterator[tuple[PemPair, _Role]]:
    if trust.server:
        follows = "which follows gloo-mesh:namespace"
        yield (trust.server, _Role(SERVER_AUTH, dns_name=trust.authority, called="the authority", remedy=follows))
    if trust.signing:
        yield trust.signing, _Role(CLIENT_AUTH, authority=True)
    for cluster, pair in sorted(trust.clients.items()):
        rejected = "or the relay rejects the agent"
        yield pair, _Role(CLIENT_AUTH, dns_name=cluster, called="the cluster", remedy=rejected)


def _certificates(pem: Pem) -> list[x509.Certificate]:
    """At least one; raises _UnreadableError."""
    others = sorted(set(re.findall(r"-----BEGIN ([A-Z0-9 ]+)-----", pem.text)) - {"CERTIFICATE"})
    if others:
        raise _UnreadableError(
            f"{pem.name} holds more than certificates ({', '.join(others)}) and is copied to other clusters; give "
            "certificates alone."
        )
    try:
        with catch_warnings():
            # A serial number of 0, as the vendor's script gives; `warnings` tells it as a sentence.
            simplefilter("ignore", CryptographyDeprecationWarning)
            found = x509.load_pem_x509_certificates(pem.text.encode())
        for certificate in found:
            # Read lazily; what is malformed shows here and not in the middle of a check.
            _ = certificate.extensions, certificate.public_key(), certificate.subject, certificate.issuer
    except Exception:
        raise _UnreadableError(
            f"{pem.name} holds no certificate that can be read; give PEM that begins with -----BEGIN CERTIFICATE-----."
        ) from None
    return found


def _anchor(found: list[x509.Certificate], name: str) -> tuple[x509.Certificate, list[x509.Certificate]]:
    """Of a root or chain in any order, the one that no other in it issued, and the rest; raises _UnreadableError."""
    unique = list(dict.fromkeys(found))
    tops = [c for c in unique if not any(_issued(c, other) for other in unique if other is not c)]
    if len(tops) != 1:
        raise _UnreadableError(
            f"{name} holds {len(tops)} roots; agents read the first block of ca.crt alone, so give one root, with its "
            "intermediates if there are any (docs/own-pki.md tells how a root is changed)."
        )
    return tops[0], [certificate for certificate in unique if certificate is not tops[0]]


def _path(
    leaf: x509.Certificate, pool: list[x509.Certificate], anchor: x509.Certificate
) -> list[x509.Certificate] | None:
    """The intermediates from `leaf` up to, and without, `anchor`; None when they don't lead there."""
    if leaf == anchor or _issued(leaf, anchor):
        return []
    rest = [other for other in pool if other != leaf]
    # One that another root has signed across leads elsewhere, and its twin may lead here.
    for issuer in (other for other in rest if _issued(leaf, other)):
        if (above := _path(issuer, rest, anchor)) is not None:
            return [issuer, *above]
    return None


def _general_faults(certificate: x509.Certificate, name: str, dated: bool) -> Iterator[str]:
    """What holds for any certificate: dates and the size of its key."""
    now = datetime.now(UTC)
    if dated and certificate.not_valid_after_utc <= now:
        yield f"{name} ended on {certificate.not_valid_after_utc:%Y-%m-%d}; {ISSUE}."
    if dated and certificate.not_valid_before_utc > now:
        yield (
            f"{name} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC; "
            "wait until then, or set this machine's clock."
        )
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        has = f"an RSA key of {key.key_size} bits" if key.key_size < MIN_RSA_BITS else ""
    elif isinstance(key, ec.EllipticCurvePublicKey):
        has = f"an EC key of {key.key_size} bits" if key.key_size < MIN_EC_BITS else ""
    else:
        has = "a key that is neither RSA nor EC"
    if has:
        yield f"{name} has {has}; {ISSUE} for RSA of at least {MIN_RSA_BITS} bits or EC P-256 and up."


def _authority_faults(certificate: x509.Certificate, name: str) -> Iterator[str]:
    if not _is_authority(certificate):
        yield f"{name} is not a CA's certificate; {ISSUE} with CA:TRUE (basicConstraints)."
    usage = _extension(certificate, x509.KeyUsage)
    if usage and not usage.key_cert_sign:
        yield f"{name} may not sign certificates; {ISSUE} with keyUsage keyCertSign."


def _path_faults(
    leaf: x509.Certificate,
    path: list[x509.Certificate] | None,
    anchor: x509.Certificate,
    name: str,
    root_name: str,
    role: _Role,
    dated: bool,
) -> Iterator[str]:
    if path is None:
        yield (
            f"{name} was not issued by {root_name}, nor through intermediates given with either; give it with its "
            "intermediates, leaf first, or give the root that issued it."
        )
        return
    for issuer in path:
        called = f"The intermediate {issuer.subject.rfc4514_string()} of {name}"
        yield from _general_faults(issuer, called, dated)
        yield from _authority_faults(issuer, called)
    for below, issuer in enumerate([*path, anchor] if leaf != anchor else []):
        called = root_name if issuer == anchor else f"The intermediate {issuer.subject.rfc4514_string()}"
        constraints = _extension(issuer, x509.BasicConstraints)
        # RFC 5280, 4.2.1.9: CAs between this one and the leaf; below signing that is what it issues.
        authorities = below + role.authority
        if constraints and constraints.path_length is not None and constraints.path_length < authorities:
            yield (
                f"{called} allows {constraints.path_length} CAs below it (pathLenConstraint), and with {name} there "
                f"are {authorities}; {ISSUE} by a CA that allows more."
            )
        if not _allows(issuer, role.use):
            yield f"{called} may not issue for {_USES[role.use]} (extendedKeyUsage); issue {name} by a CA that may."


def _key_faults(key: Pem, certificate: Pem | None, certificates: list[x509.Certificate]) -> Iterator[str]:
    try:
        private = serialization.load_pem_private_key(key.text.encode(), None)
    except TypeError:
        yield f"{key.name} is encrypted with a passphrase; give it without one, it is kept encrypted here."
    except Exception:
        yield f"{key.name} holds no private key that can be read; give PEM."
    else:
        if certificate and certificates and private.public_key() != certificates[0].public_key():
            yield (
                f"{key.name} does not belong to {certificate.name}; give the key that the first certificate there "
                "was requested with."
            )


def _general_warnings(certificate: x509.Certificate, name: str) -> Iterator[str]:
    if certificate.not_valid_after_utc - datetime.now(UTC) < SOON:
        yield f"{name} ends on {certificate.not_valid_after_utc:%Y-%m-%d}; {ISSUE} before, and run up."
    if certificate.serial_number <= 0:
        yield f"{name} has the serial number 0, which RFC 5280 (4.1.2.2) forbids; {ISSUE} before libraries refuse it."


E = TypeVar("E", bound=x509.ExtensionType)


def _extension(certificate: x509.Certificate, kind: type[E]) -> E | None:
    return next((found.value for found in certificate.extensions if isinstance(found.value, kind)), None)


def _is_authority(certificate: x509.Certificate) -> bool:
    constraints = _extension(certificate, x509.BasicConstraints)
    return bool(constraints and constraints.ca)


def _allows(certificate: x509.Certificate, use: ObjectIdentifier) -> bool:
    """RFC 5280, 4.2.1.12: without the extension any use is allowed."""
    uses = _extension(certificate, x509.ExtendedKeyUsage)
    return uses is None or use in uses or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in uses


def _dns_names(certificate: x509.Certificate) -> list[str]:
    names = _extension(certificate, x509.SubjectAlternativeName)
    return names.get_values_for_type(x509.DNSName) if names else []


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _pem(*certificates: x509.Certificate) -> str:
    return "".join(certificate.public_bytes(serialization.Encoding.PEM).decode() for certificate in certificates)
