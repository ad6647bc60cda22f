"""The experiment boundaries: student boundaries move onto the teacher's, in two dimensions."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tsdistill.errors import TsdistillError
from tsdistill.lab.experiment import Context, ExactSettings, Experiment
from tsdistill.lab.layers import plane_networks
from tsdistill.lab.layers.plane_networks import SAME_BOUNDARY
from tsdistill.lab.results import Claim, Outcome, Table
from tsdistill.options.option_fields import option, written

PAPER = "arXiv 1909.13458"
ALIGNED = 0.99
"""Correlation from which on a student and a teacher node count as active on the same side: nodes on one
boundary with opposite sides correlate negatively."""
SMALL = 0.05
"""Strength, by the median aligned node's, below which an unaligned node counts as without fan-out, as in
`specialization`."""
OUTPUTS, BATCH, START = 8, 256, 0.1
"""Output dimension, points of a step, and norm of a student node's fan-out at the start, which is small so
that the start does not decide which nodes align."""


@dataclass(frozen=True)
class Boundaries(ExactSettings):
    """Settings of boundaries: pairs are trained together, one of them is drawn.

    At most 200 students and 5,000 pairs, which bounds the memory.
    """

    dtype: str = option("float32", "Precision of the networks", choices=("float32",))
    students: int = option(6, "Student nodes", above=0, most=200)
    teachers: int = option(2, "Teacher nodes, at most 6", above=0, most=6)
    pairs: int = option(64, "Random pairs that the claims are counted over", above=0, most=5000)
    steps: int = option(20_000, "Training steps", above=0)
    rate: float = option(0.2, "Learning rate, with momentum 0.9", above=0)
    decay: float = option(0.0, "p: fan-out of the teacher's node j has norm 1/j^p", least=0)
    frames: int = option(48, "Frames that are kept of the pair that is drawn", least=2, most=400)


def run(settings: Boundaries, context: Context) -> Outcome:
    """Train the pairs, count boundaries on teacher nodes at the end, and record the frames of one pair."""
    generator = torch.Generator().manual_seed(settings.seed)
    goals = plane_networks.plane_teachers(
        settings.pairs, settings.teachers, OUTPUTS, generator, decay=settings.decay
    )
    pairs = plane_networks.plane_students(settings.pairs, settings.students, OUTPUTS, START, generator)
    held = plane_networks.square_points(4096, generator)
    power = [round(settings.steps * (place / (settings.frames - 1)) ** 3) for place in range(settings.frames)]
    when = set(power)
    frames: list[dict[str, Any]] = []

    def record(step: int) -> None:
        if step % 500 == 0:
            context.tell("training", step, settings.steps)
        if step in when:
            frames.append({"step": step, **_seen(pairs, goals, held)})

    plane_networks.train_pairs(pairs, goals, settings.steps, settings.rate, BATCH, generator, record)
    if not bool(torch.isfinite(pairs.fan_in).all()):
        raise TsdistillError(f"{written('rate')} {settings.rate:g}: the training diverged; give a lower one")
    end = _ended(pairs, goals, held)
    shown = _chosen(end, settings.teachers)
    return _outcome(settings, end, shown, _course(frames, goals, shown))


def _seen(pairs: plane_networks.Pairs, goals: plane_networks.Pairs, x: Tensor) -> dict[str, Tensor]:
    correlation, strength = plane_networks.pair_correlations(pairs, goals, x)
    return {
        "lines": pairs.fan_in.mT.clone(),
        "strength": strength,
        "best": correlation.amax(2),
        "node": correlation.argmax(2),
        "loss": plane_networks.pair_losses(pairs, goals, x),
    }


def _ended(pairs: plane_networks.Pairs, goals: plane_networks.Pairs, x: Tensor) -> list[dict[str, Any]]:
    """Loss of each pair; correlation, nearest boundary, distance and strength of each student node."""
    seen = _seen(pairs, goals, x)
    lines, goal_lines = seen["lines"].tolist(), goals.fan_in.mT.tolist()
    ended = []
    for place, own in enumerate(lines):
        away = [[plane_networks.boundary_distance(line, goal) for goal in goal_lines[place]] for line in own]
        nearest = [min(each) for each in away]
        ended.append(
            {
                "best": seen["best"][place].tolist(),
                "node": [each.index(low) for each, low in zip(away, nearest, strict=True)],
                "strength": seen["strength"][place].tolist(),
                "gap": [None if math.isinf(value) else value for value in nearest],
                "loss": float(seen["loss"][place]),
            }
        )
    return ended


def _on(pair: dict[str, Any], node: int, least: float = -1.0) -> int:
    """Number of student nodes on a teacher node's boundary that correlate with it by more than ``least``."""
    each = zip(pair["best"], pair["node"], pair["gap"], strict=True)
    return sum(
        best > least and at == node and gap is not None and gap < SAME_BOUNDARY for best, at, gap in each
    )


def _chosen(ended: list[dict[str, Any]], teachers: int) -> int:
    """The first pair with all teacher nodes recovered and two students aligned with none, else the first."""
    for place, pair in enumerate(ended):
        off = sum(gap is None or gap >= SAME_BOUNDARY for gap in pair["gap"])
        if off == 2 and all(_on(pair, node, ALIGNED) for node in range(teachers)):
            return place
    return 0


