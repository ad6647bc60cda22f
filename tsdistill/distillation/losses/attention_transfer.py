"""Attention transfer (S. Zagoruyko, N. Komodakis, "Paying more attention to attention", ICLR 2017)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from tsdistill.distillation.losses.hints import select_pairs
from tsdistill.distillation.losses.loss_protocol import FEATURES, Batches, PlainLoss, Step
from tsdistill.distillation.paired_groups import GroupPair, PairedGroups
from tsdistill.errors import TsdistillError


class AttentionTransfer(PlainLoss):
    """‖Q/‖Q‖ − Q*/‖Q*‖‖² of the maps Q = Σ_channels activation², mean over samples and pairs of groups.

    For comparison: it says where to look, not which node is to see what.

    Args:
        at: ``"all"`` pairs of groups that have maps, ``"middle"``, or the name of a student's group.
    """

    reads = FEATURES

    def __init__(self, at: str = "all") -> None:
        self.at = at
        self._pairs: tuple[GroupPair, ...] = ()

    def attach(
        self, student: nn.Module, teacher: nn.Module | None, batches: Batches, generator: Generator
    ) -> None:
        """Pair groups.

        Raises:
            TsdistillError: no teacher, or no pair of groups that has maps in both models.
        """
        if teacher is None:
            raise TsdistillError("the loss attention-transfer needs a teacher; give --teacher")
        maps = tuple(pair for pair in PairedGroups(student, teacher, batches).shared_pairs if pair.mapped)
        if not maps:
            raise TsdistillError(
                "attention-transfer needs feature maps in both models; give --loss node-alignment"
            )
        self._pairs = select_pairs(maps, self.at, "attention-transfer")
        self.student_taps = tuple(dict.fromkeys(pair.student_tap for pair in self._pairs))
        self.teacher_taps = tuple(dict.fromkeys(pair.teacher_tap for pair in self._pairs))

    def __call__(self, step: Step) -> Tensor:
        """The loss of one batch, from 0 to 4."""
        total = step.student_output.new_zeros((), dtype=torch.float32)
        for pair in self._pairs:
            student_map, teacher_map = (
                functional.normalize(x.square().mean(1), dim=1) for x in pair.blocks(step)
            )
            total = total + (student_map - teacher_map).square().sum(1).mean()
        return total / max(1, len(self._pairs))
