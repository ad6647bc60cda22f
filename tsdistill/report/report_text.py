"""Lines of a report: model, teacher, data, strength and times."""

from __future__ import annotations

from collections.abc import Iterable

from tsdistill.alignment.report import AlignmentReport
from tsdistill.printable import printable
from tsdistill.report.numbers import amount, counted, seconds
from tsdistill.statistics.sensitivity_passes import StrengthEstimate

PHASES = ("tracing", "matching", "forward", "moments", "covariances", "strength", "description")
"""The timed phases of an analysis, in the order of the output."""

_SHORT = 0.0005
"""Seconds below which a phase is not listed: half a millisecond rounds to 0 ms."""


def header_lines(report: AlignmentReport, notes: Iterable[str] = ()) -> list[str]:
    """The lines above the tables: model, teacher, data, strength, widths that are not prunable, and notes.

    Args:
        report: the report.
        notes: further notes, such as those of loading.
    """
    teacher = named(report.teacher_name, report.teacher_arch, "the given teacher")
    lines = [
        f"model   {named(report.name, report.arch, 'the given model')}: {amount(report.params)} parameters, "
        f"{amount(report.macs)} MACs, {counted(len(report.groups), 'group')} of nodes",
        f"teacher {teacher if report.has_teacher else 'itself'}",
        f"data    {report.data}",
    ]
    if report.input.partition("(")[2] not in report.data:
        lines.append(f"input   {report.input}")
    lines.append(f"strength {strength_words(report)}")
    frozen = report.graph.frozen
    if frozen:
        lines.append(
            f"not prunable: {counted(len(frozen), 'layer width')}: {causes(item.cause for item in frozen)}"
        )
    lines += [f"note    {note}" for note in dict.fromkeys((*notes, *report.notes))]
    return lines


def named(name: str | None, arch: str | None, otherwise: str) -> str:
    """A model by what it was loaded from and its architecture, printable: ``"small.pt (timm:resnet18)"``.

    Args:
        name: the file or specification; ``None`` for a module.
        arch: the architecture's name, if known.
        otherwise: text for a model that has neither.
    """
    known = list(dict.fromkeys(printable(part) for part in (name, arch) if part))
    return f"{known[0]} ({known[1]})" if len(known) > 1 else known[0] if known else otherwise


def strength_words(report: AlignmentReport) -> str:
    """The standard error of strength, its estimator, and its cost in passes."""
    own, other = report.strength_estimate, report.teacher_strength_estimate
    own_text = f"{certainty(own)} ({strength_cost(own)})"
    return (
        own_text
        if other is None
        else f"{own_text}; the teacher's: {certainty(other)} ({strength_cost(other)})"
    )


def certainty(estimate: StrengthEstimate) -> str:
    """The standard error of strength: ``"standard error up to 4.6 % of the group's largest"``."""
    return f"standard error up to {100 * estimate.error:.2g} % of the group's largest"


def strength_cost(estimate: StrengthEstimate) -> str:
    """The estimator of strength and its number of forward and backward passes of a sample."""
    figures = "" if estimate.outputs is None else f"{estimate.outputs:,} "
    outputs = f"{figures}output{'' if estimate.outputs == 1 else 's'}"
    method = f"derivatives of all {outputs}" if estimate.exact else f"random projections of {outputs}"
    return f"{method}: {estimate.samples:,} samples forward, {estimate.derivatives:,} backward"


def timing_line(report: AlignmentReport) -> str:
    """Seconds by phase, and their sum."""
    known = {phase: place for place, phase in enumerate(PHASES)}
    ordered = sorted(report.seconds.items(), key=lambda item: known.get(item[0], len(known)))
    phases = ", ".join(f"{phase} {seconds(value)}" for phase, value in ordered if value >= _SHORT)
    return f"time    {phases or 'next to nothing'}; {seconds(sum(report.seconds.values()))} in all"


def causes(reasons: Iterable[str], most: int = 4) -> str:
    """The most frequent of ``reasons``, with counts: ``"raw input (2), reaches the output (1)"``."""
    counts: dict[str, int] = {}
    for cause in reasons:
        counts[cause] = counts.get(cause, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    counted_causes = [f"{cause} ({count})" for cause, count in ordered[:most]]
    return ", ".join(counted_causes) + (
        f" and {len(ordered) - most} other causes" if len(ordered) > most else ""
    )
