"""The digest of a release's values: the same for what was written and for what Helm remembers."""

import json

from components.values_digest import MASKED, digest, masked, masked_paths

WRITTEN = {"licenseKey": MASKED, "port": 9900, "none": None, "env": [{"name": "A", "value": MASKED}, {"name": "B"}]}
REMEMBERED = {"licenseKey": "canary", "port": 9900.0, "env": [{"name": "A", "value": "other canary"}, {"name": "B"}]}


def test_what_helm_remembers_has_the_digest_of_what_was_written_once_it_is_masked_alike() -> None:
    paths = json.loads(json.dumps(list(masked_paths(WRITTEN))))

    assert paths == [["licenseKey"], ["env", 0, "value"]]
    assert digest(masked(REMEMBERED, paths)) == digest(WRITTEN)
    assert "canary" not in json.dumps(masked(REMEMBERED, paths))


def test_another_value_or_a_missing_one_has_another_digest() -> None:
    paths = list(masked_paths(WRITTEN))
    without = {key: value for key, value in REMEMBERED.items() if key != "licenseKey"}

    assert digest(masked(REMEMBERED | {"port": 9901}, paths)) != digest(WRITTEN)
    assert digest(masked(without, paths)) != digest(WRITTEN)
    assert digest(masked(REMEMBERED | {"env": "none"}, paths)) != digest(WRITTEN)


def test_masking_changes_nothing_of_what_it_is_given() -> None:
    before = json.dumps(REMEMBERED)
    masked(REMEMBERED, [["env", 0, "value"], ["not", "there"]])

    assert json.dumps(REMEMBERED) == before
