"""What was approved of a preview, against what one names now."""

import json
from pathlib import Path
from typing import Any

import pytest

from operations import approval
from operations.stack import UsageError

AGENT = {"cluster-1": {"cluster-1-agent": "update"}}


def report(changed: dict[str, Any], **more: Any) -> str:
    clusters = {cluster: {"changed": named, "unchanged": 3, "failed": []} for cluster, named in changed.items()}
    return json.dumps({"stack": "prod", "preview": True, "clusters": clusters, "errors": [], **more})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "can't be read (No such file or directory)"),
        ("", "isn't the report of a preview; make one with: python -m operations preview"),
        ("[]", "isn't the report of a preview"),
        ('{"findings": []}', "isn't the report of a preview"),
        ('{"preview": true, "stack": "prod", "clusters": {"a": {"changed": 3}}, "errors": []}', "isn't the report"),
        (report(AGENT, stack="lab"), "is the report of a preview of lab, not of prod; make one with: python -m"),
        (report(AGENT, preview=False), "is the report of a deployment"),
        (report(AGENT, errors=["no"]), "is the report of a preview that failed"),
    ],
)
def test_what_is_no_report_of_a_preview_is_refused_by_name(content: str | None, told: str, tmp_path: Path) -> None:
    file = tmp_path / "approved.json"
    if content is not None:
        file.write_text(content)

    with pytest.raises(UsageError) as refused:
        approval.read(file, "prod")

    assert str(refused.value).startswith(str(file))
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (AGENT, []),
        (AGENT | {"cluster-2": {}}, []),
        ({}, ["cluster-1: to update cluster-1-agent was approved, and wouldn't be done."]),
        (AGENT | {"management": {"fleet": "create"}}, ["management: to create fleet isn't approved."]),
        (
            {"cluster-1": {"cluster-1-agent": "replace"}},
            [
                "cluster-1: to replace cluster-1-agent isn't approved.",
                "cluster-1: to update cluster-1-agent was approved, and wouldn't be done.",
            ],
        ),
    ],
)
def test_every_operation_that_only_one_names_is_told(now: dict[str, Any], told: list[str], tmp_path: Path) -> None:
    file = tmp_path / "approved.json"
    file.write_text(report(AGENT))

    assert list(approval.differences(approval.read(file, "prod"), now)) == told


def test_what_a_silent_cluster_misses_needs_no_new_approval() -> None:
    approved = {"cluster-1": {"agent": "update"}, "cluster-2": {"agent": "update"}}
    now = {"cluster-2": {"agent": "update"}}

    assert list(approval.differences(approved, now, silent=["cluster-1"])) == []
    assert list(approval.differences(now, approved, silent=["cluster-1"])) == [
        "cluster-1: to update agent isn't approved."
    ]


def test_what_was_done_beyond_what_was_approved_is_told_and_what_is_missing_has_errors_of_its_own() -> None:
    done = {"cluster-2": {"cluster-2-agent": "update"}}

    assert list(approval.exceeding(AGENT, done)) == [
        "cluster-2: to update cluster-2-agent wasn't approved, and was done: it came up after the preview."
    ]
