"""Tables of a report for a terminal, as rich renderables."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tsdistill.alignment.matching.node_matching import NodeMatches
from tsdistill.alignment.report import AlignmentReport, GroupReport
from tsdistill.plugins import PluginSummary
from tsdistill.printable import printable
from tsdistill.pruning import PruningPlan
from tsdistill.report.curve import bins
from tsdistill.report.numbers import amount, counted, share
from tsdistill.report.table_layout import SOFT, breakable, table

_BAR = 24
"""Characters of the longest bar of a curve's table."""

_MOST_ROWS = 40
"""Names of a kind that have a row each in the list of plugins; more (operators) have one for each module."""

_KINDS = {"dead": "dead", "weak": "weak", "redundant": f"redun{SOFT}dant", "saturated": f"satu{SOFT}rated"}


def groups_table(report: AlignmentReport) -> Group:
    """What the nodes of every group are, and with a teacher what of its groups they have learnt."""
    return Group(*([teacher_table(report)] if report.has_teacher else []), candidates_table(report))


def teacher_table(report: AlignmentReport) -> Group:
    """A row a group: its partner in the teacher, how much of it is learnt, and what every metric says."""
    asked = dict.fromkeys((report.metric, *report.metrics))
    nodes = [name for name in asked if any(name in group.matches for group in report.groups)]
    whole = [name for name in asked if any(name in group.scores for group in report.groups)]
    maps = len({group.compared for group in report.groups if group.compared}) > 1
    method = f", paired {report.matching.how}" if report.matching else ""
    rows = table(
        f"Groups beside the teacher's{method}",
        "<group",
        "nodes",
        "<teacher\ngroup",
        "teacher\nnodes\naligned",
        *map(breakable, nodes),
        "one to\none",
        *map(breakable, whole),
        *(["<compared\nat"] if maps else []),
        close=True,
    )
    for group in report.groups:
        if group.teacher_group is None:
            rows.add_row(group.name, str(group.size), "none")
            continue
        rows.add_row(
            group.name,
            str(group.size),
            group.teacher_group,
            f"{group.teacher_aligned} of {group.teacher_size}",
            *(
                _mean(group.matches[name].teacher_similarity) if name in group.matches else ""
                for name in nodes
            ),
            _mean(_paired(group.matches.get(report.metric))),
            *(_score(group.scores.get(name, math.nan)) for name in whole),
            *([_place(group.compared)] if maps else []),
        )
    return Group(rows, Text(), Text(_legend(report, nodes, whole)), Text())


def _legend(report: AlignmentReport, nodes: Sequence[str], whole: Sequence[str]) -> str:
    sentences = [
        f"Aligned: {report.metric} of {report.thresholds.aligned:g} or more with a student node.",
        f"{', '.join(nodes)}: mean over the teacher's nodes of the best that each gets.",
        f"One to one: mean {report.metric} when no node is matched twice.",
    ]
    return " ".join([*sentences, *([f"{', '.join(whole)}: of the groups as a whole."] if whole else [])])


def of(report: AlignmentReport) -> str:
    """``" of small.pt"``: whose nodes a table is about, where that has a name."""
    name = report.name or report.arch
    return f" of {printable(name)}" if name else ""


def candidates_table(report: AlignmentReport) -> Group:
    """A row a group: how many nodes are dead, weak, redundant, saturated, may go, and what that saves."""
    rows = table(
        f"{'What may go' if report.has_teacher else 'Groups'}{of(report)}",
        "<group",
        "nodes",
        *([] if report.has_teacher else ["with\na twin"]),
        *_KINDS.values(),
        f"candi{SOFT}dates",
        "params",
        "MACs",
        close=True,
    )
    for group in report.groups:
        rows.add_row(
            group.name,
            str(group.size),
            *([] if report.has_teacher else [str(int(group.aligned.sum()))]),
            *(str(int(getattr(group, kind).sum())) for kind in _KINDS),
            str(int(group.candidate.sum())),
            amount(group.params_saved),
            amount(group.macs_saved),
        )
    together = (
        f"All candidates together: {sum(int(group.candidate.sum()) for group in report.groups)} of "
        f"{sum(group.size for group in report.groups)} nodes, "
        f"{share(report.params_saved, report.params)} of the parameters, "
        f"{share(report.macs_saved, report.macs)} of the MACs"
    )
    return Group(rows, Text(), Text(together))


def _place(compared: str) -> str:
    """Where positions were brought together, in short: ``"7x7"``, ``"7x7 pooled"``, ``"vectors"``."""
    grid = compared.removesuffix(" positions")
    return f"{grid.removeprefix('pooled to ')} pooled" if grid.startswith("pooled to ") else grid


def _mean(values: np.ndarray) -> str:
    return f"{values.mean():.3f}" if len(values) else ""


