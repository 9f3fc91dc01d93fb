"""What the program relies on for keys, certificates and passwords, by plugins or by stand-ins."""

from datetime import UTC, datetime, timedelta

import pulumi
import pulumi_random as random
import pulumi_tls as tls
import pytest
from cryptography import x509

from tests.engine.providers.trial import Trial

pytestmark = pytest.mark.engine
LAB_WORKERS = 0


def test_a_use_that_does_not_exist_is_refused_before_anything_is_made(trial: Trial) -> None:
    def program() -> None:
        key = tls.PrivateKey("key", algorithm="ECDSA", ecdsa_curve="P256")
        tls.SelfSignedCert(
            "root", private_key_pem=key.private_key_pem, allowed_uses=["signing"], validity_period_hours=1
        )

    assert "signing" in trial.failing_up(program)


def test_keys_and_passwords_are_made_once_renewed_in_time_and_never_in_the_clear(trial: Trial) -> None:
    def program(generation: str = "1", root_renewal: int = 24) -> None:
        password = random.RandomPassword("token", length=40, special=False, keepers={"generation": generation})
        root_key = tls.PrivateKey("root-key", algorithm="RSA", rsa_bits=2048)
        root = tls.SelfSignedCert(
            "root",
            private_key_pem=root_key.private_key_pem,
            is_ca_certificate=True,
            subject={"common_name": "root", "organization": "trial"},
            allowed_uses=["cert_signing", "crl_signing"],
            validity_period_hours=100,
            early_renewal_hours=root_renewal,
            max_path_length=1,
        )
        key = tls.PrivateKey("key", algorithm="ECDSA", ecdsa_curve="P256")
        request = tls.CertRequest(
            "request",
            private_key_pem=key.private_key_pem,
            subject={"common_name": "server"},
            dns_names=["server.example", "*.server.example"],
        )
        leaf = tls.LocallySignedCert(
            "leaf",
            cert_request_pem=request.cert_request_pem,
            ca_private_key_pem=root_key.private_key_pem,
            ca_cert_pem=root.cert_pem,
            allowed_uses=["digital_signature", "server_auth"],
            validity_period_hours=10,
            max_path_length=0,
        )
        for name, output in {
            "password": password.result,
            "root key": root_key.private_key_pem,
            "key": key.private_key_pem_pkcs8,
            "root": root.cert_pem,
            "leaf": leaf.cert_pem,
        }.items():
            pulumi.export(name, output)

    assert set(trial.up(program).values()) == {"create"}
    first = trial.outputs()
    state = trial.at_rest()

    assert trial.secret_outputs() == {"password", "root key", "key"}
    for name in ("password", "root key", "key"):
        assert first[name].splitlines()[-2:][0] not in state, f"the {name} must be encrypted"
    assert len(first["password"]) == 40
    assert first["password"].isalnum()
    assert first["root key"].startswith("-----BEGIN RSA PRIVATE KEY-----")
    assert first["key"].startswith("-----BEGIN PRIVATE KEY-----")
    assert_root(x509.load_pem_x509_certificate(first["root"].encode()))
    assert_leaf(
        x509.load_pem_x509_certificate(first["leaf"].encode()), x509.load_pem_x509_certificate(first["root"].encode())
    )

    assert trial.up(program) == {}
    assert trial.outputs() == first

    assert trial.up(lambda: program(generation="2")) == {"token": "replace"}
    second = trial.outputs()
    assert second == first | {"password": second["password"]}
    assert second["password"] != first["password"]

    # A renewal time alone is no reason to issue again, unless it has come.
    assert trial.up(lambda: program(generation="2", root_renewal=48)) == {"root": "update"}
    assert trial.outputs()["root"] == first["root"]

    soon = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    trial.edit("root", lambda resource: resource["outputs"].update(validityEndTime=soon))

    def renewed() -> None:
        program(generation="2", root_renewal=48)

    assert trial.preview(renewed) == {"root": "replace", "leaf": "replace"}
    assert trial.up(renewed) == {"root": "replace", "leaf": "replace"}
    third = trial.outputs()
    assert third["root key"] == first["root key"]
    assert third["root"] != first["root"]
    assert trial.up(renewed) == {}


def assert_root(root: x509.Certificate) -> None:
    constraints = root.extensions.get_extension_for_class(x509.BasicConstraints)
    uses = root.extensions.get_extension_for_class(x509.KeyUsage)

    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=1)
    assert uses.critical
    assert uses.value.key_cert_sign
    assert uses.value.crl_sign
    assert not uses.value.digital_signature


def assert_leaf(leaf: x509.Certificate, root: x509.Certificate) -> None:
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    known_root = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    known_authority = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    constraints = leaf.extensions.get_extension_for_class(x509.BasicConstraints)

    leaf.verify_directly_issued_by(root)
    assert names.get_values_for_type(x509.DNSName) == ["server.example", "*.server.example"]
    assert known_authority.key_identifier == known_root.digest
    assert constraints.critical
    # A path length of 0 is taken for none given.
    assert constraints.value == x509.BasicConstraints(ca=False, path_length=None)
    assert 2**32 < leaf.serial_number < 2**128
    assert leaf.serial_number != root.serial_number
