"""A report as a table with a row a node, for pandas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tsdistill.errors import TsdistillError

if TYPE_CHECKING:
    from pandas import DataFrame

    from tsdistill.alignment.report import AlignmentReport, GroupReport

FIGURES = (
    "strength",
    "strength_error",
    "standardised_norm",
    "fan_out_norm",
    "sensitivity",
    "r2",
    "leaving_r2",
    "on",
)
FLAGS = ("aligned", "dead", "weak", "redundant", "saturated", "free", "candidate")


def rows(report: AlignmentReport) -> list[dict[str, Any]]:
    """One dict a node, groups in forward order: plain Python values (see `to_dataframe` for the columns)."""
    further = further_metrics(report)
    return [row for group in report.groups for row in _rows(group, further)]


def to_dataframe(report: AlignmentReport) -> DataFrame:
    """The report as a pandas table, one row a node.

    Columns: ``group``, ``node``; the figures ``strength``, ``strength_error`` (its standard error),
    ``standardised_norm``, ``fan_out_norm``, ``sensitivity``, ``r2``, ``leaving_r2``, ``on``;
    ``teacher_group``, ``best`` (node of the teacher, missing for none), ``similarity`` (missing without a
    match), ``similarity_<metric>`` for every further metric that compares nodes; the flags ``aligned``,
    ``dead``, ``weak``, ``redundant``, ``saturated``, ``free``,
    ``candidate``.

    Raises:
        TsdistillError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise TsdistillError("a table needs pandas, which is not installed; pip install pandas") from error
    further = [f"similarity_{name}" for name in further_metrics(report)]
    names = ["group", "node", *FIGURES, "teacher_group", "best", "similarity", *further, *FLAGS]
    table = pd.DataFrame(rows(report), columns=names)
    return table.astype({"best": "Int64", **dict.fromkeys(("similarity", *further), "float64")})


def further_metrics(report: AlignmentReport) -> list[str]:
    """Metrics that compare nodes besides the report's own, in the order asked for."""
    there = {name for group in report.groups for name in group.matches}
    return [name for name in report.metrics if name in there and name != report.metric]


def _rows(group: GroupReport, further: list[str]) -> list[dict[str, Any]]:
    best = group.best.tolist()
    columns: dict[str, list[Any]] = {
        **{name: getattr(group, name).tolist() for name in FIGURES},
        "teacher_group": [group.teacher_group] * group.size,
        "best": [node if node >= 0 else None for node in best],
        "similarity": _matched(group.best, group.similarity),
    }
    for name in further:
        matches = group.matches.get(name)
        columns[f"similarity_{name}"] = (
            _matched(matches.best, matches.similarity) if matches else [None] * group.size
        )
    columns.update({name: getattr(group, name).tolist() for name in FLAGS})
    return [
        {"group": group.name, "node": node, **{name: column[node] for name, column in columns.items()}}
        for node in range(group.size)
    ]


def _matched(best: np.ndarray, similarity: np.ndarray) -> list[float | None]:
    return [value if node >= 0 else None for node, value in zip(best, similarity.tolist(), strict=True)]
