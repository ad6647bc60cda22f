"""Losses of features that other papers compare with: hints and attention transfer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from tsdistill.distillation.losses.loss_protocol import FEATURES, Batches, PlainLoss, Step
from tsdistill.distillation.paired_groups import GroupPair, PairedGroups
from tsdistill.errors import TsdistillError
from tsdistill.options.option_fields import written


class PairLoss(PlainLoss):
    """The mean over pairs of groups of a loss of their activations."""

    reads = FEATURES

    def __init__(self) -> None:
        self._pairs: tuple[GroupPair, ...] = ()

    def _paired(self, student: nn.Module, teacher: nn.Module | None, batches: Batches) -> PairedGroups:
        """The two models with their groups paired.

        Raises:
            TsdistillError: no teacher, or no groups that can be paired.
        """
        if teacher is None:
            raise TsdistillError(f"a loss of activations needs a teacher; give {written('teacher')}")
        return PairedGroups(student, teacher, batches)

    def _compare(self, pairs: tuple[GroupPair, ...]) -> None:
        """Compare these pairs from now on."""
        self._pairs = pairs
        self.student_taps = tuple(dict.fromkeys(pair.student_tap for pair in pairs))
        self.teacher_taps = tuple(dict.fromkeys(pair.teacher_tap for pair in pairs))

    def __call__(self, step: Step) -> Tensor:
        """The loss of one batch, 0-dim."""
        total = step.student_output.new_zeros((), dtype=torch.float32)
        for number, pair in enumerate(self._pairs):
            total = total + self._of_pair(number, *pair.blocks(step))
        return total / max(1, len(self._pairs))

    def _of_pair(self, number: int, student_block: Tensor, teacher_block: Tensor, /) -> Tensor:
        """The loss of the pair of that number; blocks ``[N, S, P]`` and ``[N, T, P]``."""
        raise NotImplementedError


class Hints(PairLoss):
    """Mean squared difference of the teacher's activations from a linear map (1x1 convolution) of the
    student's, which is trained together with the student.

    The paper trains the layers below the hint first and the whole network afterwards; here the two losses are
    summed, as in most later comparisons. For comparison only: the map can undo what nodes have learnt.

    A. Romero et al., "FitNets: hints for thin deep nets", ICLR 2015.

    Args:
        at: ``"middle"``: the pair of groups half way in depth, as in the paper; ``"all"``; or the name of a
            student's group.
    """

    def __init__(self, at: str = "middle") -> None:
        super().__init__()
        self.at = at
        self._maps = nn.ModuleList()

    def attach(
        self, student: nn.Module, teacher: nn.Module | None, batches: Batches, generator: Generator
    ) -> None:
        """Pair groups and create the maps, on the student's device.

        Args:
            student: the bare student.
            teacher: the bare teacher.
            batches: a few batches, which pair groups where names do not.
            generator: of the maps' initial weights, on the CPU.

        Raises:
            TsdistillError: no teacher, no groups that can be paired, or none of that name.
        """
        pairs = self._paired(student, teacher, batches).shared_pairs
        self._compare(_selected(pairs, self.at, "hints"))
        device = next(student.parameters()).device
        self._maps = nn.ModuleList(_map(*pair.sizes, generator) for pair in self._pairs).to(device)

    def _of_pair(self, number: int, student_block: Tensor, teacher_block: Tensor, /) -> Tensor:
        prediction: Tensor = self._maps[number](student_block.transpose(1, 2)).transpose(1, 2)
        return (prediction - teacher_block).square().mean()

    def parameters(self) -> Iterable[nn.Parameter]:
        """The parameters of the maps."""
        return self._maps.parameters()

    def state_dict(self) -> dict[str, Any]:
        """The weights of the maps, on the CPU."""
        return {name: tensor.detach().cpu() for name, tensor in self._maps.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the weights of the maps.

        Raises:
            TsdistillError: they are of other shapes.
        """
        try:
            self._maps.load_state_dict(dict(state))
        except RuntimeError as error:
            raise TsdistillError(
                "the state of the loss hints is of other groups; resume with the student and the teacher "
                "that the run began with"
            ) from error


def _selected(pairs: tuple[GroupPair, ...], at: str, loss: str) -> tuple[GroupPair, ...]:
    """The pairs, in forward order, that the option ``at`` of a loss names."""
    if at == "all":
        return pairs
    if at == "middle":
        return (pairs[len(pairs) // 2],)
    named = tuple(pair for pair in pairs if pair.name == at)
    if not named:
        names = ", ".join(pair.name for pair in pairs)
        raise TsdistillError(f"{loss}:at={at}: no such group; give middle, all, or one of {names}")
    return named


def _map(inputs: int, outputs: int, generator: Generator) -> nn.Linear:
    """A linear layer whose initial weights come from ``generator`` only."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(outputs, inputs, generator=generator) / inputs**0.5)
        layer.bias.zero_()
    return layer


class AttentionTransfer(PairLoss):
    """‖Q/‖Q‖ − Q*/‖Q*‖‖² of the maps Q = Σ_channels activation², mean over samples and pairs of groups.

    For comparison only: it aligns where a layer is active, not which node is active.

    S. Zagoruyko, N. Komodakis, "Paying more attention to attention", ICLR 2017.

    Args:
        at: ``"all"`` pairs of groups that have maps, ``"middle"``, or the name of a student's group.
    """

    def __init__(self, at: str = "all") -> None:
        super().__init__()
        self.at = at

    def attach(
        self,
        student: nn.Module,
        teacher: nn.Module | None,
        batches: Batches,
        generator: Generator,  # noqa: ARG002
    ) -> None:
        """Pair groups that have maps in both models (see `PairLoss`).

        Raises:
            TsdistillError: no teacher, or no pair of groups that has maps in both models.
        """
        pairs = self._paired(student, teacher, batches).shared_pairs
        maps = tuple(pair for pair in pairs if pair.mapped)
        if not maps:
            raise TsdistillError(
                "attention-transfer needs feature maps in both models; give "
                f"{written('loss', 'node-alignment')}"
            )
        self._compare(_selected(maps, self.at, "attention-transfer"))

    def _of_pair(self, _number: int, student_block: Tensor, teacher_block: Tensor, /) -> Tensor:
        """From 0 to 4."""
        maps = [functional.normalize(x.square().mean(1), dim=1) for x in (student_block, teacher_block)]
        return (maps[0] - maps[1]).square().sum(1).mean()
