"""Findings for people: one table, worst first, each with its fix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from piclusterops.check import Finding, Result, Severity

STYLES: dict[Severity, str] = {"error": "bold red", "warning": "yellow", "info": "dim"}


def show(result: Result, console: Console) -> None:
    """Print the table and the summary line."""
    table = Table(show_lines=True)
    for column in ("", "Host", "Found", "Next"):
        table.add_column(column, overflow="fold", ratio=4 if column in ("Found", "Next") else None)
    for finding, hosts in together(result.findings):
        style = STYLES[finding.severity]
        why = f"\n[dim]{escape(finding.why)}[/]" if finding.why else ""
        table.add_row(
            f"[{style}]{finding.severity}[/]",
            "\n".join(hosts),
            f"[bold]{finding.topic}:[/] {escape(finding.found)}{why}",
            escape(finding.fix),
        )
    console.print(table)
    console.print(f"[{STYLES['error'] if result.has_errors else 'green'}]{escape(result.summary)}[/]", highlight=False)


def together(findings: Iterable[Finding]) -> Sequence[tuple[Finding, list[str]]]:
    """Findings that say the same of several hosts as one, in the order of the first."""
    rows: dict[tuple[str, ...], tuple[Finding, list[str]]] = {}
    for finding in findings:
        key = (finding.severity, finding.topic, finding.found, finding.why, finding.fix)
        rows.setdefault(key, (finding, []))[1].append(finding.host)
    return list(rows.values())
