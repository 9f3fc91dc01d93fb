"""Helm's records after a crash: what each comes to, and how one is marked."""

import base64
import gzip
import json
from typing import Any

import pytest

from operations import helm_records
from operations.helm_records import Records, Release, judged
from operations.releases import HelmError, packed, unpacked
from tests.unit.stored import KNOWN, NEW


@pytest.mark.parametrize(
    ("statuses", "release", "removed", "failed", "more"),
    [
        ({1: "deployed"}, KNOWN, [], [], []),
        ({1: "failed"}, KNOWN, [], [], ["misjudged", "again"]),
        ({1: "failed", 2: "deployed"}, KNOWN, [], [], []),
        ({1: "deployed", 2: "failed"}, KNOWN, [], [], ["misjudged", "again"]),
        ({1: "deployed", 2: "failed"}, KNOWN | {"again": True}, [], [], []),
        ({1: "deployed", 2: "failed"}, KNOWN | {"wanted": False}, [], [], []),
        ({}, NEW, [], [], []),
        ({1: "pending-install"}, NEW, [1], [], []),
        ({1: "failed"}, NEW, [1], [], []),
        ({1: "deployed"}, NEW, [], [], ["unknown", "again"]),
        ({1: "superseded", 2: "deployed", 3: "pending-upgrade"}, KNOWN, [], [3], ["again"]),
        ({1: "deployed", 2: "pending-rollback"}, KNOWN, [], [2], ["again"]),
        ({1: "deployed", 2: "pending-upgrade"}, NEW, [], [2], ["unknown", "again"]),
        ({1: "superseded", 2: "uninstalling"}, KNOWN, [], [2], ["again"]),
        ({1: "uninstalling"}, KNOWN | {"wanted": False}, [], [], []),
        ({1: "superseded", 2: "uninstalled"}, NEW, [1, 2], [], []),
        ({1: "superseded", 2: "uninstalled"}, KNOWN, [], [2], ["again"]),
        ({1: "uninstalled"}, KNOWN | {"wanted": False}, [], [], []),
        ({1: "pending-install"}, KNOWN, [], [1], ["again"]),
    ],
)
def test_each_release_comes_to_what_lets_the_next_up_past_it(
    statuses: dict[int, str], release: dict[str, bool], removed: list[int], failed: list[int], more: list[str]
) -> None:
    found = judged(
        Release("urn", "cluster-1", "gloo-mesh", "enterprise-agent", **release), Records(statuses, ours=True)
    )

    assert (list(found.removed), list(found.failed)) == (removed, failed)
    assert [name for name in ("unknown", "misjudged", "again") if getattr(found, name)] == more


@pytest.mark.parametrize("status", ["deployed", "failed", "pending-install"])
def test_a_strangers_release_is_neither_taken_in_nor_cleared_away(status: str) -> None:
    release = Release("urn", "cluster-1", "gloo-mesh", "enterprise-agent", **NEW)

    found = judged(release, Records({1: status}))

    assert (found.removed, found.failed, found.unknown) == ((), (), False)


def test_a_release_whose_creation_was_under_way_is_taken_in_whoever_wrote_its_record() -> None:
    release = Release("urn", "cluster-1", "gloo-mesh", "enterprise-agent", **NEW | {"begun": True})

    assert judged(release, Records({1: "deployed"})).unknown


def test_a_secret_that_is_only_labelled_like_a_record_is_none() -> None:
    labels = {"owner": "helm", "name": "enterprise-agent", "status": "deployed"}
    secrets = [{"labels": labels | {"version": version}} for version in ("latest", "1")]

    found = helm_records.read(None, secrets)

    assert found == {"enterprise-agent": Records({1: "deployed"})}


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"release": "?"},
        {"release": base64.b64encode(base64.b64encode(b"licence-key-4711")).decode()},
        {"release": packed({"chart": {"metadata": {"version": "1.2.9"}}, "manifest": "", "info": None})},
        {"release": packed({"chart": "x", "manifest": "", "info": {}})},
    ],
)
def test_a_record_that_cant_be_read_is_told_by_its_secret_and_nothing_of_its_content(data: Any) -> None:
    metadata = {"name": "sh.helm.release.v1.enterprise-agent.v1", "namespace": "gloo-mesh"}

    with pytest.raises(HelmError) as failed:
        unpacked({"metadata": metadata, "data": data})

    assert str(failed.value) == (
        "Secret sh.helm.release.v1.enterprise-agent.v1 in namespace gloo-mesh is labelled as a record of Helm's, and "
        "can't be read as one"
    )


def test_a_record_that_is_marked_as_failed_keeps_all_it_knows() -> None:
    chart = {"metadata": {"version": "1.2.9"}}
    record: dict[str, Any] = {"name": "a", "version": 2, "chart": chart, "manifest": "m" * 1000}
    record["info"] = {"status": "pending-upgrade", "notes": "n"}

    text = helm_records.failed({"data": {"release": packed(record)}})

    # By hand, so that the codec isn't measured by itself.
    marked = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(text))))
    assert marked == record | {"info": {"status": "failed", "notes": "n", "description": helm_records.REFUSED}}
