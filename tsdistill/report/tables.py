"""Tables of a report for a terminal, as rich renderables."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tsdistill.alignment.report import AlignmentReport, GroupReport
from tsdistill.evaluation import Comparison
from tsdistill.pruning import PruningPlan
from tsdistill.report.curve import bins
from tsdistill.report.numbers import amount, counted, seconds, share

_BAR = 24

METRICS = {
    "top1": ("top-1 accuracy", " %"),
    "top5": ("top-5 accuracy", " %"),
    "agreement": ("top-1 agreement with {}", " %"),
    "kl": ("KL divergence from {}", " nats"),
}


def table(title: str, *columns: str) -> Table:
    """An empty table in the house style; a column whose name begins with ``<`` is flushed left."""
    made = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        header_style="bold",
        pad_edge=False,
    )
    for name in columns:
        left = name.startswith("<")
        made.add_column(name.removeprefix("<"), justify="left" if left else "right", overflow="fold")
    return made


def groups_table(report: AlignmentReport) -> Group:
    """A row a group: how much of the teacher it has learnt, what may go, and what that saves."""
    beside = ("<teacher group", "teacher nodes aligned") if report.has_teacher else ("with a twin",)
    kinds = ("dead", "weak", "redundant", "candidates", "params", "MACs")
    made = table("Groups", "<group", "nodes", *beside, *kinds)
    for group in report.groups:
        if report.has_teacher:
            cells = [group.teacher_group or "none", f"{group.teacher_aligned} of {group.teacher_size}"]
        else:
            cells = [str(int(group.aligned.sum()))]
        made.add_row(
            group.name,
            str(group.size),
            *cells,
            *(str(int(flags.sum())) for flags in (group.dead, group.weak, group.redundant, group.candidate)),
            amount(group.params_saved),
            amount(group.macs_saved),
        )
    together = (
        f"All candidates together: {sum(int(group.candidate.sum()) for group in report.groups)} of "
        f"{sum(group.size for group in report.groups)} nodes, "
        f"{share(report.params_saved, report.params)} of the parameters, "
        f"{share(report.macs_saved, report.macs)} of the MACs"
    )
    return Group(made, Text(together))


def nodes_table(report: AlignmentReport, group: GroupReport) -> Table:
    """A row a node of one group, the strongest first."""
    whose = "teacher" if report.has_teacher else "other"
    made = table(
        f"Nodes of {group.name}",
        "node",
        "strength",
        "fan-out norm",
        "standardised",
        f"best {whose} node",
        report.metric,
        "R²",
        "<is",
    )
    for k in (-group.strength).argsort(kind="stable").tolist():
        made.add_row(
            str(k),
            f"{group.strength[k]:.4g}",
            f"{group.fan_out_norm[k]:.4g}",
            f"{group.standardised_norm[k]:.4g}",
            str(group.best[k]) if group.best[k] >= 0 else "none",
            f"{group.similarity[k]:.3f}",
            f"{group.r2[k]:.3f}",
            words(group, k),
        )
    return made


def words(group: GroupReport, node: int) -> str:
    """What a node is, in words: aligned, dead, weak, redundant, candidate."""
    said = [
        name
        for name, flags in (
            ("aligned", group.aligned),
            ("dead", group.dead),
            ("weak", group.weak),
            ("redundant", group.redundant),
            ("candidate", group.candidate),
        )
        if flags[node]
    ]
    return ", ".join(said) or "unaligned"


def curve_table(report: AlignmentReport, group: GroupReport) -> Table:
    """The L-shaped curve of one group: nodes by how well they match, with their fan-out norms."""
    whose = "teacher" if report.has_teacher else "other"
    made = table(
        f"L-shaped curve of {group.name}",
        f"<{report.metric} with best {whose} node",
        "nodes",
        "median ‖v‖·σ",
        "largest ‖v‖·σ",
        "<median",
    )
    found = bins(group)
    top = max((item.median for item in found), default=0.0)
    for item in found:
        low = "below" if item is found[0] else f"{item.low:.2f} to"
        bar = "█" * round(_BAR * item.median / top) if top > 0 else ""
        numbers = (f"{item.median:.4f}", f"{item.largest:.4f}") if item.count else ("", "")
        made.add_row(f"{low} {item.high:.2f}", str(item.count), *numbers, bar)
    return made


def offers_table(offers: Mapping[str, Mapping[str, str]]) -> Table:
    """What plugins and built-ins register: a row a name."""
    made = table("Plugins", "<kind", "<name", "<from")
    for kind, names in offers.items():
        for position, (name, origin) in enumerate(names.items()):
            made.add_row("" if position else kind, name, origin)
        if not names:
            made.add_row(kind, "none", "")
    return made


def plan_table(plan: PruningPlan, put_back: Collection[str] = ()) -> Group:
    """A row a group that loses nodes: how many stay, and why the others go.

    Args:
        plan: the plan.
        put_back: groups that could not be cut after all and are whole.
    """
    made = table(f"Plan: {plan.budget}", "<group", "nodes", "stay", "<why the others go")
    for name, reasons in plan.reasons.items():
        group = plan.groups[name]
        if name in put_back:
            made.add_row(name, str(group.size), str(group.size), "put back: see the note")
        else:
            why = ", ".join(f"{count} {word}" for word, count in reasons.items())
            made.add_row(name, str(group.size), str(group.size - len(group.removed)), why)
    whole = sum(not group.removed for group in plan.groups.values())
    rest = (
        f"{counted(whole, 'other group')} stay{'s' * (whole == 1)} whole" if whole else "no group stays whole"
    )
    return Group(made, Text(rest))


def costs_table(plan: PruningPlan) -> Table:
    """What a plan makes of the network."""
    made = table("Size", "<", "before", "after", "kept")
    for name, before in plan.before.items():
        after = plan.after[name]
        made.add_row("MACs" if name == "macs" else name, f"{before:,}", f"{after:,}", share(after, before))
    return made


def comparison_table(compared: Comparison, kind: str = "") -> Group:
    """Models side by side; parts are of the first.

    Args:
        compared: what `tsdistill.compare` returned.
        kind: what samples the figures are from, such as "held-out samples".
    """
    made = table("Side by side", "<", *compared.names)
    rows: list[tuple[str, tuple[float, ...], Callable[[float], str]]] = [
        ("parameters", compared.params, amount),
        ("MACs", compared.macs, amount),
        ("latency, batch 1", compared.latency, seconds),
    ]
    for name, values, show in rows:
        first, *others = values
        made.add_row(name, show(first), *(f"{show(value)} ({share(value, first)})" for value in others))
    figures = dict.fromkeys(name for metrics in compared.metrics for name in metrics)
    for name in figures:
        label, unit = METRICS.get(name, (name, ""))
        label = label.format(compared.names[0])
        cells = [f"{metrics[name]:.4g}{unit}" if name in metrics else "" for metrics in compared.metrics]
        made.add_row(label, *cells)
    measured = f"Measured on {kind + ': ' if kind else ''}{compared.data}" if compared.data else ""
    return Group(made, Text(measured))
