"""The first call to the relay, against a real TLS listener."""

import asyncio
import socket
import threading

import pulumi
import pytest

from components.relay_dial import answer
from tests.relay import Relay, self_signed

AUTHORITY = "enterprise-networking.gloo-mesh"


def dial(address: str, root: str, seconds: float = 0.5) -> None:
    asyncio.run(answer(address, AUTHORITY, root, seconds))


def refusal(address: str, root: str) -> str:
    with pytest.raises(pulumi.RunError) as told:
        dial(address, root)
    return str(told.value)


@pytest.fixture(scope="module")
def pair() -> tuple[str, str]:
    """A relay's certificate and key."""
    return self_signed(AUTHORITY)


def test_another_authoritys_certificate_is_refused_with_what_may_be_in_between(pair: tuple[str, str]) -> None:
    with Relay(*self_signed(AUTHORITY)).start() as relay:
        told = refusal(relay.address, pair[0])

    assert relay.address in told
    assert "not under this fleet's root" in told
    assert "ends TLS on the way" in told


def test_what_speaks_no_tls_is_told_by_server_name(pair: tuple[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:
        greeter = threading.Thread(target=_greet, args=[plain])
        greeter.start()
        told = refusal(f"127.0.0.1:{plain.getsockname()[1]}", pair[0])
        greeter.join()

    assert f"speaks no TLS for the server name {AUTHORITY}" in told


def test_a_refused_connection_is_told_with_both_ways_out(pair: tuple[str, str]) -> None:
    with Relay(*pair) as relay:
        told = refusal(relay.address, pair[0])

    assert "the connection is refused" in told
    assert "gloo-mesh:relay.readyWithin" in told
    assert "gloo-mesh:relay.dialFromHere to false" in told


def test_a_name_that_does_not_resolve_is_told(pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)

    assert "relay.example:9900 within 0.5 s: its name does not resolve" in refusal("relay.example:9900", pair[0])


def test_silence_is_told(pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.relay_dial._ATTEMPT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        assert "nothing answers there" in refusal(f"127.0.0.1:{mute.getsockname()[1]}", pair[0])


def test_a_relay_that_starts_late_is_waited_for_and_asked_for_by_its_authority(
    pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    with Relay(*pair) as relay:

        def start(message: str) -> None:
            said.append(message)
            relay.start()

        monkeypatch.setattr(pulumi.log, "info", start)
        dial(relay.address, pair[0], 30)

        assert relay.asked_for == [AUTHORITY]
    assert len(said) == 1
    assert "so far the connection is refused" in said[0]


def test_the_vendors_wildcard_certificate_is_accepted() -> None:
    certificate, key = self_signed("*.gloo-mesh")
    with Relay(certificate, key).start() as relay:
        dial(relay.address, certificate)

        assert relay.asked_for == [AUTHORITY]


def _greet(listener: socket.socket) -> None:
    caller, _ = listener.accept()
    with caller:
        caller.sendall(b"220 mail.example ready\r\n")
        caller.recv(1024)
