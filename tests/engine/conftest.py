"""The engine tests' header, which says what they run on."""

from lab import plugins


def pytest_report_header() -> str:
    """Real plugins or stand-ins; a run on stand-ins must not pass for more."""
    return plugins.describe()