def _score(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"


def _paired(matches: NodeMatches | None) -> np.ndarray:
    """Similarities of the pairs of the one-to-one matching."""
    if matches is None:
        return np.zeros(0)
    rows = np.flatnonzero(matches.one_to_one >= 0)
    return matches.table[rows, matches.one_to_one[rows]]


def nodes_table(report: AlignmentReport, group: GroupReport) -> Table:
    """A row a node of one group, the strongest first, with its best match by every metric."""
    whose = "teacher" if report.has_teacher else "other"
    others = [name for name in group.matches if name != report.metric]
    paired = group.matches.get(report.metric) if report.has_teacher else None
    rows = table(
        f"Nodes of {group.name}",
        "node",
        f"stren{SOFT}gth",
        "±",
        "fan-out\n‖v‖",
        "‖v‖·σ",
        f"best\n{whose}\nnode",
        *(["one to\none"] if paired else []),
        *map(breakable, (report.metric, *others)),
        "R²",
        "<is",
        close=True,
    )
    for k in (-group.strength).argsort(kind="stable").tolist():
        rows.add_row(
            str(k),
            f"{group.strength[k]:.3g}",
            f"{group.strength_error[k]:.1g}",
            f"{group.fan_out_norm[k]:.3g}",
            f"{group.standardised_norm[k]:.3g}",
            str(group.best[k]) if group.best[k] >= 0 else "none",
            *([str(paired.one_to_one[k]) if paired.one_to_one[k] >= 0 else ""] if paired else []),
            f"{group.similarity[k]:.3f}",
            *(f"{group.matches[name].similarity[k]:.3f}" for name in others),
            f"{group.r2[k]:.3f}",
            words(group, k),
        )
    return rows


def words(group: GroupReport, node: int) -> str:
    """What a node is, in words: aligned, dead, weak, redundant, saturated, candidate."""
    states = [
        name
        for name, flags in (
            ("aligned", group.aligned),
            ("dead", group.dead),
            ("weak", group.weak),
            ("redundant", group.redundant),
            ("saturated", group.saturated),
            ("candidate", group.candidate),
        )
        if flags[node]
    ]
    return ", ".join(states) or "unaligned"


def curve_table(report: AlignmentReport, group: GroupReport) -> Table:
    """The L-shaped curve of one group: nodes by how well they match, with their fan-out norms."""
    whose = "teacher" if report.has_teacher else "other"
    rows = table(
        f"L-shaped curve of {group.name}",
        f"<{report.metric} with\nbest {whose} node",
        "nodes",
        "median\n‖v‖·σ",
        "largest\n‖v‖·σ",
        "<median",
    )
    intervals = bins(group)
    top = max((item.median for item in intervals), default=0.0)
    for item in intervals:
        low = "below" if item is intervals[0] else f"{item.low:.2f} to"
        bar = "█" * round(_BAR * item.median / top) if top > 0 else ""
        numbers = (f"{item.median:.4f}", f"{item.largest:.4f}") if item.count else ("", "")
        rows.add_row(f"{low} {item.high:.2f}", str(item.count), *numbers, bar)
    return rows


def offers_table(
    offers: Mapping[str, Mapping[str, str]], helps: Mapping[str, Mapping[str, str]] | None = None
) -> Table:
    """What plugins and built-ins register: a row a name, with what ``helps`` says of it.

    Args:
        offers: kind -> name -> the module that it comes from.
        helps: kind -> name -> a sentence.
    """
    rows = table("Plugins", "<kind", "<name", "<from", "<what")
    for kind, names in offers.items():
        listed = {name: (origin, (helps or {}).get(kind, {}).get(name, "")) for name, origin in names.items()}
        if len(names) > _MOST_ROWS:
            listed = {}
            for origin in dict.fromkeys(names.values()):
                alike = [name for name, place in names.items() if place == origin]
                listed[f"{len(alike)} in {origin.rpartition('.')[2]}"] = (origin, ", ".join(alike))
        for position, (name, (origin, text)) in enumerate((listed or {"none": ("", "")}).items()):
            source = "tsdistill" if origin.startswith("tsdistill.") else origin
            rows.add_row("" if position else kind, name, source, text)
    return rows


def plugins_table(plugins: Sequence[PluginSummary]) -> Table:
    """A row a plugin: what it registered, or why it registered nothing."""
    rows = table("From plugins", "<plugin", "<gives", "<problem")
    for plugin in plugins:
        gives = [f"{kind} {name}" for kind, names in plugin.names.items() for name in names]
        rows.add_row(plugin.title, ", ".join(gives) or "nothing", plugin.problem or "")
    return rows


_MANY_ALIKE = 3
"""Groups that lose the same from which on they are one row of a plan."""

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
"""A number of a layer in the name of a group."""


def name_pattern(group: str) -> str:
    """The name of a group without the number of its layer: ``layers.*.mlp.up``."""
    return _NUMBER.sub("*", group)


def plan_table(plan: PruningPlan, put_back: Collection[str] = ()) -> Group:
    """A row a group that loses nodes: how many stay, and why the others go; branches that leave.

    Groups whose names differ in numbers only, and that lose the same, are one row: ``layers.*.mlp.up (30)``.

    Args:
        plan: the plan.
        put_back: groups that could not be cut after all.
    """
    branches = [Text(f"branches that leave: {', '.join(plan.branches)}")] if plan.branches else []
    if branches and not plan.groups:
        return Group(*branches)
    rows = table(f"Plan: {plan.budget}", "<group", "nodes", "stay", "<why the others go")
    alike: dict[tuple[str, int, int, str], list[str]] = {}
    for name, reasons in plan.reasons.items():
        group = plan.groups[name]
        stay, why = group.size - len(group.removed), ", ".join(f"{n} {word}" for word, n in reasons.items())
        if name in put_back:
            stay, why = group.size, "put back: see the note"
        alike.setdefault((name_pattern(name), group.size, stay, why), []).append(name)
    for (pattern, size, stay, why), names in alike.items():
        named = [f"{pattern} ({len(names)})"] if len(names) >= _MANY_ALIKE else names
        for name in named:
            rows.add_row(name, str(size), str(stay), why)
    whole = sum(not group.removed for group in plan.groups.values())
    rest = f"{counted(whole, 'other group')} not pruned" if whole else "every group is pruned"
    return Group(rows, Text(rest), *branches)


def costs_table(plan: PruningPlan) -> Table:
    """What a plan makes of the network."""
    rows = table("Size", "<", "before", "after", "kept")
    for name, before in plan.before.items():
        after = plan.after[name]
        rows.add_row("MACs" if name == "macs" else name, f"{before:,}", f"{after:,}", share(after, before))
    return rows
