"""The TLS listener that stands where a relay would."""

import socket
import ssl

import pytest

from tests.relay import Relay, self_signed

AUTHORITY = "enterprise-networking.gloo-mesh"


def dial(address: str, name: str, trusted: str) -> None:
    host, _, port = address.partition(":")
    context = ssl.create_default_context(cadata=trusted)
    with socket.create_connection((host, int(port)), 5) as plain, context.wrap_socket(plain, server_hostname=name):
        pass


def test_until_it_is_started_nobody_answers_at_its_address() -> None:
    with Relay(*self_signed(AUTHORITY)) as relay, pytest.raises(ConnectionRefusedError):
        dial(relay.address, AUTHORITY, self_signed(AUTHORITY)[0])


def test_it_answers_whoever_trusts_it_and_remembers_the_names_it_was_asked_for() -> None:
    certificate, key = self_signed(AUTHORITY)
    with Relay(certificate, key).start() as relay:
        dial(relay.address, AUTHORITY, certificate)
        with pytest.raises(ssl.SSLCertVerificationError, match=r"another\.example"):
            dial(relay.address, "another.example", certificate)
        with pytest.raises(ssl.SSLCertVerificationError):
            dial(relay.address, AUTHORITY, self_signed(AUTHORITY)[0])
        dial(relay.address, AUTHORITY, certificate)

        assert relay.asked_for == [AUTHORITY, "another.example", AUTHORITY, AUTHORITY]

    with pytest.raises(ConnectionRefusedError):
        dial(relay.address, AUTHORITY, certificate)
