"""What the operations commands find: a code, where, what, why it matters, the next command, and a page.

Owns the shape of a finding and how findings are told. What there is to find is declared by whoever looks for it;
every code has a section in a page of `docs/runbooks/`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape

from operations.console import out, print_json

KINDS: dict[str, "Kind"] = {}
"""Every kind of finding there is, by code."""


@dataclass(frozen=True)
class Kind:
    """One thing that can be wrong with a fleet."""

    code: str
    """As scripts and the runbook know it; it stays."""
    why: str
    """Why it matters, a sentence."""
    page: str
    """The page of `docs/runbooks/`, without its ending, that has a section of the code's name."""
    stops: bool = False
    """Whether an `up` would fail over it, or do harm."""
    unseen: bool = False
    """Whether a cluster, or something of it, could not be looked at, so that what is found may not be all."""

    def __post_init__(self) -> None:
        if self.code in KINDS:
            raise ValueError(f"{self.code} is the code of another kind of finding already")
        KINDS[self.code] = self

    def found(self, where: str, what: str, remedy: str) -> "Finding":
        """A finding of this kind on the cluster `where`, or wherever else; never with a secret in it."""
        return Finding(self, where, what, remedy)


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, and what to do next."""

    kind: Kind
    where: str
    """The cluster's name in the configuration, or what else it is about."""
    what: str
    """A sentence that names the object and the value."""
    remedy: str
    """The next command, or what to write where."""

    def report(self) -> dict[str, Any]:
        """For machines."""
        return {
            "code": self.kind.code,
            "where": self.where,
            "what": self.what,
            "why": self.kind.why,
            "next": self.remedy,
            "page": f"docs/runbooks/{self.kind.page}.md#{self.kind.code}",
            "stops": self.kind.stops,
            "unseen": self.kind.unseen,
        }


def show(findings: Iterable[Finding], console: Console) -> None:
    """Print findings for people; what doesn't stop an `up` in another colour."""
    for finding in findings:
        colour = "red" if finding.kind.stops else "yellow"
        where = f"[bold]{escape(finding.where)}[/bold]"
        console.print(f"[{colour}]{finding.kind.code}[/{colour}] on {where}: {escape(finding.what)}")
        console.print(f"  why:  {escape(finding.kind.why)}")
        console.print(f"  next: {escape(finding.remedy)}")
        console.print(f"  page: docs/runbooks/{finding.kind.page}.md#{finding.kind.code}")


def tell(findings: Iterable[Finding], as_json: bool, well: str, **more: Any) -> int:
    """Print findings, or `well` where there are none, with `more` beside them for machines; the exit code."""
    found = list(findings)
    if as_json:
        print_json({"findings": [finding.report() for finding in found], **more})
    else:
        show(found, out)
        out.print(f"{len(found)} finding{'s' if len(found) > 1 else ''}." if found else well)
    return exit_code(found)


def exit_code(findings: Iterable[Finding]) -> int:
    """0 well, 1 findings, 2 where not everything could be looked at, whatever else was found."""
    return max((2 if finding.kind.unseen else 1 for finding in findings), default=0)
