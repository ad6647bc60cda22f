"""What a page is drawn from: the report (and a history) as JSON data, arrays packed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from tsdistill.alignment.matching.node_matching import NodeMatches
from tsdistill.alignment.report import AlignmentReport, GroupReport, further_metrics
from tsdistill.report.node_order import heat_order, strength_bins
from tsdistill.report.packed_arrays import packed, quantised
from tsdistill.tracing.graph import Term

if TYPE_CHECKING:
    from tsdistill.alignment.history import AlignmentHistory

FLAGS = ("dead", "weak", "saturated", "free")
LEAST = 0.5
"""Similarity from which the page knows each pair of nodes: the lower end of its slider."""

FINENESS = 10_000
"""Steps per unit of similarity in the page, which fit into 16 bits."""

FULLEST = 64
"""Student nodes listed per teacher node at most, which bounds the size of the page;
the counts fit into a byte."""

_FIGURES = {
    "standardised_norm": "f4",
    "strength": "f8",
    "strength_error": "f4",
    "sensitivity": "f4",
    "fan_out_norm": "f4",
    "r2": "f8",
    "leaving_r2": "f8",
    "on": "f4",
}


def payload(report: AlignmentReport, history: AlignmentHistory | None = None) -> dict[str, Any]:
    """Everything that the page's scripts read.

    Figures that thresholds are compared with travel as float64, so that the page counts exactly what Python
    counts; heat maps travel in 255 steps.
    """
    places = {group.name: position for position, group in enumerate(report.groups)}
    return {
        "own": not report.has_teacher,
        "metrics": node_metrics(report),
        "thresholds": {"aligned": report.thresholds.aligned, "redundant": report.thresholds.redundant},
        "params": report.params,
        "macs": report.macs,
        "sizes": _terms(report.graph.sizes, places),
        "operations": _terms(report.graph.operations, places),
        "groups": [_group(group, own=not report.has_teacher) for group in report.groups],
        "history": _history(history) if history is not None else None,
    }


def node_metrics(report: AlignmentReport) -> list[str]:
    """Metrics that compare nodes, the report's own first; that one also when nothing has a partner."""
    return [report.metric, *further_metrics(report)]


def _terms(terms: Iterable[Term], places: dict[str, int]) -> list[Any]:
    """Terms by position of their groups, those with the same factors summed."""
    total: dict[Any, int] = {}
    for term in terms:
        factors = tuple(
            (fixed, tuple((places[group], m) for group, m in parts)) for fixed, parts in term.factors
        )
        total[factors] = total.get(factors, 0) + term.coefficient
    return [[coefficient, factors] for factors, coefficient in total.items()]


def _group(group: GroupReport, *, own: bool) -> dict[str, Any]:
    flags = sum(getattr(group, name).astype(np.uint8) << bit for bit, name in enumerate(FLAGS))
    return {
        "name": group.name,
        "size": group.size,
        "readers": list(group.readers),
        "teacher": group.teacher_group,
        "teacherSize": group.teacher_size,
        "observed": group.observed,
        "samples": group.samples,
        "compared": group.compared,
        "scores": {name: float(np.nan_to_num(value)) for name, value in group.scores.items()},
        "figures": {name: packed(getattr(group, name), kind) for name, kind in _FIGURES.items()},
        "flags": packed(np.asarray(flags), "u1"),
        "teacherStrength": packed(group.teacher_strength, "f4"),
        "bins": [bin_.tolist() for bin_ in strength_bins(group.teacher_strength)],
        "matches": {
            name: _matches(matches, group.teacher_strength, own=own)
            for name, matches in group.matches.items()
        },
    }


def _matches(matches: NodeMatches, strength: np.ndarray, *, own: bool) -> dict[str, Any]:
    rows, columns = heat_order(matches, strength, own=own)
    table = matches.table.astype(np.float64)
    if own:
        np.fill_diagonal(table, np.nan)
    return {
        "best": packed(matches.best, "i4"),
        "similarity": packed(matches.similarity, "f8"),
        "teacherBest": packed(matches.teacher_best, "i4"),
        "teacherSimilarity": packed(matches.teacher_similarity, "f8"),
        "alike": _alike(table),
        "rows": packed(rows, "i4"),
        "columns": packed(columns, "i4"),
        "heat": quantised(table[np.ix_(rows, columns)]),
    }


def _alike(table: np.ndarray) -> dict[str, str]:
    """Per teacher node its largest similarities from 0.5 up, at most ``FULLEST``, in steps of 1/10000."""
    largest = -np.sort(-np.nan_to_num(table, nan=-1.0), axis=0)[:FULLEST]
    steps = np.floor(largest * FINENESS + 0.01).astype(np.int64)
    enough = steps >= LEAST * FINENESS
    return {
        "counts": packed(enough.sum(0), "u1"),
        "steps": packed(np.clip(steps.T[enough.T], 0, 65535), "u2"),
    }


def _history(history: AlignmentHistory) -> dict[str, Any]:
    """Mean best similarity of strong, middle and weak thirds, ``null`` for a third without nodes."""
    return {
        "names": [str(name) for name in history.names],
        "metric": history.metric,
        "all": _lines(history.thirds()),
        "groups": {group.name: _lines(group.thirds()) for group in history.groups},
    }


def _lines(thirds: np.ndarray) -> list[list[float | None]]:
    return [[None if np.isnan(value) else round(float(value), 6) for value in line] for line in thirds.T]
