"""What makes a pair of groups likely besides their similarity: what kind they are, how fine, how deep.

Similarities of neighbouring layers differ by little (with random weights by next to nothing), so that these
settle which of them meet. On the weights of EfficientNet-Lite2 with -Lite0 they change nothing; with small
residual networks trained on Fashion-MNIST and with random weights (ResNet-18 with -34, ConvNeXt with Swin)
streams meet streams and stages meet stages only with them.
"""

from __future__ import annotations

import numpy as np

from tsdistill.alignment.matching.coarse_activations import CoarseActivations, TracedModel

OTHER_KIND = 0.15
"""Similarity (CKA, 0 to 1) that a pair of groups of different kinds of layers loses."""

HALVED = 0.05
"""Similarity that a pair loses per factor of two between its numbers of positions."""

ALL_THE_WAY = 0.2
"""Similarity that a pair loses over the whole depth: the first layer of one model against the last of the
other."""


def pair_penalty(
    student: TracedModel,
    activations_s: CoarseActivations,
    students: list[str],
    teacher: TracedModel,
    activations_t: CoarseActivations,
    teachers: list[str],
) -> np.ndarray:
    """What is to be taken off the similarity of each pair of groups.

    0.15 where one is a stream (other groups are written and read while it lasts) and the other is not; 0.05
    for each factor of two between the sides of their maps; 0.2 times the distance in relative depth.

    Args:
        student: the one model.
        activations_s: its activations.
        students: its groups, in the order in which they are read.
        teacher: the other model.
        activations_t: its activations.
        teachers: its groups, likewise.

    Returns:
        float64 ``[S, T]``; infinite where a group with positions would meet a vector, or heads (several
        channels a node) would meet single channels.
    """
    a, b = _facts(student, activations_s, students), _facts(teacher, activations_t, teachers)
    apart = np.abs(a[:, None] - b[None, :]) @ np.array([0.0, 0.0, OTHER_KIND, HALVED, ALL_THE_WAY])
    apart[(a[:, None, :2] != b[None, :, :2]).any(2)] = np.inf
    return apart


def _facts(side: TracedModel, seen: CoarseActivations, names: list[str]) -> np.ndarray:
    """``[groups, 5]``: has positions, several channels a node, is a stream, log2 of the map's side, depth."""
    written = {group.name: place for place, group in enumerate(side.graph.groups)}
    placed = [name for name in names if seen.positions[name] > 1]
    facts = []
    for place, name in enumerate(names):
        stream = any(written[o] > written[name] and seen.order[o] < seen.order[name] for o in placed)
        several = side.channels_a_node(name) > 1
        fineness = np.log2(seen.positions[name]) / 2
        facts.append((seen.positions[name] > 1, several, stream, fineness, (place + 0.5) / len(names)))
    return np.array(facts, dtype=np.float64).reshape(-1, 5)
