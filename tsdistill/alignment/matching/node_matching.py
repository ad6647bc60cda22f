"""From a table of similarities to matches: the best on each side, one to one, and counts at thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

LEVELS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
"""Similarities at which matches are counted, from "half alike" to the threshold region of aligned nodes,
in steps of 0.05."""


@dataclass(frozen=True, eq=False)
class NodeMatches:
    """One metric's table of a pair of groups, and the matches it gives.

    Attributes:
        metric: name of the metric.
        table: float32 ``[S, T]``, the metric's value for every student node (rows) and teacher node
            (columns); 0 where the metric is not defined. Without a teacher it is ``[S, S]`` with the node
            itself on the diagonal, which no match counts.
        best: int64 ``[S]``, the most similar teacher node of each student node; -1 where there is none.
        similarity: float64 ``[S]``, its value (0 for none).
        teacher_best: int64 ``[T]``, the most similar student node of each teacher node; -1 for none.
        teacher_similarity: float64 ``[T]``, its value (0 for none).
        one_to_one: int64 ``[S]``, the teacher node that the optimal one-to-one matching (the largest sum of
            similarities) gives each student node; -1 for student nodes left over and without a teacher.
        counts: int64 ``[len(LEVELS), T]``: student nodes at or above each of ``LEVELS`` per teacher node.
    """

    metric: str
    table: np.ndarray
    best: np.ndarray
    similarity: np.ndarray
    teacher_best: np.ndarray
    teacher_similarity: np.ndarray
    one_to_one: np.ndarray
    counts: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data, without the table."""
        return {
            "best": self.best.tolist(),
            "similarity": figures(self.similarity),
            "teacher_best": self.teacher_best.tolist(),
            "teacher_similarity": figures(self.teacher_similarity),
            "one_to_one": self.one_to_one.tolist(),
            "counts": {str(level): row.tolist() for level, row in zip(LEVELS, self.counts, strict=True)},
        }


def figures(values: np.ndarray) -> list[float]:
    """Floats as JSON has them: seven digits, no NaN."""
    return [float(f"{value:.7g}") for value in np.nan_to_num(values)]


def match_nodes(metric: str, table: np.ndarray, *, own: bool = False) -> NodeMatches:
    """Match the nodes of a pair of groups.

    Args:
        metric: name of the metric behind the table.
        table: ``[S, T]``, larger is more alike; NaN counts as 0.
        own: the group is compared with itself; a node is then no match of its own, and nothing is matched one
            to one.
    """
    table = np.nan_to_num(np.asarray(table, dtype=np.float64), copy=True)
    kept = table.astype(np.float32)
    students, teachers = table.shape
    if own:
        np.fill_diagonal(table, -np.inf)
    if not table.size or (own and students == 1):
        return NodeMatches(
            metric,
            kept,
            np.full(students, -1),
            np.zeros(students),
            np.full(teachers, -1),
            np.zeros(teachers),
            np.full(students, -1),
            np.zeros((len(LEVELS), teachers), dtype=np.int64),
        )
    one_to_one = np.full(students, -1)
    if not own:
        rows, columns = linear_sum_assignment(table, maximize=True)
        one_to_one[rows] = columns
    return NodeMatches(
        metric,
        kept,
        table.argmax(1),
        table.max(1),
        table.argmax(0),
        table.max(0),
        one_to_one,
        np.stack([(table >= level).sum(0) for level in LEVELS]),
    )
