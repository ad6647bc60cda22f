"""Claims and the table of the experiment connectivity, from the losses on its paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tsdistill.lab.outcome import Claim, Table

SOURCE = "arXiv 1909.13458, section 3 (mode connectivity); the talk"
EXACT = 1e-9
LOW = 0.1

Cells = Sequence[dict[str, Any]]


def peaks(cell: dict[str, Any], path: str) -> np.ndarray:
    """The highest loss on a path ``[pairs]``."""
    return np.array(cell[path]["loss"]).max(1)


def table_of(cells: Cells) -> Table:
    """Ends and highest points of every path (medians over pairs)."""
    rows = []
    for cell in cells:
        ends = np.array(cell["straight"]["ends"]).max(1)
        rows.append(
            (
                cell["kind"],
                f"{cell['over']}x",
                len(ends),
                float(np.median(ends)),
                *(float(np.median(peaks(cell, path))) for path in ("straight", "half", "least")),
                f"{np.median(peaks(cell, 'straight') / peaks(cell, 'half')):.3g}x",
            )
        )
    columns = (
        "students", "over", "pairs", "worse end", "straight line", "polyline, half kept",
        "polyline, as many as the teacher", "straight / polyline",
    )  # fmt: skip
    return Table(
        "highest loss on the way, by the teacher's energy (medians over pairs)", columns, tuple(rows)
    )


def claims_of(cells: Cells) -> tuple[Claim, ...]:
    """What the theory says, two layers first."""
    two = [cell for cell in cells if cell["kind"] == "two layers"]
    conv = [cell for cell in cells if cell["kind"] == "ConvNet"]
    claims = [_apart(cells), _exact(two), _low(two, "half"), _low(two, "least")]
    if conv:
        claims.append(_low(conv, "half"))
    return tuple(claims)


def _apart(cells: Cells) -> Claim:
    ratio = np.concatenate([peaks(c, "straight") / np.array(c["straight"]["ends"]).max(1) for c in cells])
    return Claim(
        "the error is high on the straight line between two students",
        SOURCE,
        f"the highest loss is {np.median(ratio):.3g} times that of the worse end (median of {len(ratio)} "
        f"pairs, least {ratio.min():.3g}; asked: every one above 2)",
        bool((ratio > 2).all()),
    )


def _exact(two: Cells) -> Claim:
    excess = []
    for cell in two:
        for path in ("half", "least"):
            ends = np.array(cell[path]["ends"]).max(1)
            excess.append((np.array(cell[path]["loss"]).max(1) - ends) / ends)
    worst = float(np.concatenate(excess).max())
    return Claim(
        "for two layers the loss on the polyline is nowhere above that of its vertices",
        "convexity in the output layer (arXiv 1909.13458, section 3; Kuditipudi et al. 2019)",
        f"largest excess {max(worst, 0.0):.1e} of the highest vertex (asked: {EXACT:g}), on fresh samples",
        worst <= EXACT,
    )


def _low(cells: Cells, path: str) -> Claim:
    low, high = (np.concatenate([peaks(cell, each) for cell in cells]) for each in (path, "straight"))
    ends = np.concatenate([np.array(cell["straight"]["ends"]).max(1) for cell in cells])
    rise, barrier = low - ends, high - ends
    kept = "half of the nodes" if path == "half" else "as many nodes as the teacher has"
    share = rise / barrier
    return Claim(
        f"a polyline of low error joins two {cells[0]['kind']} students, {kept} kept on the way".replace(
            "two two layers students", "two-layer students"
        ),
        SOURCE,
        f"the rise over the worse end is {np.median(share):.2g} of the straight line's (median of "
        f"{len(share)} pairs, largest {share.max():.2g}; asked: every one below {LOW:g}); highest loss "
        f"{np.median(low):.1e} against {np.median(high):.1e} of the teacher's energy",
        bool((share < LOW).all()),
    )
