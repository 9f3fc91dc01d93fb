"""The tool cache: what it takes for whole, where it looks first, what it refuses. No network, no real Go."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rich.console import Console

from lab import LabError, toolbox
from lab.toolbox import Family, Toolbox

NOWHERE = "http://127.0.0.1:1/tool"
WORKING_GO = 'while [ $# -gt 0 ]; do [ "$1" = -o ] && echo built > "$2"; shift; done'


class Shop:
    """A server of downloads that remembers what it was asked for."""

    def __init__(self) -> None:
        """Serve on a loopback port of the system's choice."""
        self.goods: dict[str, bytes] = {}
        self.asked: list[str] = []
        shop = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                shop.asked.append(self.path)
                content = shop.goods.get(self.path)
                self.send_response(200 if content is not None else 404)
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, format: str, *args: object) -> None:
                """Keep the test's output to the test."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop()
    thread = threading.Thread(target=shop.server.serve_forever, args=[0.01])
    thread.start()
    yield shop
    shop.server.shutdown()
    thread.join()
    shop.server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache and pins of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # What is downloaded here is on loopback.
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(toolbox, "PINS", tmp_path / "pins")
    for name in ("tool", "other"):
        (tmp_path / "pins" / name).mkdir(parents=True)
        (tmp_path / "pins" / name / "go.mod").write_text(f"module lab/{name}\n\nrequire example.org/{name} v1.2.3\n")
    return tmp_path / "cache/gloo-mesh-lab"


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Go whose doings a test writes; it notes each of its runs."""
    script = tmp_path / "go/bin/go"
    script.parent.mkdir(parents=True)
    (tmp_path / "go/VERSION").write_text("go1.26.8\n")
    monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")
    behave(script, WORKING_GO)
    return script


def behave(go: Path, script: str) -> None:
    go.write_text(f'#!/bin/sh\necho "$*" >> {go}.runs\n{script}\n')
    go.chmod(0o755)


def runs(go: Path) -> list[str]:
    record = go.with_name("go.runs")
    return record.read_text().splitlines() if record.exists() else []


def family(name: str = "tool", url: str = NOWHERE, sums: str | None = None) -> Family:
    return Family(name, "1.2.3", downloads={name: (url, sums)}, packages={name: f"example.org/{name}"})


def test_a_build_that_fails_leaves_no_entry_and_says_which_package_it_was(go: Path, cache: Path) -> None:
    behave(go, WORKING_GO + "\necho no such package >&2; exit 1")

    with pytest.raises(LabError, match=r"(?s)example.org/tool.*no such package"):
        Toolbox(Console(quiet=True)).obtain(family())

    assert [entry.name for entry in cache.iterdir()] == [".tool.lock"]


def test_what_a_killed_build_left_is_not_used_but_cleared(go: Path, cache: Path) -> None:
    left = cache / f".{family().key('go1.26.8')}-x1.part"
    (left / "content").mkdir(parents=True)
    (left / "content/tool").write_text("half")

    folder = Toolbox(Console(quiet=True)).obtain(family())

    assert (folder / "tool").read_text() == "built\n"
    assert not left.exists()


def test_a_download_that_differs_from_its_published_sum_is_refused_and_built_instead(go: Path, shop: Shop) -> None:
    shop.goods = {"/tool": b"altered", "/tool.sha256": hashlib.sha256(b"published").hexdigest().encode()}

    folder = Toolbox(Console(quiet=True)).obtain(family(url=f"{shop.url}/tool", sums=f"{shop.url}/tool.sha256"))

    assert (folder / "tool").read_text() == "built\n"


def test_a_download_whose_sum_is_not_published_is_refused_where_one_should_be(go: Path, shop: Shop) -> None:
    shop.goods = {"/tool": b"published", "/sums": b"0123  another\n"}

    folder = Toolbox(Console(quiet=True)).obtain(family(url=f"{shop.url}/tool", sums=f"{shop.url}/sums"))

    assert (folder / "tool").read_text() == "built\n"


def test_one_failed_connection_stops_all_further_downloads(go: Path, shop: Shop) -> None:
    shop.goods = {"/other": b"published"}
    box = Toolbox(Console(quiet=True))

    box.obtain(family("tool"))
    folder = box.obtain(family("other", f"{shop.url}/other"))

    assert (folder / "other").read_text() == "built\n"
    assert shop.asked == []


def test_a_missing_file_stops_no_other_download(go: Path, shop: Shop) -> None:
    shop.goods = {"/other": b"published"}
    box = Toolbox(Console(quiet=True))

    box.obtain(family("tool", f"{shop.url}/tool"))
    folder = box.obtain(family("other", f"{shop.url}/other"))

    assert (folder / "other").read_text() == "published"


def test_a_pin_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"lab/tools/tool/go.mod doesn't require example.org/gone"):
        toolbox.pinned("tool", "example.org/gone")


def test_an_official_download_with_the_right_sum_is_taken_without_go(go: Path, shop: Shop) -> None:
    sums = f"0123  another\n{hashlib.sha256(b'published').hexdigest()}  tool\n"
    shop.goods = {"/tool": b"published", "/sums": sums.encode()}

    folder = Toolbox(Console(quiet=True)).obtain(family(url=f"{shop.url}/tool", sums=f"{shop.url}/sums"))

    assert (folder / "tool").read_text() == "published"
    assert (folder / "tool").stat().st_mode & 0o111
    assert runs(go) == []


def test_what_is_cached_is_found_without_running_go(go: Path) -> None:
    first = Toolbox(Console(quiet=True)).obtain(family())
    built = runs(go)

    second = Toolbox(Console(quiet=True)).obtain(family())

    assert second == first
    assert runs(go) == built


def test_a_changed_pin_rebuilds_its_own_family_only(go: Path, tmp_path: Path) -> None:
    before = [Toolbox(Console(quiet=True)).obtain(family(name)) for name in ("tool", "other")]
    (tmp_path / "pins/tool/go.sum").write_text("example.org/tool v1.2.3 h1:changed=\n")

    after = [Toolbox(Console(quiet=True)).obtain(family(name)) for name in ("tool", "other")]

    assert after[0] != before[0]
    assert after[1] == before[1]
    assert len(runs(go)) == 3


def test_another_go_version_builds_anew(go: Path) -> None:
    before = Toolbox(Console(quiet=True)).obtain(family())
    go.parent.parent.joinpath("VERSION").write_text("go1.27.0\n")

    assert Toolbox(Console(quiet=True)).obtain(family()) != before
