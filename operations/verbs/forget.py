"""The verb `forget`: a cluster that is gone for good.

Owns its question, table and exit codes: 0 forgotten, 1 refused or declined, 2 the command could not start.
"""

from typing import Annotated

import typer

from operations import forget as forgetting
from operations.console import JsonOption, StackOption, YesOption, err, out, print_json, table
from operations.deployment import Deployment
from operations.stack import Stack

app = typer.Typer()


@app.command(epilog="Example: python -m operations forget cluster-2 --stack prod")
def forget(
    name: Annotated[str, typer.Argument(help="The cluster's name in the configuration; `management` for that one.")],
    stack: StackOption,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Drop what the state knows of a cluster that is gone for good, and deregister it. Refused while it answers."""
    deployment = Deployment(Stack.find(stack), err)
    farewell = forgetting.farewell(deployment, name)
    if farewell.refusal:
        if as_json:
            print_json({"forgotten": [], "refused": farewell.refusal})
        err.print(farewell.refusal, markup=False)
        raise typer.Exit(1)
    shown = table("resource", "what happens")
    for entry in farewell.dropped:
        shown.add_row(entry, "dropped from the state")
    for registration in farewell.deregistered:
        shown.add_row(registration, "deleted on the management cluster")
    err.print(shown)
    if not yes and not typer.confirm(f"Forget {name}?", err=True):
        raise typer.Exit(1)
    forgetting.forget(deployment, farewell)
    if as_json:
        print_json({"forgotten": farewell.dropped, "deregistered": farewell.deregistered, "next": farewell.next})
    else:
        out.print(f"{name} is forgotten. Next: {farewell.next}", markup=False)
