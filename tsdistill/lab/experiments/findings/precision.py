"""Theorem 4 beside what was measured: precision of recovery against gradient, strength, K and d."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tsdistill.lab.layers.bound import wanted_ratio
from tsdistill.lab.outcome import Claim, Table

PAPER = "arXiv 1909.13458"
FLOOR = 1e-12
NEAR = 0.3

Cells = Sequence[dict[str, Any]]


def bound_table(cells: Cells) -> Table:
    """What the theorem grants beside what was measured, a row a cell."""
    return Table(
            "Theorem 4: precision ε of recovery at gradient G, all snapshots and teacher nodes",
            (
                "d", "over", "K", "ε α / G, median", "ε α / G, largest", "5 K^1.5 √d", "granted ε < 1",
                "of these kept",
            ),
            tuple(_bound_row(cell) for cell in cells),
        )  # fmt: skip


def granted(cells: Cells) -> Claim:
    """Whether the bound is kept wherever it says something."""
    _, measured, implied = _points(cells)
    speaks = implied < 1
    kept = int((measured[speaks] <= implied[speaks]).sum())
    loose = np.median(implied[speaks] / np.maximum(measured[speaks], FLOOR)) if speaks.any() else np.nan
    return Claim(
        "a teacher node is recovered to precision ε once the gradient is at most α ε / (5 K^{3/2} √d)",
        f"{PAPER}, Theorem 4",
        f"{kept} of {int(speaks.sum())} times that the bound says something (ε < 1, of {len(speaks)} "
        f"snapshots of teacher nodes); it is {loose:.2g} times what was measured (median)",
        kept == int(speaks.sum()) if speaks.any() else None,
    )


def scaling(cells: Cells) -> Iterable[Claim]:
    """How the measured precision grows with what is in the bound, by least squares of the logarithms."""
    logs, measured, _ = _points(cells)
    fits = (measured > FLOOR) & (measured < NEAR)
    if fits.sum() < 20:
        return
    design = np.column_stack([logs[fits], np.ones(int(fits.sum()))])
    (gradient, alpha, nodes, inputs, _), *_ = np.linalg.lstsq(design, np.log(measured[fits]), rcond=None)
    yield Claim(
        "precision is proportional to the gradient",
        f"{PAPER}, Theorem 4",
        f"ε grows as G^{gradient:.2f} over {int(fits.sum())} snapshots (asked: 0.8 to 1.25)",
        bool(0.8 <= gradient <= 1.25),
    )
    yield Claim(
        "the stronger a teacher node (α), the larger the gradient at which it is recovered",
        f"{PAPER}, Theorem 4",
        f"at a given gradient ε grows as α^{alpha:.2f} (the theorem: α^-1; asked: below -0.5)",
        bool(alpha < -0.5),
    )
    yield Claim(
        "precision suffers at most as K^{3/2} √d from the number of nodes and inputs",
        f"{PAPER}, Theorem 4",
        f"ε grows as K^{nodes:.2f} d^{inputs:.2f} at given G and α: the bound is kept"
        + (" with room to spare" if nodes < 1 else ""),
        bool(nodes <= 1.5 and inputs <= 0.5) if len({(c["d"], c["K"]) for c in cells}) > 2 else None,
    )


def _points(cells: Cells) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log of (G, α, K, d) ``[points, 4]``, measured and granted ε of every snapshot and teacher node seen."""
    logs, measured, implied = [], [], []
    for cell in cells:
        for shot in cell["snapshots"]:
            for place, gradient in enumerate(shot["gradient"]):
                for alpha, found in zip(shot["alpha"][place], shot["precision"][place], strict=True):
                    if alpha > 0 and gradient > 0:
                        logs.append(np.log([gradient, alpha, cell["K"], cell["d"]]))
                        measured.append(found)
                        implied.append(gradient / alpha * constant(cell))
    return np.array(logs).reshape(-1, 4), np.array(measured), np.array(implied)


def constant(cell: dict[str, Any]) -> float:
    """5 K^{3/2} √d of a cell, the bias counted as an input: what Theorem 4 grants is this times G / α."""
    return wanted_ratio(cell["K"], cell["d"] + 1)


def _bound_row(cell: dict[str, Any]) -> tuple[str | float | int | None, ...]:
    logs, measured, implied = _points([cell])
    near = (measured > FLOOR) & (measured < NEAR)
    ratio = measured[near] * np.exp(logs[near, 1] - logs[near, 0])
    speaks = implied < 1
    return (
        cell["d"],
        f"{cell['over']}x",
        cell["K"],
        float(np.median(ratio)) if near.any() else None,
        float(ratio.max()) if near.any() else None,
        constant(cell),
        int(speaks.sum()),
        int((measured[speaks] <= implied[speaks]).sum()),
    )
