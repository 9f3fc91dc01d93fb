"""The stand-in for pulumi-tls: keys, requests and certificates, by the `cryptography` library.

Left out are the OpenSSH forms and fingerprints of a key, which no certificate needs.
"""

import hashlib
import ipaddress
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
    CertificateIssuerPublicKeyTypes,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lab.providers.properties import UNKNOWN, Properties, differences, secret
from lab.providers.server import Diff, InputError, Provider, ProviderError, Request, Resource

CURVES = {"P224": ec.SECP224R1(), "P256": ec.SECP256R1(), "P384": ec.SECP384R1(), "P521": ec.SECP521R1()}
KEY_USES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "cert_signing",
    "crl_signing",
    "encipher_only",
    "decipher_only",
)
EXTENDED_USES = {
    "any_extended": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    "server_auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "client_auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "code_signing": ExtendedKeyUsageOID.CODE_SIGNING,
    "email_protection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "timestamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "ocsp_signing": ExtendedKeyUsageOID.OCSP_SIGNING,
}
NAMES = {
    "country": NameOID.COUNTRY_NAME,
    "organization": NameOID.ORGANIZATION_NAME,
    "organizationalUnit": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "locality": NameOID.LOCALITY_NAME,
    "province": NameOID.STATE_OR_PROVINCE_NAME,
    "commonName": NameOID.COMMON_NAME,
}


class PrivateKey(Resource):
    """An RSA or ECDSA key."""

    computed = ("privateKeyPem", "privateKeyPemPkcs8", "publicKeyPem")

    def check(self, request: Request) -> Properties:
        """Fill in the defaults; refuse what can't be generated."""
        inputs = {"rsaBits": 2048, "ecdsaCurve": "P224"} | request.inputs
        if inputs["algorithm"] not in ("RSA", "ECDSA", UNKNOWN):
            raise InputError("algorithm", f"The algorithm {inputs['algorithm']!r} is not known; write RSA or ECDSA.")
        if inputs["ecdsaCurve"] not in CURVES:
            raise InputError("ecdsaCurve", f"The curve {inputs['ecdsaCurve']!r} is not known; write {_any(CURVES)}.")
        return inputs

    def create(self, request: Request) -> tuple[str, Properties]:
        """Generate it; the PEM is the algorithm's own (PKCS#1 or SEC1), as openssl writes it."""
        inputs = request.inputs
        if inputs["algorithm"] == "RSA":
            key = rsa.generate_private_key(65537, inputs["rsaBits"])
        else:
            key = ec.generate_private_key(CURVES[inputs["ecdsaCurve"]])

        def private(form: serialization.PrivateFormat) -> Properties:
            pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
            return secret(pem.decode())

        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return hashlib.sha1(public, usedforsecurity=False).hexdigest(), inputs | {
            "privateKeyPem": private(serialization.PrivateFormat.TraditionalOpenSSL),
            "privateKeyPemPkcs8": private(serialization.PrivateFormat.PKCS8),
            "publicKeyPem": public.decode(),
        }


class CertRequest(Resource):
    """A signing request: a subject and its other names, proven by its key."""

    computed = ("certRequestPem", "keyAlgorithm")

    def create(self, request: Request) -> tuple[str, Properties]:
        """Sign it with its own key."""
        key = _private_key(request.inputs["privateKeyPem"])
        builder = x509.CertificateSigningRequestBuilder(_subject(request.inputs))
        names = _other_names(request.inputs)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        signed = builder.sign(key, hashes.SHA256())
        pem = signed.public_bytes(serialization.Encoding.PEM)
        return hashlib.sha1(pem, usedforsecurity=False).hexdigest(), request.inputs | {
            "certRequestPem": pem.decode(),
            "keyAlgorithm": _algorithm(key),
        }


class Certificate(Resource):
    """What both kinds of certificate share: uses, validity and early renewal."""

    def check(self, request: Request) -> Properties:
        """Fill in the defaults; refuse uses that don't exist."""
        inputs = {"earlyRenewalHours": 0, "isCaCertificate": False, "setSubjectKeyId": False} | request.inputs
        if inputs["allowedUses"] != UNKNOWN:
            for use in inputs["allowedUses"]:
                if use not in (*KEY_USES, *EXTENDED_USES, UNKNOWN):
                    allowed = _any((*KEY_USES, *EXTENDED_USES))
                    raise InputError("allowedUses", f"The use {use!r} is not known; write {allowed}.")
        return inputs

    def diff(self, request: Request) -> Diff:
        """Any change is a new certificate, but for the renewal time itself; so is the time having come."""
        changes = differences(request.old_inputs, request.inputs)
        replaces = frozenset(changes) - {"earlyRenewalHours"}
        early = request.inputs["earlyRenewalHours"]
        if not replaces and early != UNKNOWN and _ends(request.state) - timedelta(hours=early) <= _now():
            changes = changes | {"readyForRenewal": "UPDATE"}
            replaces = frozenset({"readyForRenewal"})
        return Diff(changes, replaces)

    def read(self, request: Request) -> tuple[Properties, Properties]:
        """A refresh says whether it is time."""
        ready = _ends(request.state) - timedelta(hours=request.state["earlyRenewalHours"]) <= _now()
        return request.old_inputs, request.state | {"readyForRenewal": ready}


