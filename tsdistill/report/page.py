"""One HTML file that shows a report: self-contained, it asks the network for nothing."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from tsdistill.alignment.report import AlignmentReport
from tsdistill.files import atomic_file
from tsdistill.printable import html_text
from tsdistill.report.cut_table import page_section
from tsdistill.report.packed_arrays import compressed, json_text
from tsdistill.report.page_text import HISTORY, words
from tsdistill.report.payload import payload

if TYPE_CHECKING:
    from tsdistill.alignment.history import AlignmentHistory

SCRIPTS = ("data", "counting", "overview", "drawing", "plots", "history", "main")


def page(report: AlignmentReport, history: AlignmentHistory | None = None) -> str:
    """The report as one HTML page.

    The thresholds can be moved in the page: it counts candidates, and evaluates the node graph's cost terms,
    exactly as `tsdistill.analyze` does. Every text from outside is escaped.

    Args:
        report: what `tsdistill.analyze` returned.
        history: how the alignment grew over checkpoints; shown in a section of its own.
    """
    texts = words(report)
    section = (
        Template(_asset("history.html")).substitute(history_caption=html_text(HISTORY)) if history else ""
    )
    return Template(_asset("page.html")).substitute(
        texts,
        style=_asset("page.css"),
        script="\n".join(_asset(f"{name}.js") for name in SCRIPTS),
        history=section,
        cuts=page_section(report.cuts) if report.cuts else "",
        data=json_text(payload(report, history)),
        plotly=_plotly(),
    )


def save_page(report: AlignmentReport, path: str | Path, history: AlignmentHistory | None = None) -> Path:
    """Write `page` to ``path`` in one step (see `tsdistill.files.atomic_file`).

    Args:
        report: the result of `tsdistill.analyze`.
        path: the HTML file to write.
        history: alignment over checkpoints; shown in a section of its own.

    Raises:
        TsdistillError: the file cannot be written.
    """
    with atomic_file(path) as temporary:
        temporary.write_text(page(report, history), encoding="utf-8")
    return Path(path)


def _asset(name: str) -> str:
    return (resources.files("tsdistill.report") / "page_assets" / name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    """The drawing library, as the page unpacks it."""
    from plotly.offline import get_plotlyjs

    return compressed(get_plotlyjs())
