"""The verb `recover`: after a crash, what is in the way of the next `up`, and its removal.

Owns its words and exit codes: 0 nothing is in the way any more, 1 something is, 2 something could not be looked at.
"""

import os
from typing import Annotated

import typer
from rich.markup import escape

from operations import backend, leftovers, lock
from operations import recover as recovery
from operations.console import JsonOption, StackOption, err, out
from operations.deployment import Deployment
from operations.findings import tell
from operations.lock import Lock, LockedError
from operations.stack import Stack, UsageError

app = typer.Typer()


@app.command(epilog="Example: python -m operations recover --stack prod --yes")
def recover(
    stack: StackOption,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Clear it away; without it nothing is written.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Remove a lock, too, whose holder can't be seen from here.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a crash left in the way of the next up; with --yes, clear it away. Refused while an update runs."""
    known = Stack.find(stack)
    os.environ.update(known.environment)
    torn = backend.cut_off(stack)
    findings = [backend.finding(file, stack) for file in torn]
    if torn:
        locks = lock.locks(stack)
        findings += [held.finding(stack) for held in locks]
        if not yes or not recovery.removable(locks, force=force):
            raise typer.Exit(tell(findings, as_json, "", mended=False, unseen={}))
        findings += leftovers.findings(stack)
        recovery.send_away(stack, force=force)
    deployment = Deployment(known, err)
    locks = lock.locks(stack)
    findings += [*(held.finding(stack) for held in locks), *leftovers.findings(stack)]
    if yes and not recovery.removable(locks, force=force):
        raise typer.Exit(tell(findings, as_json, "", mended=False, unseen={}))
    if yes:
        recovery.send_away(stack, force=force)
    try:
        found = recovery.found(deployment)
    except LockedError:
        if yes and locks:
            # Theirs is gone; this is somebody else's.
            raise
        # A service may let nobody preview while an update is under way, and say so nowhere else.
        findings += [] if locks else [Lock.anonymous().finding(stack)]
        if not (yes and force):
            raise typer.Exit(tell(findings, as_json, "", mended=False, unseen={})) from None
        lock.remove(stack)
        found = recovery.found(deployment)
    findings += found.findings
    if yes:
        try:
            recovery.mend(deployment, found)
        except UsageError:
            # A part may be done, and what that was is told nowhere else.
            tell(findings, as_json, "", mended=False, unseen=found.unseen)
            raise
    code = tell(findings, as_json, "Nothing is in the way of the next up.", mended=yes, unseen=found.unseen)
    for where, why in found.unseen.items():
        err.print(f"[red]{escape(where)} could not be looked at:[/red] {escape(why)}")
    if yes and findings and not found.unseen and not as_json:
        out.print(f"All of it is cleared away. Next: python -m operations up --stack {stack}", markup=False)
    raise typer.Exit(2 if found.unseen else 0 if yes else code)
