"""The conditions of the theorems as claims with measured figures, and one sentence of advice."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tsdistill.lab.conditions.boundary_observers import BoundaryObservers
from tsdistill.lab.layers.theorem_quantities import required_samples
from tsdistill.lab.results import Claim, LayerConditions

PAPER = "arXiv 1909.13458"
RECTIFIED = 0.999
"""Share of an activation's energy that two slopes explain, from which on it counts as ReLU or Leaky ReLU.

Both have exactly 1; the rest is rounding.
"""
SMALL = 0.1
"""Relative gradient at the 95 % quantile of the samples up to which the gradient counts as small: an order of
magnitude below that of a student with output 0."""
NEARLY_ALL = 0.99
"""Share of nodes from which on a condition on all nodes counts as met; the rest allows for few samples."""

KINDS, DEPTH, WIDTH, GRADIENT, SEEN, OBSERVED, PRECISION, SAMPLES = (
    "every node is a rectifier",
    "teacher and student are equally deep",
    "the student is over-realised",
    "the gradient is small at every sample",
    "the data cross the teacher's lowest boundaries",
    "active student nodes observe the teacher's lowest nodes",
    "the gradient is small enough for a given precision",
    "there are enough samples",
)


def condition_claims(
    student: Sequence[LayerConditions],
    teacher: Sequence[LayerConditions],
    boundaries: BoundaryObservers,
    precision: Sequence[float] | None,
    smooth: Collection[str],
    samples: int,
    inputs: int,
) -> tuple[Claim, ...]:
    """The conditions of Theorems 2 to 5, in the order in which they should be read.

    Args:
        student: the student's rectified layers.
        teacher: the teacher's rectified layers.
        boundaries: the observers of the teacher's lowest nodes.
        precision: the ε that Theorem 4 grants each of these nodes.
        smooth: names of smooth functions that were called.
        samples: number of samples.
        inputs: d, the values of a sample and one for the bias.
    """
    worst = min((*student, *teacher), key=lambda layer: layer.rectified)
    others = f"; called besides: {', '.join(sorted(smooth))}" if smooth else ""
    lowest, first = student[0], teacher[0]
    assert lowest.gradient is not None
    assert lowest.gradient_worst is not None
    nodes = lowest.nodes + first.nodes
    same = len(student) == len(teacher)
    widths = [
        (layer.nodes, teacher_layer.nodes) for layer, teacher_layer in zip(student, teacher, strict=False)
    ]
    narrow = sum(width < teacher_width for width, teacher_width in widths)
    return (
        Claim(
            f"{KINDS} (ReLU or Leaky ReLU)",
            f"{PAPER}, section 2",
            f"least rectified: {worst.place or 'the model itself'}, {worst.rectified:.4f} of its energy lies "
            f"on two slopes (asked: {RECTIFIED}){others}",
            worst.rectified >= RECTIFIED and not smooth,
        ),
        Claim(DEPTH, f"{PAPER}, section 2", f"{len(student)} and {len(teacher)} rectified layers", same),
        Claim(
            f"{WIDTH} (n_l >= m_l)",
            f"{PAPER}, section 2",
            f"lowest layer: {lowest.nodes} nodes for {first.nodes}; {narrow} of {len(widths)} layers are "
            "narrower than the teacher's",
            _wide_enough(narrow, same, lowest.nodes >= first.nodes),
        ),
        Claim(
            GRADIENT,
            f"{PAPER}, Lemma 1 and Theorems 2-4",
            f"lowest layer: {lowest.gradient:.2g} of the teacher's term is left (median), "
            f"{lowest.gradient_worst:.2g} at the 95 % quantile (asked: {SMALL})",
            lowest.gradient_worst <= SMALL,
        ),
        Claim(
            SEEN,
            f"{PAPER}, Theorem 2",
            f"{first.crossed:.1%} of {first.nodes} nodes have samples on both sides",
            first.crossed >= NEARLY_ALL,
        ),
        Claim(
            OBSERVED,
            f"{PAPER}, Theorems 2-3",
            f"{boundaries.share:.1%} of {first.nodes} nodes are observed, by {boundaries.observers:g} "
            "student nodes (median)",
            boundaries.share >= NEARLY_ALL,
        ),
        _precise(precision, len(teacher), nodes, inputs),
        Claim(
            SAMPLES,
            f"{PAPER}, Theorem 4",
            f"looked at {samples}; the theorem asks for about {required_samples(0.1, nodes, inputs):.0e} "
            "at precision 0.1 (its constant is not known)",
            None,
        ),
    )


def _wide_enough(narrow: int, same: bool, lowest: bool) -> bool | None:
    if same:
        return narrow == 0
    return None if lowest else False


def _precise(precision: Sequence[float] | None, depth: int, nodes: int, inputs: int) -> Claim:
    source = f"{PAPER}, Theorem 4"
    if precision is None:
        return Claim(PRECISION, source, "the lowest layers' maps differ in size: not compared", None)
    granted = [each for each in precision if each < 1]
    measured = f"{len(granted)} of {len(precision)} teacher nodes are granted a precision below 1"
    if granted:
        measured += f" (best {min(granted):.2g})"
    measured += f"; K = {nodes}, d = {inputs}"
    if depth > 1:
        return Claim(
            PRECISION, source, measured + "; the theorem is for two layers, here it only indicates", None
        )
    return Claim(PRECISION, source, measured, len(granted) == len(precision))


def advice(claims: Sequence[Claim]) -> str:
    """How far unaligned nodes can be pruned safely, by the first condition that fails."""
    failed = [claim.text for claim in claims if claim.held is False]

    def fails(start: str) -> bool:
        return any(text.startswith(start) for text in failed)

    if fails(KINDS):
        return (
            "the theorems do not cover these non-linearities: go by strength and redundancy, which need no "
            "theorem, and evaluate after the cut"
        )
    if fails(GRADIENT):
        return (
            "the gradient is not small: a node that is not aligned may still be learning; train longer on "
            "the teacher, or trust weak and redundant nodes only"
        )
    if fails(SEEN) or fails(OBSERVED):
        return (
            "some of the teacher's nodes are not observed on these data: their alignment says little; give "
            "more data, or data moved onto boundaries (--augment teacher-aware)"
        )
    if fails(WIDTH) or fails(DEPTH):
        return (
            "the student is not an over-realised copy of the teacher's shape: expect teacher nodes without a "
            "match"
        )
    return "the conditions hold in the lowest layer: weak, unaligned nodes can be expected to be superfluous"
