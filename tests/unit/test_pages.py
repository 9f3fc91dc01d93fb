"""The documentation's pages: what they name is there, what they show is accepted."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator
from typer.main import get_command

from docs import reference
from lab.plugins import REPOSITORY
from operations.__main__ import app

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("**/*.md"))]
VERBS = get_command(app())


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", page.read_text(), re.DOTALL | re.MULTILINE)


def rows(page: Path) -> list[str]:
    return [line for line in page.read_text().splitlines() if re.match(r"\| (?!the page asks)", line)]


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())


def files(page: Path) -> list[str]:
    return re.findall(r"`((?:components|operations|lab|policies|tests)/[\w/.-]+)`", page.read_text())


def verbs(page: Path) -> list[str]:
    return re.findall(r"python -m operations (\w+)", page.read_text())


def shown(page: Path) -> list[dict[str, Any]]:
    return [keys for block in blocks(page, "yaml") for keys in configured(block)]


def configured(block: str) -> Iterator[dict[str, Any]]:
    """What a block of YAML shows of a stack's configuration."""
    for document in yaml.safe_load_all(block):
        keys = document.get("config", document) if isinstance(document, dict) else {}
        if any(str(key).startswith("gloo-mesh:") for key in keys):
            yield keys


@pytest.mark.parametrize("found", [links, files, verbs, shown])
def test_pages_have_what_they_are_searched_for(found: Callable[[Path], list[Any]]) -> None:
    assert [page for page in PAGES if found(page)]


@pytest.mark.parametrize("row", rows(REPOSITORY / "docs/seeds.md"))
def test_every_sentence_of_the_vendors_pages_has_a_test_that_exists(row: str) -> None:
    named = re.findall(r"`(tests/\w+/\w+\.py)::(\w+)`", row)

    assert named
    for file, test in named:
        assert f"def {test}(" in (REPOSITORY / file).read_text(), f"{file} has no {test}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert [link for link in links(page) if "://" not in link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_and_command_that_a_page_names_exists(page: Path) -> None:
    assert [file for file in files(page) if not (REPOSITORY / file).exists()] == []
    assert set(verbs(page)) <= VERBS.commands.keys()  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_configuration_that_a_page_shows_follows_the_schema(page: Path) -> None:
    schema = reference.schema()
    del schema["properties"]["config"]["required"]

    for keys in shown(page):
        assert [fault.message for fault in Draft7Validator(schema).iter_errors({"config": keys})] == [], keys


def test_the_index_lists_every_page() -> None:
    listed = re.findall(r"\]\(([\w.-]+\.md|decisions/|runbooks/)\)", (REPOSITORY / "docs/README.md").read_text())
    there = [page.name for page in (REPOSITORY / "docs").glob("*.md") if page.name != "README.md"]

    assert sorted(listed) == sorted([*there, "decisions/", "runbooks/"])
