"""Lines of a report: what was looked at, with what."""

from __future__ import annotations

from collections.abc import Iterable

from tsdistill.alignment.report import AlignmentReport
from tsdistill.report.numbers import amount, counted, seconds

PHASES = ("tracing", "matching", "forward", "moments", "covariances", "strength", "description")
"""What takes time, in the order in which people think of it."""

_SHORT = 0.0005


def heading(report: AlignmentReport, notes: Iterable[str] = ()) -> list[str]:
    """The model, its size, the data, and everything the user is to be told.

    Args:
        report: the report.
        notes: further notes, such as those of loading.
    """
    beside = (report.teacher_arch or "the given teacher") if report.has_teacher else "itself"
    lines = [
        f"model   {report.arch or 'the given model'}: {amount(report.params)} parameters, "
        f"{amount(report.macs)} MACs, {counted(len(report.groups), 'group')} of nodes",
        f"teacher {beside}",
        f"data    {report.data}",
    ]
    if report.input.partition("(")[2] not in report.data:
        lines.append(f"input   {report.input}")
    frozen = report.graph.frozen
    if frozen:
        lines.append(
            f"whole   {counted(len(frozen), 'width')} cannot be cut: {causes(item.cause for item in frozen)}"
        )
    lines += [f"note    {note}" for note in dict.fromkeys((*notes, *report.notes))]
    return lines


def timing(report: AlignmentReport) -> str:
    """Where the time went, by phase."""
    known = {phase: place for place, phase in enumerate(PHASES)}
    ordered = sorted(report.seconds.items(), key=lambda item: known.get(item[0], len(known)))
    phases = ", ".join(f"{phase} {seconds(value)}" for phase, value in ordered if value >= _SHORT)
    return f"time    {phases or 'next to nothing'}; {seconds(sum(report.seconds.values()))} in all"


def causes(found: Iterable[str], most: int = 4) -> str:
    """The most frequent of ``found``, with counts: ``"raw input (2), reaches the output (1)"``."""
    counts: dict[str, int] = {}
    for cause in found:
        counts[cause] = counts.get(cause, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    said = [f"{cause} ({count})" for cause, count in ordered[:most]]
    return ", ".join(said) + (f" and {len(ordered) - most} other causes" if len(ordered) > most else "")
