"""A plan for people: what happens wave by wave, and what it comes to on each node."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from piclusterops.capacity import Budget, NodeBudget
from piclusterops.check_report import STYLES
from piclusterops.plan import Action, Plan, Step

_ACTIONS: Mapping[Action, tuple[str, str]] = {
    "install": ("green", "install"),
    "upgrade": ("yellow", "upgrade"),
    "unchanged": ("dim", "unchanged"),
    "remove": ("magenta", "remove"),
    "flux": ("cyan", "owned by Flux"),
    "blocked": ("bold red", "blocked"),
    "disable": ("magenta", "disable"),
}


def show(plan: Plan, console: Console) -> None:
    """Print everything, the verdict last."""
    for note in plan.notes:
        console.print(escape(note), highlight=False)
    if plan.steps:
        console.print(steps_table(plan))
    console.print(budget_table(plan.budget))
    for finding in plan.findings:
        style = STYLES[finding.severity]
        console.print(f"[{style}]{finding.severity}[/] {finding.host}: {escape(finding.found)}", highlight=False)
        console.print(f"    {escape(finding.why)}\n    {escape(finding.fix)}", highlight=False)
    for name in plan.unknown:
        text = f"{name}: what it has is not known: neither its kubelet nor its host answered"
        console.print(f"[{STYLES['error']}]error[/] {escape(text)}", highlight=False)
    style = STYLES["error"] if plan.is_refused else "green"
    console.print(f"[{style}]{escape(plan.summary)}[/]", highlight=False)


def steps_table(plan: Plan) -> Table:
    """A row for each release, in the order of the installation."""
    table = Table(title=f"Releases of {plan.cluster}", title_justify="left")
    for column in ("Wave", "Release", "Version", "What happens"):
        table.add_column(column, no_wrap=column in ("Wave", "Release"), overflow="fold")
    last = ""
    for step in plan.steps:
        style, word = _ACTIONS[step.action]
        wave = "hosts" if step.node else "-" if step.wave is None else str(step.wave)
        if last and wave != last:
            table.add_section()
        label, last = "" if wave == last else wave, wave
        joint = "" if not step.why else " " if step.why.startswith(("by ", "on ")) else ": "
        table.add_row(label, step.release, escape(_version(step)), f"[{style}]{word}[/]{joint}{escape(step.why)}")
    return table


def _version(step: Step) -> str:
    if step.installed and step.version and step.installed != step.version:
        return f"{step.installed} -> {step.version}"
    return step.version or step.installed


def budget_table(budget: Budget) -> Table:
    """A row for each node: what is asked of it, of what it has."""
    title = "Nodes (what they have is estimated from their hosts)" if budget.is_estimate else "Nodes"
    table = Table(title=title, title_justify="left")
    table.add_column("Node", no_wrap=True)
    for column in ("Memory, MiB", "Limits, MiB", "CPU", "Volumes"):
        table.add_column(column, justify="right", no_wrap=True)
    for node in budget.nodes:
        table.add_row(node.name, *_cells(node))
    return table


def _cells(node: NodeBudget) -> list[str]:
    used, room = node.used, node.room
    memory, cpu, free = (room.memory_mib, room.cpu_m, room.free_mib) if room else (None, None, None)
    of_memory, of_cpu = ("?" if number is None else str(number) for number in (memory, cpu))
    of_disk = "?" if free is None else f"{free / 1024:.0f}"
    return [
        _over(f"{used.memory_mib}/{of_memory}{_percent(used.memory_mib, memory)}", used.memory_mib, memory, "red"),
        _over(
            f"{used.memory_limit_mib}{_percent(used.memory_limit_mib, memory)}",
            used.memory_limit_mib,
            memory,
            "yellow",
        ),
        _over(f"{used.cpu_m}/{of_cpu}m", used.cpu_m, cpu, "red"),
        _over(f"{used.disk_mib / 1024:.0f}/{of_disk} GiB", used.disk_mib, free, "yellow"),
    ]


def _percent(used: int, there: int | None) -> str:
    return f" {100 * used / there:3.0f}%" if there else ""


def _over(text: str, used: int, there: int | None, style: str) -> str:
    return f"[{style}]{text}[/]" if there is not None and used > there else text