class SelfSignedCert(Certificate):
    """A root, or a certificate that vouches for itself."""

    computed = ("certPem", "keyAlgorithm", "readyForRenewal", "validityStartTime", "validityEndTime")

    def create(self, request: Request) -> tuple[str, Properties]:
        """Sign it with its own key."""
        key = _private_key(request.inputs["privateKeyPem"])
        subject = _subject(request.inputs)
        id, outputs = _signed(
            request.inputs, subject, key.public_key(), _other_names(request.inputs), issuer=None, key=key
        )
        return id, outputs | {"keyAlgorithm": _algorithm(key)}


class LocallySignedCert(Certificate):
    """A certificate for a request, signed by an authority whose key we hold."""

    computed = ("caKeyAlgorithm", "certPem", "readyForRenewal", "validityStartTime", "validityEndTime")

    def create(self, request: Request) -> tuple[str, Properties]:
        """Sign the request with the authority's key."""
        key = _private_key(request.inputs["caPrivateKeyPem"])
        asked = _parsed("certRequestPem", request.inputs["certRequestPem"], x509.load_pem_x509_csr)
        issuer = _parsed("caCertPem", request.inputs["caCertPem"], x509.load_pem_x509_certificate)
        names = [
            name
            for extension in asked.extensions
            if isinstance(extension.value, x509.SubjectAlternativeName)
            for name in extension.value
        ]
        public = cast(CertificateIssuerPublicKeyTypes, asked.public_key())
        id, outputs = _signed(request.inputs, asked.subject, public, names, issuer=issuer, key=key)
        return id, outputs | {"caKeyAlgorithm": _algorithm(key)}


def _signed(
    inputs: Properties,
    subject: x509.Name,
    public: CertificateIssuerPublicKeyTypes,
    names: list[x509.GeneralName],
    *,
    issuer: x509.Certificate | None,
    key: CertificateIssuerPrivateKeyTypes,
) -> tuple[str, Properties]:
    authority = inputs["isCaCertificate"]
    if authority and not list(subject):
        raise ProviderError("A certificate authority needs a subject; give it a commonName.")
    start = _now()
    end = start + timedelta(hours=inputs["validityPeriodHours"])
    serial = secrets.randbits(128) or 1
    builder = (
        x509.CertificateBuilder(issuer.subject if issuer else subject, subject, public, serial)
        .not_valid_before(start)
        .not_valid_after(end)
        # The real plugin takes a path length of 0 for none given.
        .add_extension(x509.BasicConstraints(authority, inputs.get("maxPathLength") or None), critical=True)
    )
    if key_uses := [use for use in inputs["allowedUses"] if use in KEY_USES]:
        builder = builder.add_extension(_key_usage(key_uses), critical=True)
    if extended_uses := [EXTENDED_USES[use] for use in inputs["allowedUses"] if use in EXTENDED_USES]:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended_uses), critical=False)
    if authority or inputs["setSubjectKeyId"]:
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    if issuer and issuer.subject != subject:
        for extension in issuer.extensions:
            if isinstance(extension.value, x509.SubjectKeyIdentifier):
                known = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(extension.value)
                builder = builder.add_extension(known, critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=not list(subject))
    certificate = builder.sign(key, hashes.SHA256())
    return str(serial), inputs | {
        "certPem": certificate.public_bytes(serialization.Encoding.PEM).decode(),
        "readyForRenewal": False,
        "validityStartTime": start.isoformat(),
        "validityEndTime": end.isoformat(),
    }


def _key_usage(uses: list[str]) -> x509.KeyUsage:
    library_names = {"cert_signing": "key_cert_sign", "crl_signing": "crl_sign"}
    return x509.KeyUsage(**{library_names.get(use, use): use in uses for use in KEY_USES})


def _subject(inputs: Properties) -> x509.Name:
    given = inputs.get("subject") or {}
    return x509.Name([x509.NameAttribute(oid, given[name]) for name, oid in NAMES.items() if given.get(name)])


def _other_names(inputs: Properties) -> list[x509.GeneralName]:
    return [
        *(x509.DNSName(name) for name in inputs.get("dnsNames") or ()),
        *(x509.IPAddress(ipaddress.ip_address(name)) for name in inputs.get("ipAddresses") or ()),
        *(x509.UniformResourceIdentifier(name) for name in inputs.get("uris") or ()),
    ]


def _private_key(pem: str) -> CertificateIssuerPrivateKeyTypes:
    key = _parsed("private key", pem, lambda data: serialization.load_pem_private_key(data, None))
    return cast(CertificateIssuerPrivateKeyTypes, key)


def _parsed(name: str, pem: str, load: Any) -> Any:
    try:
        return load(pem.encode())
    except ValueError as error:
        # The value isn't repeated: it may be a key.
        raise ProviderError(f"The {name} is not PEM that can be read; check where it comes from.") from error


def _algorithm(key: CertificateIssuerPrivateKeyTypes) -> str:
    return "RSA" if isinstance(key, rsa.RSAPrivateKey) else "ECDSA"


def _ends(state: Properties) -> datetime:
    return datetime.fromisoformat(state["validityEndTime"])


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _any(names: Iterable[str]) -> str:
    return ", ".join(names)


class Tls(Provider):
    """Only what the program uses; anything else is refused by name."""

    def resource(self, type: str) -> Resource:
        """One of the four kinds."""
        kinds: dict[str, Resource] = {
            "tls:index/privateKey:PrivateKey": PrivateKey(),
            "tls:index/certRequest:CertRequest": CertRequest(),
            "tls:index/selfSignedCert:SelfSignedCert": SelfSignedCert(),
            "tls:index/locallySignedCert:LocallySignedCert": LocallySignedCert(),
        }
        if type not in kinds:
            raise InputError("", f"The stand-in tls provider has no {type}; install the real plugin.")
        return kinds[type]


PROVIDER = Tls()
