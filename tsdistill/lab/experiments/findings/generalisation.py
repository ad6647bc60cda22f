"""Claims and tables of the experiment generalisation: rank correlations over all runs and within cells."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tsdistill.lab.engine.summing import mean, rank_correlation
from tsdistill.lab.outcome import Claim, Table

TALK = "the talk: a student with the teacher's inner structure agrees with it on new inputs"
STRONG = 0.8
WITHIN = 0.5
FEWEST = 5

Cells = Sequence[dict[str, Any]]
Read = Callable[[dict[str, Any]], Sequence[float]]


def over_all(cells: Cells, first: Read, second: Read) -> float:
    """Spearman's coefficient over all runs."""
    return rank_correlation(
        [value for cell in cells for value in first(cell)],
        [value for cell in cells for value in second(cell)],
    )


def within(cells: Cells, first: Read, second: Read) -> float:
    """Mean over cells of Spearman's coefficient among runs that differ only in the seed."""
    return mean([rank_correlation(first(cell), second(cell)) for cell in cells if len(first(cell)) >= FEWEST])


def given(cells: Cells, first: Read, second: Read, third: Read) -> float:
    """Partial rank correlation of the first two, the third held fixed."""
    a, b, c = over_all(cells, first, second), over_all(cells, first, third), over_all(cells, second, third)
    left = (1 - b * b) * (1 - c * c)
    return (a - b * c) / math.sqrt(left) if left > 0 else math.nan


def _of(name: str) -> Read:
    return lambda cell: cell[name]


def _shifted(shift: str, what: str) -> Read:
    return lambda cell: cell["shifted"][shift][what]


ALIGNMENT, TRAINING, EVALUATION, AGREEMENT = map(_of, ("alignment", "training", "evaluation", "agreement"))


def claims_of(cells: Cells) -> tuple[Claim, ...]:
    """Whether alignment predicts, better than the training loss, also among runs that differ only in seed."""
    runs = sum(len(cell["alignment"]) for cell in cells)
    aligned, trained = over_all(cells, ALIGNMENT, EVALUATION), over_all(cells, TRAINING, EVALUATION)
    partial = given(cells, ALIGNMENT, EVALUATION, TRAINING)
    inside, other = within(cells, ALIGNMENT, EVALUATION), within(cells, TRAINING, EVALUATION)
    return (
        Claim(
            "alignment on the training inputs predicts the loss on fresh inputs",
            TALK,
            f"rank correlation {aligned:.2f} over {runs} runs (asked: below -{STRONG})",
            aligned < -STRONG,
        ),
        Claim(
            "it predicts better than the training loss does",
            TALK,
            f"training loss: {trained:.2f}; alignment at equal training loss: {partial:.2f} (asked: "
            f"stronger, and below -{WITHIN})",
            abs(aligned) > abs(trained) and partial < -WITHIN,
        ),
        Claim(
            "it predicts among runs that differ only in their seed",
            TALK,
            f"mean rank correlation within the {len(cells)} cells {inside:.2f}; training loss {other:.2f} "
            f"(asked: below -{WITHIN})",
            None if math.isnan(inside) else inside < -WITHIN,
        ),
        *_on_shifted(cells),
    )


def _on_shifted(cells: Cells) -> tuple[Claim, ...]:
    agreement = {
        name: over_all(cells, ALIGNMENT, _shifted(name, "agreement")) for name in cells[0]["shifted"]
    }
    loss = {name: over_all(cells, ALIGNMENT, _shifted(name, "loss")) for name in cells[0]["shifted"]}
    said = ", ".join(f"{name} {value:.2f}" for name, value in agreement.items())
    lost = ", ".join(f"{name} {value:.2f}" for name, value in loss.items())
    aligned = [_spread(cell) for cell in cells]
    high = [value for values in aligned for value in values]
    return (
        Claim(
            "alignment on the training inputs predicts agreement with the teacher on shifted inputs",
            TALK,
            f"rank correlations with agreement: {said} (asked: above {STRONG} in all); with the loss: {lost}",
            min(agreement.values()) > STRONG,
        ),
        Claim(
            "well-aligned students (alignment above 0.99) agree with the teacher there",
            TALK,
            f"{len(high)} runs: least agreement of the shifts {min(high):.1%}, median {np.median(high):.1%} "
            "(asked: a median above 95%)"
            if high
            else "no run has an alignment above 0.99",
            bool(np.median(high) > 0.95) if high else None,
        ),
    )


def _spread(cell: dict[str, Any]) -> list[float]:
    """The least agreement over the shifts of each well-aligned run."""
    rows = zip(*(each["agreement"] for each in cell["shifted"].values()), strict=True)
    return [min(row) for row, aligned in zip(rows, cell["alignment"], strict=True) if aligned > 0.99]


def tables_of(cells: Cells) -> tuple[Table, ...]:
    """Medians of each cell, and what predicts what."""
    shifts = tuple(cells[0]["shifted"])
    medians = Table(
        "medians over seeds (losses by the teacher's energy)",
        ("N", "over", "alignment", "training loss", "loss on fresh inputs", "agreement", *shifts),
        tuple(
            (
                cell["samples"],
                f"{cell['over']}x",
                *(
                    float(np.median(cell[name]))
                    for name in ("alignment", "training", "evaluation", "agreement")
                ),
                *(float(np.median(cell["shifted"][name]["agreement"])) for name in shifts),
            )
            for cell in cells
        ),
    )
    targets: dict[str, Read] = {"loss on fresh inputs": EVALUATION, "agreement on fresh inputs": AGREEMENT}
    targets |= {f"agreement, {name}": _shifted(name, "agreement") for name in shifts}
    predictions = Table(
        "rank correlations over all runs (within cells)",
        ("of", "alignment", "training loss", "alignment at equal training loss"),
        tuple(
            (
                what,
                f"{over_all(cells, ALIGNMENT, read):.2f} ({within(cells, ALIGNMENT, read):.2f})",
                f"{over_all(cells, TRAINING, read):.2f} ({within(cells, TRAINING, read):.2f})",
                f"{given(cells, ALIGNMENT, read, TRAINING):.2f}",
            )
            for what, read in targets.items()
        ),
    )
    return medians, predictions
