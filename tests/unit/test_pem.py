"""What a relay's certificates have to be: each fault is one sentence, and what works is let through."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from components.settings import pem
from components.settings.pem import Pem, PemPair, Trust
from tests.authority import AUTHORITY, CLIENT, DAY, SERVER, Made, private_pem, root

ROOT = root()
OTHER = root("other")
MIDDLE = ROOT.issue("middle", ca=True)


def pair(name: str, made: Made, *chain: Made, key: str | None = None) -> PemPair:
    text = "".join(part.pem for part in (made, *chain))
    return PemPair(Pem(name, text), Pem(f"{name}'s key", made.key_pem if key is None else key))


GOOD = Trust(
    authority=AUTHORITY,
    root=Pem("root", ROOT.pem),
    server=pair("server", ROOT.server()),
    signing=pair("signing", ROOT.signing()),
    clients={"cluster-1": pair("client", ROOT.client("cluster-1"))},
)


def only_fault(**changes: object) -> str:
    (fault,) = pem.faults(replace(GOOD, **changes))
    return fault


def warned(**changes: object) -> list[str]:
    trust = replace(GOOD, **changes)
    assert list(pem.faults(trust)) == []
    return list(pem.warnings(trust))


def server(**asked: object) -> PemPair:
    return pair("server", ROOT.issue("server", **({"names": (AUTHORITY,), "uses": (SERVER,)} | asked)))  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "\0"])
def test_what_is_no_certificate_is_refused(text: str) -> None:
    assert "server holds no certificate that can be read" in only_fault(
        server=PemPair(Pem("server", text), Pem("key", ROOT.key_pem))
    )


def test_a_key_among_certificates_is_refused_since_these_are_copied_to_workers() -> None:
    fault = only_fault(root=Pem("root", ROOT.pem + ROOT.key_pem))

    assert "root holds more than certificates (EC PRIVATE KEY) and is copied to other clusters" in fault


def test_two_roots_are_refused_because_agents_read_the_first_block_alone() -> None:
    assert "root holds 2 roots" in only_fault(root=Pem("root", ROOT.pem + OTHER.pem))


def test_a_root_that_is_no_authority_is_refused() -> None:
    leaf = root("leaf", ca=False)

    told = "\n".join(pem.faults(Trust(authority=AUTHORITY, root=Pem("root", leaf.pem))))

    assert "root is not a CA's certificate" in told
    assert "root may not sign certificates; issue it anew with keyUsage keyCertSign" in told


@pytest.mark.parametrize("role", ["server", "signing"])
def test_what_another_root_issued_is_refused_by_both_names(role: str) -> None:
    made = OTHER.server() if role == "server" else OTHER.signing()

    assert f"{role} was not issued by root" in only_fault(**{role: pair(role, made)})


def test_a_missing_intermediate_is_refused() -> None:
    assert "intermediates" in only_fault(server=pair("server", MIDDLE.server()))


def test_an_intermediate_of_the_same_name_with_another_key_is_no_issuer() -> None:
    false_middle = OTHER.issue("middle", ca=True)

    assert "was not issued by root" in only_fault(server=pair("server", MIDDLE.server(), false_middle))


def test_an_intermediate_that_may_not_sign_is_refused() -> None:
    middle = ROOT.issue("middle", ca=True, signs=False)

    fault = only_fault(server=pair("server", middle.server(), middle))

    assert "The intermediate CN=middle of server may not sign certificates" in fault


def test_more_authorities_than_the_root_allows_are_refused() -> None:
    short = root(path_length=0)
    trust = replace(GOOD, root=Pem("root", short.pem), server=pair("server", short.server()), clients={})

    (fault,) = pem.faults(replace(trust, signing=pair("signing", short.signing())))

    assert "root allows 0 CAs below it (pathLenConstraint), and with signing there are 1" in fault
    assert list(pem.faults(replace(trust, signing=None))) == []


def test_an_intermediate_for_clients_cant_issue_the_server() -> None:
    middle = ROOT.issue("middle", ca=True, uses=(CLIENT,))

    assert "The intermediate CN=middle may not issue for serverAuth" in only_fault(
        server=pair("server", middle.server(), middle)
    )


def test_a_key_of_another_certificate_is_refused_by_both_names() -> None:
    assert "server's key does not belong to server" in only_fault(
        server=pair("server", ROOT.server(), key=OTHER.key_pem)
    )


def test_a_chain_that_isnt_leaf_first_is_refused() -> None:
    made = MIDDLE.server()
    told = pem.faults(replace(GOOD, server=PemPair(Pem("server", MIDDLE.pem + made.pem), Pem("key", made.key_pem))))

    assert "key does not belong to server; give the key that the first certificate" in "\n".join(told)


def test_an_encrypted_key_is_refused() -> None:
    made = ROOT.server()
    locked = private_pem(made.key, serialization.BestAvailableEncryption(b"canary"))

    assert "server's key is encrypted with a passphrase" in only_fault(server=pair("server", made, key=locked))


@pytest.mark.parametrize("text", ["", "x", ROOT.pem])
def test_what_is_no_key_is_refused(text: str) -> None:
    assert "server's key holds no private key that can be read" in only_fault(
        server=pair("server", ROOT.server(), key=text)
    )


@pytest.mark.parametrize(
    "names",
    [
        (),
        ("enterprise-networking.relay",),
        ("enterprise-networking.gloo-mesh.svc",),
        ("*.enterprise-networking.gloo-mesh",),
        ("*.mesh",),
        ("*",),
    ],
)
def test_a_server_certificate_that_doesnt_cover_the_authority_is_refused(names: tuple[str, ...]) -> None:
    fault = only_fault(server=server(names=names))

    assert f"not for the authority {AUTHORITY}; issue it anew with that DNS name" in fault


@pytest.mark.parametrize("name", [AUTHORITY, AUTHORITY.upper(), "*.gloo-mesh"])
def test_an_exact_name_and_the_vendors_wildcard_cover_the_authority(name: str) -> None:
    assert warned(server=server(names=(name,))) == []


def test_a_server_certificate_of_an_authority_is_refused() -> None:
    assert "server is a CA's certificate" in only_fault(server=server(ca=True))


def test_a_server_certificate_for_clients_is_refused() -> None:
    assert "server is not for serverAuth" in only_fault(server=server(uses=(CLIENT,)))


def test_a_signing_certificate_that_is_no_authority_is_refused() -> None:
    assert "signing is not a CA's certificate" in "\n".join(
        pem.faults(replace(GOOD, signing=pair("signing", ROOT.server())))
    )


def test_a_signing_certificate_that_may_not_sign_is_refused() -> None:
    made = ROOT.issue("signing", uses=(CLIENT,), ca=True, signs=False)

    assert "signing may not sign certificates" in only_fault(signing=pair("signing", made))


def test_a_signing_certificate_for_servers_alone_is_refused() -> None:
    made = ROOT.issue("signing", uses=(SERVER,), ca=True)

    assert "signing is not for clientAuth" in only_fault(signing=pair("signing", made))


@pytest.mark.parametrize("uses", [(), (CLIENT, SERVER)])
def test_a_signing_certificate_that_may_issue_servers_is_a_warning(uses: tuple[object, ...]) -> None:
    made = ROOT.issue("signing", uses=uses, ca=True)  # type: ignore[arg-type]

    (warning,) = warned(signing=pair("signing", made))

    assert "signing may issue server certificates" in warning


def test_a_client_certificate_of_another_cluster_is_refused_by_name() -> None:
    fault = only_fault(clients={"cluster-2": pair("client", ROOT.client("cluster-1"))})

    assert "client is for cluster-1, not for the cluster cluster-2" in fault


def test_a_client_certificate_for_servers_is_refused() -> None:
    made = ROOT.issue("client", names=("cluster-1",), uses=(SERVER,))

    assert "client is not for clientAuth" in only_fault(clients={"cluster-1": pair("client", made)})


def test_an_expired_certificate_is_refused_with_its_end() -> None:
    fault = only_fault(server=server(begins=-2 * DAY, ends=-DAY))

    assert fault == f"server ended on {datetime.now(UTC) - DAY:%Y-%m-%d}; issue it anew."


def test_a_certificate_of_tomorrow_is_refused() -> None:
    assert "server is not valid before" in only_fault(server=server(begins=DAY))


def test_an_expired_root_is_refused() -> None:
    old = root(ends=-DAY / 2)
    told = list(pem.faults(Trust(authority=AUTHORITY, root=Pem("root", old.pem), server=pair("server", old.server()))))

    assert [fault for fault in told if fault.startswith("root ended on")]


def test_an_end_within_thirty_days_is_a_warning() -> None:
    (warning,) = warned(server=server(ends=29 * DAY))

    assert "server ends on" in warning
    assert warned(server=server(ends=31 * DAY)) == []


@pytest.mark.parametrize(
    ("key", "has"),
    [
        (rsa.generate_private_key(65537, 1024), "an RSA key of 1024 bits"),
        (ec.generate_private_key(ec.SECP224R1()), "an EC key of 224 bits"),
        (ed25519.Ed25519PrivateKey.generate(), "a key that is neither RSA nor EC"),
    ],
)
def test_a_key_that_is_too_small_or_unknown_is_refused_with_what_is_needed(key: object, has: str) -> None:
    made = ROOT.issue("server", names=(AUTHORITY,), uses=(SERVER,), key=key)  # type: ignore[arg-type]
    text = made.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()

    assert f"server has {has}; issue it anew for RSA of at least 2048 bits" in only_fault(
        server=pair("server", made, key=text)
    )


def test_all_faults_are_told_at_once_and_no_pem_is_repeated() -> None:
    made = OTHER.issue("server", names=("elsewhere",), uses=(CLIENT,), ends=-DAY / 2)
    told = list(pem.faults(replace(GOOD, server=pair("server", made, key=ROOT.key_pem))))

    assert len(told) == 5
    assert not [line for line in (made.pem + ROOT.key_pem).splitlines() if line in "\n".join(told)]


def test_an_intermediate_that_another_root_signed_across_is_passed_over() -> None:
    across = root("old").issue("middle", ca=True, key=MIDDLE.key)
    server = MIDDLE.server()
    chain = MIDDLE.pem + ROOT.pem

    assert warned(root=Pem("root", chain), server=pair("server", server, across)) == []
    assert pem.chain_pem(chain, server.pem + across.pem) == server.pem + MIDDLE.pem


def test_a_good_trust_has_neither_faults_nor_warnings() -> None:
    assert warned() == []


def test_unknown_parts_are_left_out() -> None:
    made = ROOT.server()
    known = pair("server", made)

    assert warned(root=None, server=PemPair(known.certificate, None)) == []
    assert warned(root=None, server=PemPair(None, known.key), signing=PemPair(None, None)) == []


def test_a_root_without_key_usage_as_the_vendors_script_makes_it_is_accepted() -> None:
    assert list(pem.faults(Trust(authority=AUTHORITY, root=Pem("root", root(signs=None).pem)))) == []


@pytest.mark.parametrize("given", [ROOT.pem + MIDDLE.pem, MIDDLE.pem + ROOT.pem, ROOT.pem + ROOT.pem + MIDDLE.pem])
def test_a_chain_in_any_order_gives_the_anchor_alone_as_root(given: str) -> None:
    made = MIDDLE.server()

    assert pem.anchor_pem(given) == ROOT.pem
    assert pem.chain_pem(given, made.pem) == made.pem + MIDDLE.pem
    assert warned(root=Pem("root", given), server=pair("server", made)) == []


def test_the_leafs_own_intermediates_go_with_it() -> None:
    made = MIDDLE.server()

    assert pem.chain_pem(ROOT.pem, made.pem + MIDDLE.pem + ROOT.pem) == made.pem + MIDDLE.pem


def test_a_chain_ends_with_the_first_of_it_to_end() -> None:
    middle = ROOT.issue("middle", ca=True, ends=10 * DAY)

    assert pem.end(middle.server().pem + middle.pem) == f"{middle.certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"


def test_of_a_bundle_in_ca_crt_the_first_block_is_read_and_of_a_chain_all() -> None:
    chain = MIDDLE.server().pem + MIDDLE.pem

    assert pem.as_read(MIDDLE.pem + ROOT.pem, "ca.crt", "the bundle") == MIDDLE.pem
    assert pem.as_read(chain, "tls.crt", "the chain") == chain


def test_an_intermediate_may_be_the_anchor() -> None:
    assert (
        list(
            pem.faults(Trust(authority=AUTHORITY, root=Pem("root", MIDDLE.pem), server=pair("server", MIDDLE.server())))
        )
        == []
    )


def test_signing_below_an_intermediate_is_a_warning() -> None:
    (warning,) = warned(signing=pair("signing", MIDDLE.signing(), MIDDLE))

    assert "signing is below an intermediate" in warning


def test_text_around_the_blocks_is_not_handed_on() -> None:
    assert pem.anchor_pem(f"Bag Attributes\n  secret: canary\n{ROOT.pem}") == ROOT.pem


@settings(max_examples=200)
@example(at=80, text="0", cut=1)
@given(at=st.integers(0, len(ROOT.pem)), text=st.text(max_size=5), cut=st.integers(0, 40))
def test_a_damaged_pem_is_a_sentence_or_nothing(at: int, text: str, cut: int) -> None:
    damaged = ROOT.pem[:at] + text + ROOT.pem[at + cut :]

    told = list(pem.faults(replace(GOOD, root=Pem("root", damaged))))

    assert all(fault.endswith(".") for fault in told)
    # An anchor is a name and a key; no TLS stack looks at its own signature.
    assert told or anchoring(pem.anchor_pem(damaged)) == anchoring(ROOT.pem)


def anchoring(root: str) -> tuple[x509.Name, object]:
    certificate = x509.load_pem_x509_certificate(root.encode())
    return certificate.subject, certificate.public_key()
