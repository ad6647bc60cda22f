"""Node alignment: every student node is pulled toward the teacher node that it matches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from tsdistill.alignment.matching.node_matching import match_nodes
from tsdistill.distillation.losses.feature_losses import PairLoss
from tsdistill.distillation.losses.loss_protocol import Batches, Step
from tsdistill.distillation.paired_groups import PairedGroups, Samples, similarities, strengths
from tsdistill.errors import TsdistillError

_CONSTANT_VARIANCE = 1e-10
"""Variance of a student node, as a share of its mean square, up to which the node counts as constant.
Float32 rounds at 1e-7 relative, so a variance of 1e-14 relative is noise alone; the bound leaves a margin
of 10,000."""

_STRENGTH_SAMPLES = 256
"""Samples that strengths of teacher nodes are measured on. Each costs backward passes through the teacher,
and strengths are weights of a mean, for which a coarse estimate does."""
_MATCHES = ("one-to-one", "best")


class NodeAlignment(PairLoss):
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

    def __init__(
        self,
        match: str = "one-to-one",
        positions: int = 64,
        samples: int = 512,
        strength: bool = True,
    ) -> None:
        super().__init__()
        if match not in _MATCHES:
            raise TsdistillError(f"node-alignment:match={match}: give {' or '.join(_MATCHES)}")
        if positions < 0 or samples < 4:
            raise TsdistillError("node-alignment: give positions from 0 and samples from 4")
        self.match, self.positions, self.samples, self.strength = match, positions, samples, strength
        self._groups: PairedGroups | None = None
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

        Args:
            student: the bare student.
            teacher: the bare teacher.
            batches: the samples that groups and nodes are matched on.
            generator: of the seed of positions and projections, on the CPU.

        Raises:
            TsdistillError: no teacher, or no groups that can be paired.
        """
        samples = Samples(batches, self.samples)
        self._seed = int(torch.randint(2**31, (), generator=generator))
        self._groups = self._paired(student, teacher, samples)
        self._compare(self._groups.shared_pairs)
        moments = self._groups.moments(samples, self._seed)
        sensitivity = self._groups.sensitivity(samples, _STRENGTH_SAMPLES, self._seed)
        for name, strength in strengths(moments, sensitivity).items():
            weights = strength if self.strength else strength > 0
            self._weights[name] = torch.from_numpy(weights).float()
        self._pairs = tuple(
            pair for pair in self._pairs if pair.name in self._weights and self._weights[pair.name].any()
        )
        self._match(similarities(moments))

    def renew(self, batches: Batches) -> None:
        """Match nodes anew."""
        assert self._groups is not None
        samples = Samples(batches, self.samples)
        self._match(similarities(self._groups.moments(samples, self._seed)))

    def _match(self, tables: Mapping[str, np.ndarray]) -> None:
        for name, table in tables.items():
            matching = match_nodes("correlation", table)
            nodes = matching.best
            if self.match == "one-to-one":
                nodes = np.where(matching.one_to_one >= 0, matching.one_to_one, nodes)
            self._matches[name] = torch.from_numpy(nodes)

    def __call__(self, step: Step) -> Tensor:
        """The loss of one batch: from 0 (every node is its teacher node, scaled and shifted) to 2."""
        total = super().__call__(step)
        self._steps += 1
        return total

    def _of_pair(self, number: int, student_block: Tensor, teacher_block: Tensor, /) -> Tensor:
        name, device = self._pairs[number].name, student_block.device
        student_block, teacher_block = self._at_compared_positions(student_block, teacher_block)
        match = self._matches[name] = self._matches[name].to(device)
        weights = self._weights[name] = self._weights[name].to(device)
        return _distance(student_block, teacher_block, match, weights.to(student_block.dtype))

    def _at_compared_positions(self, student_block: Tensor, teacher_block: Tensor) -> tuple[Tensor, Tensor]:
        total = student_block.shape[2]
        if not self.positions or total <= self.positions:
            return student_block, teacher_block
        stride = -(-total // self.positions)
        offset = self._steps * 7 % stride
        return student_block[:, :, offset::stride], teacher_block[:, :, offset::stride]

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


def _distance(student_block: Tensor, teacher_block: Tensor, match: Tensor, strength: Tensor) -> Tensor:
    """Weighted mean of 1 − ρ over the student's nodes that vary; blocks ``[N, S, P]`` and ``[N, T, P]``."""
    teacher_block = teacher_block.index_select(1, match)
    a = student_block - student_block.mean((0, 2), keepdim=True)
    b = teacher_block - teacher_block.mean((0, 2), keepdim=True)
    covariance, var_a, var_b = (a * b).mean((0, 2)), a.square().mean((0, 2)), b.square().mean((0, 2))
    varies = (var_a > _CONSTANT_VARIANCE * student_block.detach().square().mean((0, 2))) & (var_b > 0)
    scale = torch.where(varies, var_a * var_b, 1.0).sqrt()
    weights = strength[match] * varies
    return (weights * (1 - covariance / scale)).sum() / weights.sum().clamp_min(1e-30)
