"""The relay's certificates as the configuration supplies them, checked there before anything is created.

Owns what of them is handed on: the anchor alone as root, and each certificate with its intermediates, since
agents read no further than the first block of ca.crt.
"""

from collections.abc import Iterable, Mapping

import pulumi

from components.certificates import Certificate, Certificates, Pair
from components.settings import pem


def supplied(pems: Mapping[str, pulumi.Output[str]], workers: Iterable[str]) -> Certificates:
    """Certificates from `pems`, by their keys below `pki`; `workers` are those with a certificate each."""
    clients = {worker: _pair(pems, f"clients.{worker}") for worker in workers}
    return Certificates(
        root=_public(pems["root"].apply(pem.anchor_pem)),
        server=_pair(pems, "server"),
        signing=None if clients else _pair(pems, "signing"),
        clients=clients,
    )


def _pair(pems: Mapping[str, pulumi.Output[str]], key: str) -> Pair:
    given = pulumi.Output.all(pems["root"], pems[f"{key}.certificate"])
    key_pem = pems[f"{key}.key"].apply(lambda text: text.strip() + "\n")
    certificate = _public(given.apply(lambda both: pem.chain_pem(*both)))
    return Pair(certificate, key_pem, certificate.pem.apply(pem.public_key))


def _public(certificate: pulumi.Output[str]) -> Certificate:
    """Nothing but certificates is left in it, whichever way it was given."""
    shown = pulumi.Output.unsecret(certificate)
    return Certificate(shown, shown.apply(pem.end))
