"""In which order the nodes of a pair of groups are drawn, and which of them when there are too many."""

from __future__ import annotations

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from tsdistill.alignment.matching.node_matching import NodeMatches

MOST = 128
"""Rows and columns of a heat map at most: more are narrower than a pixel or two of a panel."""

_TENTHS = 10
"""Bins of teacher nodes from weak to strong, in which larger groups are summarised."""


def by_strength(strength: np.ndarray) -> np.ndarray:
    """Nodes from strong to weak, equals in the order they have."""
    return np.argsort(-strength, kind="stable")


def heat_order(matches: NodeMatches, strength: np.ndarray, *, own: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rows (student nodes) and columns (teacher nodes) of a heat map, at most ``MOST`` of each.

    Teacher nodes run from strong to weak; student nodes follow the teacher node that they match best, the
    most similar first. Beyond ``MOST`` the strongest teacher nodes stay, and the student nodes that match
    them best. A group beside itself has the same order on both sides: nodes that resemble each other stand
    together.

    Args:
        matches: of one metric.
        strength: of the teacher's nodes ``[T]``.
        own: the group stands beside itself.
    """
    if own:
        order = _clustered(matches.table, by_strength(strength)[:MOST])
        return order, order
    columns = by_strength(strength)[:MOST]
    place = np.full(matches.table.shape[1] + 1, len(columns))
    place[columns] = np.arange(len(columns))
    near = place[matches.best]
    if len(near) > MOST:
        kept = np.lexsort((-matches.similarity, near == len(columns)))[:MOST]
    else:
        kept = np.arange(len(near))
    return kept[np.lexsort((-matches.similarity[kept], near[kept]))], columns


def _clustered(table: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    if len(chosen) < 3:
        return chosen
    alike = np.nan_to_num(table[np.ix_(chosen, chosen)].astype(np.float64))
    distance = np.clip(1 - np.abs(alike + alike.T) / 2, 0, None)
    np.fill_diagonal(distance, 0)
    return chosen[leaves_list(linkage(squareform(distance, checks=False), "average"))]


def strength_bins(strength: np.ndarray, most: int = _TENTHS) -> list[np.ndarray]:
    """Teacher nodes from weak to strong in ``most`` bins of equal count; up to twice as many stand alone."""
    order = by_strength(strength)[::-1]
    if not len(order):
        return []
    return np.array_split(order, len(order) if len(order) <= 2 * most else most)
