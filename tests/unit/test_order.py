"""Files whose tests go on from each other end with their first failure."""

import pytest

from lab.plugins import REPOSITORY

pytest_plugins = ["pytester"]
LIVED = """
import pytest

MARK

@pytest.fixture(scope="module")
def fleet():
    yield
    print("taken away")

def test_begun(fleet): ...
def test_broken(fleet): assert False
def test_going_on(fleet): assert False, "a failure that follows from another"
"""


@pytest.mark.parametrize(("mark", "skipped"), [("pytestmark = pytest.mark.lived_in_order", 1), ("", 0)])
def test_what_goes_on_from_a_failure_is_skipped_by_its_name_and_no_other_file_is(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, mark: str, skipped: int
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    pytester.makeconftest((REPOSITORY / "tests/conftest.py").read_text())
    pytester.makepyprojecttoml((REPOSITORY / "pyproject.toml").read_text())
    pytester.makepyfile(test_lived=LIVED.replace("MARK", mark), test_other="def test_other(): ...")

    done = pytester.runpytest_subprocess("test_lived.py", "test_other.py", "-p", "no:cacheprovider", "-s")

    done.assert_outcomes(passed=2, failed=2 - skipped, skipped=skipped)
    assert ("It goes on from test_broken, which failed." in done.stdout.str()) is bool(skipped)
    assert "taken away" in done.stdout.str()
