"""The verb `plan`: the deployment, without engine or cluster.

Owns its tree, its diagram, and exit codes: 0 shown, or nothing differs; 1 something differs from the plan given.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.markup import escape
from rich.text import Text
from rich.tree import Tree

from operations import plan as planning
from operations.console import WIDE, JsonOption, StackOption, out, print_json
from operations.plan import Plan, Planned
from operations.stack import Stack, UsageError

app = typer.Typer()

# A tree's lines are cut where the console ends.
_TREES = Console(highlight=False, width=WIDE)

MermaidOption = Annotated[bool, typer.Option("--mermaid", help="A diagram: what waits for what.")]
AgainstOption = Annotated[
    Path | None, typer.Option("--against", help="A plan that --json printed earlier: show what differs from it.")
]


@app.command(
    epilog="Examples: python -m operations plan --stack prod --json > plan.json; "
    "python -m operations plan --stack prod --against plan.json"
)
def plan(
    stack: StackOption, as_json: JsonOption = False, mermaid: MermaidOption = False, against: AgainstOption = None
) -> None:
    """Show what would be deployed, by cluster in order, secrets masked. Asks no cluster and no engine.

    With --against, exit 1 when something differs; a secret that changed is masked on both sides and isn't seen.
    """
    if mermaid and (as_json or against):
        raise UsageError("--mermaid is a format of its own; give it without --json and --against.")
    before = _read(against) if against else None
    made = planning.plan(Stack.find(stack))
    if before is None:
        if mermaid:
            typer.echo("\n".join(diagram(made)))
        elif as_json:
            print_json(made.report())
        else:
            _TREES.print(_tree(made))
        return
    found = planning.compared(before, made.report())
    if as_json:
        print_json(found)
    else:
        _print_difference(found)
    raise typer.Exit(1 if any(found.values()) else 0)


def diagram(made: Plan) -> Iterator[str]:
    """Mermaid: clusters as boxes, an arrow from what is awaited; what follows from other arrows has none."""
    nodes: dict[str, str] = {}
    yield "flowchart LR"
    for number, (cluster, resources) in enumerate(made.clusters.items()):
        yield f'  subgraph cluster{number}["{_text(cluster)}"]'
        for resource in resources:
            nodes[resource.key] = f"n{len(nodes)}"
            yield f'    {nodes[resource.key]}["{_text(resource.kind)}<br/>{_text(resource.called)}"]'
        yield "  end"
    for awaited, waiting in planning.direct(r for resources in made.clusters.values() for r in resources):
        yield f"  {nodes[awaited]} --> {nodes[waiting]}"


def _text(name: str) -> str:
    """As Mermaid wants it within quotes."""
    return name.replace("#", "#35;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")


def _tree(made: Plan) -> Tree:
    count = sum(map(len, made.clusters.values()))
    tree = Tree(f"[bold]{escape(made.stack)}[/bold] {escape(made.version)}: {count} resources")
    for cluster, resources in made.clusters.items():
        context = made.contexts.get(cluster)
        branch = tree.add(f"[bold]{escape(cluster)}[/bold]" + (f" (context {escape(context)})" if context else ""))
        for resource in resources:
            leaf = branch.add(escape(_line(resource)))
            if values := _shown(resource):
                leaf.add(Text(yaml.safe_dump(values, sort_keys=False, width=math.inf).rstrip()))
    return tree


def _line(resource: Planned) -> str:
    inputs = resource.inputs
    told = [f"{resource.step}. {resource.kind} {resource.called}"]
    if resource.kind == "Release":
        told += [f"{inputs['version']} in {inputs['namespace']}"]
    told += ["(protected)"] if resource.protect else []
    told += ["(only read)"] if resource.read else []
    return " ".join(told)


def _shown(resource: Planned) -> Any:
    """What a tree has room for: a release's values, a custom resource's spec, a Secret's keys."""
    match resource.kind:
        case "Release":
            return resource.inputs.get("values")
        case "Secret":
            return resource.inputs.get("stringData") or resource.inputs.get("data")
        case _:
            return resource.inputs.get("spec")


def _read(file: Path) -> dict[str, Any]:
    try:
        report = json.loads(file.read_text())
        # Whether it has what is compared.
        planning.compared(report, report)
    except OSError as error:
        raise UsageError(f"{file} can't be read: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(
            f"{file} is no plan; make one with: python -m operations plan --stack STACK --json > FILE"
        ) from None
    return report


def _print_difference(found: dict[str, Any]) -> None:
    for what in ("added", "removed"):
        for key in found[what]:
            out.print(f"{what} {escape(key)}")
    for key, paths in found["changed"].items():
        out.print(f"changed {escape(key)}")
        for path, values in paths.items():
            before, after = (json.dumps(values[when]) for when in ("before", "after"))
            out.print(f"  {escape(path)}: {escape(before)} -> {escape(after)}")
    counts = ", ".join(f"{len(found[what])} {what}" for what in found)
    out.print(f"{counts}." if any(found.values()) else "Nothing differs.")
