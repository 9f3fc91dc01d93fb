"""The Secrets of a cluster, in a bundle: what there is to say of one, and which of its values must not be said."""

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from cryptography import x509

from components.settings.pem import rfc3339
from operations.redaction import looks_secret

RECORD = "helm.sh/release.v1"
"""The type of Helm's records, which are told of as releases."""
PUBLIC = ("ca.crt", "tls.crt", "namespace")
"""Keys of Secrets whose values are no secrets."""


def of(secret: Mapping[str, Any], cluster: str) -> Iterator[tuple[str, str]]:
    """The values in a Secret that are secrets, each with what it is called."""
    if secret["type"] == RECORD:
        return
    for key, encoded in (secret.get("data") or {}).items():
        if key not in PUBLIC:
            name = f"{key} of Secret {secret['metadata']['name']} on {cluster}"
            yield from ((value, name) for value in values(base64.b64decode(encoded).decode(errors="replace")))


def values(content: str) -> Iterator[str]:
    """A secret, and where it is a document what in it is secret by its name."""
    if content.lstrip().startswith("-----BEGIN CERTIFICATE") and "PRIVATE" not in content:
        return
    yield content
    try:
        document = json.loads(content)
    except ValueError:
        return
    yield from _named(document)


def _named(document: Any) -> Iterator[str]:
    if isinstance(document, dict):
        for name, inner in document.items():
            if isinstance(inner, str) and (looks_secret(name) or name == "auth"):
                yield inner
            else:
                yield from _named(inner)


def facts(secret: Mapping[str, Any]) -> dict[str, Any]:
    """What there is to say of a Secret."""
    keys: dict[str, Any] = {}
    for key, encoded in (secret.get("data") or {}).items():
        content = base64.b64decode(encoded)
        keys[key] = {"bytes": len(content)} | ({"certificates": found} if (found := _certificates(content)) else {})
    meta = secret["metadata"]
    told = {name: meta[name] for name in ("name", "creationTimestamp", "resourceVersion", "labels") if name in meta}
    return told | {"type": secret["type"], "keys": keys}


def _certificates(content: bytes) -> list[dict[str, Any]]:
    if b"-----BEGIN CERTIFICATE-----" not in content:
        return []
    try:
        found = x509.load_pem_x509_certificates(content)
        return [
            {
                "subject": certificate.subject.rfc4514_string(),
                "issuer": certificate.issuer.rfc4514_string(),
                "serial": f"{certificate.serial_number:x}",
                "notBefore": rfc3339(certificate.not_valid_before_utc),
                "notAfter": rfc3339(certificate.not_valid_after_utc),
                "names": _dns_names(certificate),
            }
            for certificate in found
        ]
    except ValueError:
        return [{"unreadable": True}]


def _dns_names(certificate: x509.Certificate) -> list[str]:
    with suppress(x509.ExtensionNotFound):
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return names.get_values_for_type(x509.DNSName)
    return []
