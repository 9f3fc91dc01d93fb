"""What was approved of a preview, so that an up deploys that and nothing else.

Owns reading the report of an earlier `preview --json`, and its comparison with what a preview names now, and with what
was done: operations by resource and cluster. The values behind them are those of the commit that is deployed from.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from operations.stack import UsageError, command

Changes = Mapping[str, Mapping[str, str]]
"""By cluster and resource, the operation."""


def read(file: Path, stack: str) -> Changes:
    """What a report on this stack names; raises UsageError where that can't be had."""
    again = f"make one with: {command('preview', stack, '--json')} > {file}"
    try:
        report = json.loads(file.read_text())
        if report["preview"] is not True:
            raise UsageError(f"{file} is the report of a deployment, which nobody can approve any more; {again}")
        if report["stack"] != stack:
            raise UsageError(f"{file} is the report of a preview of {report['stack']}, not of {stack}; {again}")
        if report["errors"]:
            raise UsageError(f"{file} is the report of a preview that failed; approve one that went well.")
        return {cluster: dict(named["changed"].items()) for cluster, named in report["clusters"].items()}
    except OSError as error:
        raise UsageError(f"{file} can't be read ({error.strerror}); {again}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(f"{file} isn't the report of a preview; {again}") from None


def differences(approved: Changes, now: Changes, silent: Collection[str] = ()) -> Iterator[str]:
    """A sentence for every operation that only one of the two names; what `silent` clusters miss, a later up makes."""
    before, after = _named(approved), _named(now)
    for cluster, resource, operation in sorted(after - before):
        yield f"{cluster}: to {operation} {resource} isn't approved."
    for cluster, resource, operation in sorted(before - after):
        if cluster not in silent:
            yield f"{cluster}: to {operation} {resource} was approved, and wouldn't be done."


def exceeding(approved: Changes, done: Changes) -> Iterator[str]:
    """A sentence for every operation that was done beyond what was approved."""
    for cluster, resource, operation in sorted(_named(done) - _named(approved)):
        yield f"{cluster}: to {operation} {resource} wasn't approved, and was done: it came up after the preview."


def _named(changes: Changes) -> set[tuple[str, str, str]]:
    return {(cluster, *change) for cluster, changed in changes.items() for change in changed.items()}
