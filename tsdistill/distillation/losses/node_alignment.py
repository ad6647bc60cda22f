"""Node alignment: every student node is pulled toward the teacher node that it matches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from tsdistill.alignment.matching.node_matching import match_nodes
from tsdistill.distillation.losses.loss_protocol import FEATURES, Batches, PlainLoss, Step
from tsdistill.distillation.paired_groups import GroupPair, PairedGroups, Samples, similarities, strengths
from tsdistill.errors import TsdistillError

_LEAST = 1e-10
_STRENGTH = 256
_MATCHES = ("one-to-one", "best")


class NodeAlignment(PlainLoss):
    """Σ_k s_m(k) (1 − ρ_k) / Σ_k s_m(k), mean over groups: ρ_k is the correlation of student node k with its
    teacher node m(k) over the batch, ½ E‖ẑ_k − ẑ*_m(k)‖² of the standardised activations; s_j the teacher
    node's strength.

    The theory (arXiv 1909.13458, Theorems 2-5) says that strong teacher nodes are what student nodes align
    with at small gradient; this says so at every step. Scales and shifts of nodes are free. Which node
    matches which is found anew at every renewal.

    Args:
        match: ``"one-to-one"``: the assignment with the largest sum of correlations, student nodes left over
            go to the teacher node most like them; ``"best"``: every one goes to the most like.
        positions: how many positions of a map are compared, evenly spaced and moved on at every step; 0 for
            all.
        samples: how many samples matches are taken from; strengths are from 256 of them at most.
        strength: whether teacher nodes weigh by their strength, or all the same.
    """

    reads = FEATURES

    def __init__(
        self,
        match: str = "one-to-one",
        positions: int = 64,
        samples: int = 512,
        strength: bool = True,
    ) -> None:
        if match not in _MATCHES:
            raise TsdistillError(f"node-alignment:match={match}: give {' or '.join(_MATCHES)}")
        if positions < 0 or samples < 4:
            raise TsdistillError("node-alignment: give positions from 0 and samples from 4")
        self.match, self.positions, self.samples, self.strength = match, positions, samples, strength
        self._beside: PairedGroups | None = None
        self._pairs: tuple[GroupPair, ...] = ()
        self._weights: dict[str, Tensor] = {}
        self._matches: dict[str, Tensor] = {}
        self._seed = 0
        self._steps = 0

    @property
    def matches(self) -> Mapping[str, Tensor]:
        """By student group, int64 ``[S]``: the teacher node of each student node."""
        return self._matches

    def attach(
        self, student: nn.Module, teacher: nn.Module | None, batches: Batches, generator: Generator
    ) -> None:
        """Trace both models, pair their groups, measure the teacher's strengths, match nodes.

        Raises:
            TsdistillError: no teacher, or no groups that can be paired.
        """
        if teacher is None:
            raise TsdistillError("the loss node-alignment needs a teacher; give --teacher")
        some = Samples(batches, self.samples)
        self._seed = int(torch.randint(2**31, (), generator=generator))
        self._beside = PairedGroups(student, teacher, some)
        self._pairs = self._beside.shared_pairs
        self.student_taps = tuple(dict.fromkeys(pair.student_tap for pair in self._pairs))
        self.teacher_taps = tuple(dict.fromkeys(pair.teacher_tap for pair in self._pairs))
        moments = self._beside.moments(some, self._seed)
        found = strengths(moments, self._beside.sensitivity(some, _STRENGTH, self._seed))
        if not self.strength:
            found = {name: (weights > 0).astype(float) for name, weights in found.items()}
        self._weights = {name: torch.from_numpy(weights).float() for name, weights in found.items()}
        self._pairs = tuple(pair for pair in self._pairs if pair.name in found and found[pair.name].any())
        self._take(similarities(moments))

    def renew(self, batches: Batches) -> None:
        """Match nodes anew."""
        assert self._beside is not None
        some = Samples(batches, self.samples)
        self._take(similarities(self._beside.moments(some, self._seed)))

    def _take(self, tables: Mapping[str, np.ndarray]) -> None:
        for name, table in tables.items():
            found = match_nodes("correlation", table)
            one = self.match == "one-to-one"
            chosen = np.where(found.one_to_one >= 0, found.one_to_one, found.best) if one else found.best
            self._matches[name] = torch.from_numpy(chosen)

    def __call__(self, step: Step) -> Tensor:
        """The loss of one batch: from 0 (every node is its teacher node, scaled and shifted) to 2."""
        total = step.student_output.new_zeros((), dtype=torch.float32)
        for pair in self._pairs:
            mine, theirs = self._thinned(*pair.blocks(step))
            device = mine.device
            match = self._matches[pair.name] = self._matches[pair.name].to(device)
            weights = self._weights[pair.name] = self._weights[pair.name].to(device)
            total = total + _distance(mine, theirs, match, weights.to(mine.dtype))
        self._steps += 1
        return total / max(1, len(self._pairs))

    def _thinned(self, mine: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
        total = mine.shape[2]
        if not self.positions or total <= self.positions:
            return mine, theirs
        stride = -(-total // self.positions)
        offset = self._steps * 7 % stride
        return mine[:, :, offset::stride], theirs[:, :, offset::stride]

    def state_dict(self) -> dict[str, Any]:
        """Matches, weights, and how many steps there were."""
        return {
            "matches": {name: match.cpu() for name, match in self._matches.items()},
            "weights": {name: weight.cpu() for name, weight in self._weights.items()},
            "pairs": {pair.name: pair.teacher_group for pair in self._pairs},
            "steps": self._steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over another one's.

        Raises:
            TsdistillError: it is of other pairs of groups.
        """
        if state["pairs"] != {pair.name: pair.teacher_group for pair in self._pairs}:
            raise TsdistillError(
                "the state of the loss node-alignment is of other groups; resume with the student and the "
                "teacher that the run began with"
            )
        self._matches, self._weights = dict(state["matches"]), dict(state["weights"])
        self._steps = int(state["steps"])


def _distance(mine: Tensor, theirs: Tensor, match: Tensor, strength: Tensor) -> Tensor:
    """Weighted mean of 1 − ρ over the student's nodes that vary; blocks ``[N, S, P]`` and ``[N, T, P]``."""
    theirs = theirs.index_select(1, match)
    a = mine - mine.mean((0, 2), keepdim=True)
    b = theirs - theirs.mean((0, 2), keepdim=True)
    covariance, var_a, var_b = (a * b).mean((0, 2)), a.square().mean((0, 2)), b.square().mean((0, 2))
    varies = (var_a > _LEAST * mine.detach().square().mean((0, 2))) & (var_b > 0)
    scale = torch.where(varies, var_a * var_b, 1.0).sqrt()
    weights = strength[match] * varies
    return (weights * (1 - covariance / scale)).sum() / weights.sum().clamp_min(1e-30)
