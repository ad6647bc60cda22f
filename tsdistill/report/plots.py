"""``save_plots``: every figure of a report into one folder, for papers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tsdistill.alignment.report import AlignmentReport, GroupReport
from tsdistill.files import filled_folder
from tsdistill.report.canvas import save
from tsdistill.report.curve_figure import l_curve_figure
from tsdistill.report.network_figures import history_figure, overview_figure
from tsdistill.report.pair_figures import counts_figure, heat_figure, matched_groups, weak_to_strong_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tsdistill.alignment.history import AlignmentHistory

PANELS = 24
"""Panels in one file, six rows of four: more do not fit on a page; further groups go to further files."""

FILES = tuple(
    f"{name}.{suffix}"
    for name in (
        "overview",
        "over_training",
        *(
            f"{kind}{part}"
            for kind in ("l_curve", "heat_map", "counts", "weak_to_strong")
            for part in ("", "-[0-9]*")
        ),
    )
    for suffix in ("png", "svg")
)
"""What `save_plots` may write with its own formats, as patterns of ``fnmatch``."""


def save_plots(
    report: AlignmentReport,
    directory: str | Path,
    formats: Sequence[str] = ("png", "svg"),
    history: AlignmentHistory | None = None,
) -> list[Path]:
    """Draw every figure of a report into a folder, which is made when it is missing.

    ``overview``, ``l_curve``, ``heat_map``, ``counts`` and ``weak_to_strong``; figures with a panel a group
    have at most 24 of them and go on in ``l_curve-2`` and so on. ``over_training`` with a history. A new
    folder is removed again when no file can be written.

    Args:
        report: what `tsdistill.analyze` returned.
        directory: the folder.
        formats: suffixes that matplotlib knows.
        history: how the alignment grew over checkpoints.

    Returns:
        the files that were written.

    Raises:
        TsdistillError: the folder cannot be made, or a file cannot be written.
    """
    written = []
    with filled_folder(directory) as folder:
        for name, draw in _figures(report, history):
            figure = draw()
            written += [save(figure, folder / f"{name}.{suffix.removeprefix('.')}") for suffix in formats]
    return written


def _figures(
    report: AlignmentReport, history: AlignmentHistory | None
) -> Iterator[tuple[str, Callable[[], Figure]]]:
    yield "overview", partial(overview_figure, report)
    matched = matched_groups(report)
    kinds: tuple[tuple[str, Callable[..., Figure], Sequence[GroupReport]], ...] = (
        ("l_curve", l_curve_figure, report.groups),
        ("heat_map", heat_figure, matched),
        ("counts", counts_figure, matched),
        ("weak_to_strong", weak_to_strong_figure, matched),
    )
    for name, draw, groups in kinds:
        for start in range(0, len(groups), PANELS):
            names = [group.name for group in groups[start : start + PANELS]]
            number = f"-{start // PANELS + 1}" if len(groups) > PANELS else ""
            yield f"{name}{number}", partial(draw, report, names)
    if history is not None:
        yield "over_training", partial(history_figure, history)
