"""Claims and tables of the experiment specialization, from the numbers of its cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tsdistill.lab.layers.theorem_quantities import bound_constant
from tsdistill.lab.results import Claim, Table

PAPER = "arXiv 1909.13458"
SMALL = 0.1
"""Relative gradient at the 95 % quantile of the samples up to which a student counts as trained: an order of
magnitude below that of a student with output 0."""
NEARLY_ALL = 0.99
"""Share of teacher nodes from which on a claim on all of them counts as met; the rest allows for
few samples on a boundary."""
UNCHANGED = 1e-3
"""Change of the outputs, by the teacher's energy, up to which the function counts as unchanged:
far below what an aligned node contributes."""

Cells = Sequence[dict[str, Any]]


def tables_of(cells: Cells) -> tuple[Table, ...]:
    """Trained students, and the bound of Theorem 4 with its measurement."""
    return (
        Table(
            "students at the end of the training (medians over networks; losses by the teacher's energy)",
            (
                "d", "over", "gradient left", "teacher nodes found", "aligned per teacher node", "unaligned",
                "strength, aligned", "strength, unaligned", "loss", "loss without unaligned",
                "loss without as many aligned",
            ),
            tuple(_row(cell) for cell in cells),
        ),
        bound_table(cells),
    )  # fmt: skip


def claims_of(cells: Cells) -> tuple[Claim, ...]:
    """The claims of Theorems 2, 3 and 4 and of the talk."""
    return (
        _recovered(cells),
        _two_or_three(cells),
        _observed(cells),
        *_unaligned(cells),
        granted(cells),
        *scaling(cells),
    )


def _recovered(cells: Cells) -> Claim:
    rows = [
        value
        for cell in cells
        if cell["over"] > 1
        for row, left in zip(cell["end"]["students"], cell["end"]["left"], strict=True)
        if left <= SMALL
        for value in row
    ]
    runs = sum(left <= SMALL for cell in cells if cell["over"] > 1 for left in cell["end"]["left"])
    every = sum(len(cell["end"]["left"]) for cell in cells if cell["over"] > 1)
    share = sum(value > 0 for value in rows) / len(rows) if rows else 0.0
    return Claim(
        "at small gradient every teacher node is aligned with at least one student node (lowest layer)",
        f"{PAPER}, Theorem 2; the talk",
        f"{share:.1%} of {len(rows)} teacher nodes, in the {runs} of {every} over-realised students whose "
        f"gradient is at most {SMALL} of the teacher's term at 95 % of the samples (asked: {NEARLY_ALL:.0%})",
        share >= NEARLY_ALL if rows else None,
    )


def _two_or_three(cells: Cells) -> Claim:
    medians = {}
    for over in dict.fromkeys(cell["over"] for cell in cells if cell["over"] > 1):
        rows = [v for cell in cells if cell["over"] == over for row in cell["end"]["students"] for v in row]
        medians[over] = (float(np.median(rows)), float(np.mean(rows)))
    measured = ", ".join(f"{over}x: median {low:g}, mean {mean:.1f}" for over, (low, mean) in medians.items())
    return Claim(
        "usually two or three student nodes are aligned with a teacher node",
        "the talk",
        f"{measured or 'no over-realised students'} (asked: every median 2 or 3; it depends on the number of "
        "student nodes and on the scale at the start)",
        all(2 <= low <= 3 for low, _ in medians.values()) if medians else None,
    )


def _observed(cells: Cells) -> Claim:
    numbers = [value for cell in cells for row in cell["end"]["observers"] for value in row]
    share = sum(value > 0 for value in numbers) / len(numbers)
    return Claim(
        "the condition: each teacher node's boundary is observed by an active student node",
        f"{PAPER}, Theorem 2",
        f"{share:.1%} of teacher nodes, by {np.median(numbers):g} student nodes (median)",
        share >= NEARLY_ALL,
    )


def _unaligned(cells: Cells) -> Iterable[Claim]:
    with_some = [
        (cell, place)
        for cell in cells
        if cell["over"] > 1
        for place, left in enumerate(cell["end"]["left"])
        if left <= SMALL and _others(cell, place)
    ]
    if not with_some:
        reason = "no student with a small gradient has an unaligned node"
        yield Claim("unaligned nodes have no fan-out", f"{PAPER}, Theorem 3", reason, None)
        yield Claim("they can be pruned without changing the function", f"{PAPER}, Theorem 3", reason, None)
        return
    wide = [cell for cell in cells if cell["over"] > 1]
    weak, strong = (np.array(each) for each in _strengths(wide, "strength"))
    net = np.array(_strengths(wide, "net")[0])
    ratio = float(np.median(weak) / np.median(strong))
    high = weak > 0.1 * np.median(strong)
    yield Claim(
        "student nodes aligned with no teacher node have no fan-out",
        f"{PAPER}, Theorem 3; the talk's L-shaped curve",
        f"median strength of {len(weak)} unaligned nodes is {ratio:.2g} of the aligned ones' (asked: below "
        f"0.05); {high.mean():.1%} of them are above a tenth of it",
        ratio < 0.05,
    )
    if high.any():
        kept = float((net[high] <= 0.1 * np.median(strong)).mean())
        yield Claim(
            "those that keep some share their boundary with other students, and their fan-outs cancel",
            f"{PAPER}, Theorem 3 (it asks that a node is aligned with no student either)",
            f"of {int(high.sum())} unaligned nodes above a tenth of the aligned ones' median strength, "
            f"{kept:.1%} are below it once the fan-outs of all students on the boundary are added up "
            "(asked: 90%)",
            kept >= 0.9,
        )
    moved = np.array([cell["end"]["moved"][place] for cell, place in with_some])
    before = np.array([cell["end"]["loss"][place] for cell, place in with_some])
    after = np.array([cell["end"]["without"][place] for cell, place in with_some])
    instead = np.array([cell["end"]["instead"][place] for cell, place in with_some])
    yield Claim(
        "they can be pruned without changing the function",
        f"{PAPER}, Theorem 3",
        f"{len(moved)} students lose {_mean_others(with_some):.1f} nodes each: outputs move by "
        f"{np.median(moved):.1e} of the teacher's energy (median, largest {moved.max():.1e}; asked: "
        f"95 % below {UNCHANGED:g}), loss {np.median(before):.1e} -> {np.median(after):.1e}; as many aligned "
        f"nodes instead, weakest first: {np.median(instead):.1e}",
        float(np.quantile(moved, 0.95)) <= UNCHANGED,
    )


def _others(cell: dict[str, Any], place: int) -> int:
    return sum(not aligned for aligned in cell["end"]["aligned"][place])


def _mean_others(with_some: Sequence[tuple[dict[str, Any], int]]) -> float:
    return float(np.mean([_others(cell, place) for cell, place in with_some]))


def _strengths(cells: Iterable[dict[str, Any]], what: str) -> tuple[list[float], list[float]]:
    weak: list[float] = []
    strong: list[float] = []
    for cell in cells:
        end = cell["end"]
        for values, flags in zip(end[what], end["aligned"], strict=True):
            for value, aligned in zip(values, flags, strict=True):
                (strong if aligned else weak).append(value)
    return weak, strong


def _row(cell: dict[str, Any]) -> tuple[str | float | None, ...]:
    end = cell["end"]
    weak, strong = _strengths([cell], "strength")
    students = np.array(end["students"])
    return (
        cell["d"],
        f"{cell['over']}x",
        float(np.median(end["left"])),
        f"{np.mean(students > 0):.1%}",
        ", ".join(f"{value:.1f}" for value in students.mean(0)),
        f"{len(weak)} of {len(weak) + len(strong)}",
        float(np.median(strong)) if strong else None,
        float(np.median(weak)) if weak else None,
        float(np.median(end["loss"])),
        float(np.median(end["without"])),
        float(np.median(end["instead"])),
    )


FLOOR = 1e-12
"""Precision below which what is measured is rounding: float64 has 2e-16, and differences lose digits."""
NEAR = 0.3
"""Precision (sine of the angle) below which a teacher node counts as being recovered: 17°."""


def bound_table(cells: Cells) -> Table:
    """The precision that the theorem grants and the measured one, a row for each cell."""
    return Table(
            "Theorem 4: precision ε of recovery at gradient G, all snapshots and teacher nodes",
            (
                "d", "over", "K", "ε α / G, median", "ε α / G, largest", "5 K^1.5 √d", "granted ε < 1",
                "of these kept",
            ),
            tuple(_bound_row(cell) for cell in cells),
        )  # fmt: skip


def granted(cells: Cells) -> Claim:
    """Whether the bound holds wherever it is below 1."""
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
    """Exponents of the measured precision in G, α, K and d, by least squares of the logarithms."""
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
                for alpha, sine in zip(shot["alpha"][place], shot["precision"][place], strict=True):
                    if alpha > 0 and gradient > 0:
                        logs.append(np.log([gradient, alpha, cell["K"], cell["d"]]))
                        measured.append(sine)
                        implied.append(gradient / alpha * constant(cell))
    return np.array(logs).reshape(-1, 4), np.array(measured), np.array(implied)


def constant(cell: dict[str, Any]) -> float:
    """5 K^{3/2} √d of a cell, the bias counted as an input; Theorem 4 grants this times G / α."""
    return bound_constant(cell["K"], cell["d"] + 1)


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
