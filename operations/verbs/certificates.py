"""The verb `certificates`: what ends when, and who renews it.

Owns its table, its text for Prometheus, and exit codes: 0 nothing is due, 1 findings, 2 could not look everywhere.
"""

import sys
from collections.abc import Iterator, Mapping
from typing import Annotated

import typer
from rich.table import Column, Table

from components.settings import MANAGEMENT, pem
from operations import certificates as ends
from operations import decryption
from operations.certificates import Certificate, Expiry, days_left
from operations.console import JsonOption, StackOption, out, table
from operations.findings import exit_code, tell
from operations.stack import Stack, UsageError

app = typer.Typer()

RENEWED_BY: dict[ends.Renewal, str] = {
    "up": "operations up",
    "rotation": "up --renew relay-root",
    "configuration": "whoever gave it to gloo-mesh:pki",
    "issuer": "whoever makes the Secret",
    "relay": "the relay",
}
PrometheusOption = Annotated[bool, typer.Option("--prometheus", help="For node_exporter's textfile collector.")]


@app.command(
    epilog="Examples: python -m operations certificates --stack prod; "
    "python -m operations certificates --stack prod --prometheus > gloo-mesh.prom"
)
def certificates(stack: StackOption, as_json: JsonOption = False, prometheus: PrometheusOption = False) -> None:
    """Show when each certificate and the licence end, and who renews them. Exit 1 when one is due."""
    if as_json and prometheus:
        raise UsageError("--json and --prometheus are two formats; give one of them.")
    of = Stack.find(stack)
    found = ends.look(of.name, decryption.opened(of))
    if prometheus:
        sys.stdout.writelines(f"{line}\n" for line in metrics(of.name, found))
        raise typer.Exit(exit_code(found.findings))
    if not as_json:
        out.print(_table(found))
    raise typer.Exit(
        tell(
            found.findings,
            as_json,
            "Nothing is due.",
            certificates=[certificate.report(found.at) for certificate in found.certificates],
            licence=found.licence.report(found.at) if found.licence else None,
        )
    )


def metrics(stack: str, found: Expiry) -> Iterator[str]:
    """Lines in Prometheus's text format; times are seconds since 1970."""
    # Names of stacks and clusters hold nothing that would have to be escaped.
    fleet = f'stack="{stack}"'
    answered = {f'{fleet},cluster="{cluster}"': float(answered) for cluster, answered in found.answered.items()}
    yield from _metric("cluster_answered", "Whether a cluster could be looked at.", answered)
    labels = {c: f'{fleet},cluster="{c.cluster}",certificate="{c.name}"' for c in found.certificates}
    end = {labels[certificate]: certificate.end.timestamp() for certificate in found.certificates}
    yield from _metric("certificate_not_after_seconds", "When a certificate ends.", end)
    opens = {labels[certificate]: certificate.opens.timestamp() for certificate in found.certificates}
    yield from _metric("certificate_renewal_opens_seconds", "From when on a certificate is to be renewed.", opens)
    if found.licence and found.licence.end:
        licence = {fleet: found.licence.end.timestamp()}
        yield from _metric("licence_not_after_seconds", "When the licence ends.", licence)


def _metric(name: str, told: str, values: Mapping[str, float]) -> Iterator[str]:
    yield f"# HELP gloo_mesh_{name} {told}"
    yield f"# TYPE gloo_mesh_{name} gauge"
    for labels, value in values.items():
        yield f"gloo_mesh_{name}{{{labels}}} {value:.0f}"


def _table(found: Expiry) -> Table:
    days = Column("days left", justify="right")
    shown = table(days, "ends", "what", "cluster", "renewed by", "from", "")
    rows = [
        (
            certificate.end,
            certificate.opens,
            (certificate.name, certificate.cluster, RENEWED_BY[certificate.renewal], f"{certificate.opens:%Y-%m-%d}"),
            _note(certificate),
        )
        for certificate in found.certificates
    ]
    if found.licence and found.licence.end:
        opens = found.licence.end - pem.SOON
        row = ("licence", MANAGEMENT, "the vendor", f"{opens:%Y-%m-%d}")
        rows.append((found.licence.end, opens, row, ""))
    for end, opens, row, note in sorted(rows, key=lambda row: row[0]):
        style = "red" if end <= found.at else "yellow" if opens <= found.at else ""
        shown.add_row(str(days_left(end, found.at)), f"{end:%Y-%m-%d}", *row, note, style=style)
    if found.licence and not found.licence.end:
        shown.add_row("", "", "licence", MANAGEMENT, "the vendor", "", "no date in it")
    return shown


def _note(certificate: Certificate) -> str:
    if not certificate.live:
        return "by the record; its cluster doesn't answer"
    return "" if certificate.recorded is not False else "not the one in the fleet's record"
