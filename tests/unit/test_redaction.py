"""Redaction: what is known goes in whatever form, what isn't by its name or shape, what is public stays."""

import base64
import json
import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from components.values_digest import MASKED
from operations.redaction import Redactor
from tests import authority

LICENCE = 'licence-canary/4711+"quoted"'
KEY = authority.root().key_pem
KNOWN = Redactor({LICENCE: "the licence", KEY: "the key", "short": "too short"})


@pytest.mark.parametrize(
    "text",
    [
        LICENCE,
        f"prefix{LICENCE}suffix",
        json.dumps({"a": LICENCE}),
        base64.b64encode(LICENCE.encode()).decode(),
        base64.b64encode(b"x" + LICENCE.encode() + b"y").decode(),
        base64.b64encode(b"xy" + LICENCE.encode()).decode(),
        base64.urlsafe_b64encode(b"xyz" + LICENCE.encode()).decode(),
        "https://host/?k=licence-canary%2F4711%2B%22quoted%22",
    ],
)
def test_a_known_value_is_found_and_goes_in_every_form(text: str) -> None:
    assert KNOWN.found(text.encode()) == ["the licence"]
    assert KNOWN.found(KNOWN.text(text).encode()) == []


def test_one_line_of_a_key_is_enough_to_be_found() -> None:
    line = KEY.splitlines()[1]

    for text in (line, json.dumps(KEY), base64.b64encode(line.encode()).decode()):
        assert KNOWN.found(text.encode()) == ["the key"]
        assert KNOWN.found(KNOWN.text(text).encode()) == []


@example(values=["abbbbb", "bbbbba"], text="abbbbba")
@given(values=st.lists(st.text("ab", min_size=6, max_size=12), max_size=4), text=st.text("ab", max_size=60))
def test_whatever_is_part_of_a_known_value_goes_and_nothing_else(values: list[str], text: str) -> None:
    redactor = Redactor({value: f"the {value}" for value in values})
    found = {(start, value) for value in values for start in range(len(text)) if text.startswith(value, start)}
    covered = {at for start, value in found for at in range(start, start + len(value))}

    assert redactor.found(text.encode()) == sorted({f"the {value}" for _, value in found})
    assert redactor.text(text).replace(MASKED, "") == "".join(c for at, c in enumerate(text) if at not in covered)


def test_a_value_is_found_among_bytes_that_are_no_text() -> None:
    assert KNOWN.found(b"\xc3" + LICENCE.encode() + b"\xff\0") == ["the licence"]


def test_a_value_that_the_mask_holds_isnt_found_where_something_was_masked() -> None:
    assert Redactor({"secret": "a word"}).found(MASKED.encode()) == []


def test_what_is_too_short_to_tell_is_not_searched_for() -> None:
    assert KNOWN.found(b"a short one") == []
    assert KNOWN.text("a short one") == "a short one"


@pytest.mark.parametrize(
    "credential",
    [
        KEY.replace("\n", "\\n"),
        base64.b64encode(authority.root().key_pem.encode()).decode(),
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJl",
        "Authorization: Bearer 0123456789abcdef",
        "redis://user:canary@redis:6379",
    ],
)
def test_what_nobody_knew_goes_by_its_shape(credential: str) -> None:
    told = Redactor({}).text(f"before {credential} after")

    assert MASKED in told
    for part in ("eyJ", "canary", "0123456789abcdef", KEY.splitlines()[1], "LS0tLS1CRUdJTi"):
        assert part not in told


def test_certificates_and_names_of_secrets_stay() -> None:
    pem = authority.root().pem
    document = {
        "secretName": "relay-server-tls-secret",
        "secret": {"secretName": "relay-root-tls-secret"},
        "args": ["--relay-identity-token-secret-name=relay-identity-token-secret", "--relay-authority=x"],
        "env": [{"name": "TOKEN_SECRET_NAME", "value": "relay-identity-token-secret"}],
        "automountServiceAccountToken": True,
        "pem": pem,
    }

    assert Redactor({}).document(document) == document
    assert Redactor({}).text(pem) == pem


def test_literals_with_names_of_secrets_are_masked() -> None:
    canary = os.urandom(4).hex()
    document = {
        "env": [{"name": "REDIS_PASSWORD", "value": canary}, {"name": "LICENSE_KEY", "value": canary}],
        "args": [f"--token={canary}", f"--admin-password={canary}"],
        "licenseKey": canary,
        "spec": {"clientSecret": canary, "apiKey": canary},
        "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": canary, "kept": "yes"}},
    }

    told = Redactor({}).document(document)

    assert canary not in json.dumps(told)
    assert told["args"] == [f"--token={MASKED}", f"--admin-password={MASKED}"]
    assert told["metadata"]["annotations"] == {"kept": "yes"}


def test_who_wrote_an_object_stays_and_what_they_wrote_goes() -> None:
    field = {"manager": "kubectl", "operation": "Update", "time": "now", "fieldsV1": {"f:data": {}}}

    told = Redactor({}).document({"metadata": {"managedFields": [field]}})

    assert told == {"metadata": {"managedFields": [{"manager": "kubectl", "operation": "Update", "time": "now"}]}}