def _course(frames: list[dict[str, Any]], goals: plane_networks.Pairs, shown: int) -> dict[str, Any]:
    def rounded(values: Tensor) -> Any:
        return values.mul(1e4).round().div(1e4).tolist()

    kept = [
        {
            "step": frame["step"],
            "loss": float(f"{float(frame['loss'][shown]):.3g}"),
            "strength": [float(f"{value:.3g}") for value in frame["strength"][shown].tolist()],
            **{key: rounded(frame[key][shown]) for key in ("lines", "best")},
        }
        for frame in frames
    ]
    return {"teacher": goals.fan_in[shown].T.tolist(), "frames": kept, "shown": shown}


def _outcome(
    settings: Boundaries, ended: list[dict[str, Any]], shown: int, course: dict[str, Any]
) -> Outcome:
    counts = Counter(_on(pair, node) for pair in ended for node in range(settings.teachers))
    alike = sum(_on(pair, node, ALIGNED) > 0 for pair in ended for node in range(settings.teachers))
    total = sum(counts.values())
    covered = 1 - counts[0] / total
    nodes = [
        (best, strength, gap)
        for pair in ended
        for best, strength, gap in zip(pair["best"], pair["strength"], pair["gap"], strict=True)
    ]
    strong = sorted(strength for _, strength, gap in nodes if gap is not None and gap < SAME_BOUNDARY)
    weak = sorted(strength for _, strength, gap in nodes if gap is not None and gap >= SAME_BOUNDARY)
    typical = strong[len(strong) // 2] if strong else 0.0
    high = weak[int(0.9 * len(weak))] / typical if weak and typical else math.nan
    loud = sum(strength >= SMALL * typical for strength in weak)
    low = sorted(strength for best, strength, gap in nodes if best < 0.9 and gap is not None)
    apart = low[int(0.9 * len(low))] / typical if low and typical else 0.0
    losses = sorted(pair["loss"] for pair in ended)
    each = sum(count * times for count, times in counts.items()) / total
    listed = ", ".join(f"{count}: {counts[count] / total:.0%}" for count in sorted(counts))
    claims = (
        Claim(
            "For every teacher node there is a student node whose boundary lies on its own.",
            f"{PAPER}, theorem 2; the talk",
            f"{covered:.1%} of {total} teacher nodes in {len(ended)} pairs (boundaries within "
            f"{SAME_BOUNDARY:g} in a square of side 2, from either side; 99 % asked); {alike / total:.1%} "
            f"have one that is active on the same side, with a correlation above {ALIGNED:g}; loss at most "
            f"{losses[-1]:.0e}, median {losses[len(losses) // 2]:.0e}",
            covered >= 0.99,
        ),
        Claim(
            "Not all students align: some boundaries stay where no teacher node's is.",
            "the talk (6 student and 2 teacher nodes)",
            f"{len(weak)} of {len(nodes)} student nodes have a boundary in the square that lies on no "
            f"teacher node's, {sum(gap is None for _, _, gap in nodes)} have theirs outside",
            bool(weak),
        ),
        Claim(
            "Those have next to no fan-out.",
            f"{PAPER}, theorem 3; the talk",
            f"nine tenths of them have a strength below {high:.2g} of the median aligned node's ({SMALL:g} "
            f"asked); {loud} of {len(weak)} are above it, at most {weak[-1] / (typical or 1):.1f} of the "
            f"median; with correlation below 0.9 in place of boundaries: {apart:.2g}"
            if weak
            else "there are none",
            high < SMALL if weak else None,
        ),
        Claim(
            "Two or three students align with each teacher node.",
            "the talk",
            f"{each:.1f} on average with {settings.students / settings.teachers:g} for each; students on a "
            f"teacher node: {listed} (an average of 1.5 to 3.5 asked)",
            1.5 <= each <= 3.5,
        ),
    )
    rows = tuple(
        (
            number + 1,
            f"{best:.3f}",
            node + 1 if gap is not None and gap < SAME_BOUNDARY else None,
            "outside" if gap is None else f"{gap:.3f}",
            f"{strength:.1e}",
        )
        for number, (best, node, gap, strength) in enumerate(
            zip(*(ended[shown][key] for key in ("best", "node", "gap", "strength")), strict=True)
        )
    )
    columns = ("student node", "best correlation", "teacher node", "distance of boundaries", "strength")
    table = Table(f"Pair {shown + 1}, the one drawn, after {settings.steps:,} steps", columns, rows)
    flat = [
        {
            "best": round(best, 4),
            "strength": float(f"{strength:.3g}"),
            "gap": gap if gap is None else round(gap, 4),
        }
        for best, strength, gap in nodes
    ]
    return Outcome(
        "boundaries",
        {},
        claims,
        (table,),
        {**course, "ended": ended[shown], "nodes": flat[:3000]},
        (
            "A student may lie on a teacher node's boundary and be active on the other side of it: relu(z) "
            "= z + relu(−z), and other students together make the linear part. Such a node is aligned in "
            "the sense of the theorem (of boundaries), but not in correlation.",
            "Two students on one boundary that is no teacher node's can cancel but for a linear part: then "
            "they keep their fan-out. Theorem 3 asks for independent observers, which is not checked here.",
            "The pair drawn is the first in which every teacher node is found and two students align "
            "with none.",
        ),
    )


EXPERIMENT = Experiment(settings=Boundaries, quick={"pairs": 24, "steps": 8000}, run=run)
