"""Every kind of finding: explained in the runbooks, and planted by a test."""

import re

import pytest

from lab.plugins import REPOSITORY
from operations.__main__ import app
from operations.findings import KINDS, Kind, exit_code

# Whoever looks for a kind of finding declares it, and the command line knows them all.
app()
CODES = sorted(KINDS)


def test_a_code_belongs_to_one_kind_alone() -> None:
    with pytest.raises(ValueError, match="release-pending"):
        Kind("release-pending", why="It is another.", page="example")


def test_a_finding_tells_machines_all_that_it_tells_people() -> None:
    kind = Kind("made-up", why="It is an example.", page="example")
    try:
        finding = kind.found("cluster-1", "Something is 3, not 4.", "kubectl get something")
    finally:
        del KINDS["made-up"]

    assert finding.report() == {
        "code": "made-up",
        "where": "cluster-1",
        "what": "Something is 3, not 4.",
        "why": "It is an example.",
        "next": "kubectl get something",
        "page": "docs/runbooks/example.md#made-up",
        "stops": False,
        "unseen": False,
    }


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_its_section_in_the_runbooks(code: str) -> None:
    page = REPOSITORY / f"docs/runbooks/{KINDS[code].page}.md"

    assert re.search(rf"^## {code}$", page.read_text(), re.MULTILINE), f"{page.name} has no section {code}"


@pytest.mark.parametrize("code", CODES)
def test_every_code_is_planted_on_real_clusters_by_a_test(code: str) -> None:
    tests = list((REPOSITORY / "tests/engine").glob("*.py"))

    assert [file.name for file in tests if f'"{code}"' in file.read_text()], f"no test plants {code}"


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([], 0),
        (["name-taken"], 1),
        (["no-answer"], 2),
        (["cluster-not-seen", "name-taken"], 2),
        (["name-taken", "expiry-unseen"], 2),
    ],
)
def test_what_could_not_be_looked_at_is_not_taken_for_all_that_is_wrong(codes: list[str], expected: int) -> None:
    assert exit_code(KINDS[code].found("cluster-1", "It is.", "Mend it.") for code in codes) == expected
