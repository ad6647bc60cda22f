"""Losses of outputs with positions: where the classes are, and what does not count."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tsdistill.distillation.losses import Loss, Step
from tsdistill.distillation.losses.output_losses import (
    CrossEntropy,
    Decoupled,
    Logits,
    SoftTargets,
    SquaredError,
)
from tsdistill.errors import TsdistillError

NOBODY = nn.Identity()
LOSSES = [
    SoftTargets(2.0),
    Logits(),
    SquaredError(),
    SquaredError(relative=False),
    CrossEntropy(),
    CrossEntropy(0.1),
    Decoupled(),
    Decoupled(target="teacher"),
]
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)


def random(*shape: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(*shape: int, classes: int = 7) -> Tensor:
    return torch.randint(classes, shape, generator=torch.Generator().manual_seed(5))


def step(mine: Tensor, theirs: Tensor, y: Any = None, x: Any = None) -> Step:
    return Step(x, y, mine, theirs, NOBODY)


@every_loss
@settings(max_examples=10, deadline=None)
@given(batch=st.integers(1, 4), length=st.integers(1, 6), classes=st.integers(2, 9))
def test_a_position_is_a_sample(loss: Loss, batch: int, length: int, classes: int) -> None:
    mine, theirs = random(batch, length, classes), random(batch, length, classes, seed=1)
    y = labels(batch, length, classes=classes)
    expected = loss(step(mine.flatten(0, 1), theirs.flatten(0, 1), y.flatten()))
    torch.testing.assert_close(loss(step(mine, theirs, y)), expected)
    one, other = (x.view(batch, length, 1, classes).movedim(-1, 1) for x in (mine, theirs))
    torch.testing.assert_close(loss(step(one, other, y.view(batch, length, 1))), expected)
    order = torch.randperm(length, generator=torch.Generator().manual_seed(length))
    torch.testing.assert_close(loss(step(mine[:, order], theirs[:, order], y[:, order])), expected)


def test_soft_targets_of_a_sequence_are_the_divergence_of_a_token() -> None:
    mine, theirs = random(3, 5, 7), random(3, 5, 7, seed=1)
    p, q = theirs.softmax(-1), mine.softmax(-1)
    expected = (p * (p / q).log()).sum() / 15
    assert float(expected) > 1
    torch.testing.assert_close(SoftTargets(1)(step(mine, theirs)), expected)


def test_the_relative_error_is_that_of_compare() -> None:
    mine, theirs = random(4, 3, 2), random(4, 3, 2, seed=1) + 40
    expected = (mine - theirs).square().sum() / (theirs - theirs.mean()).square().sum()
    torch.testing.assert_close(SquaredError()(step(mine, theirs)), expected)
    torch.testing.assert_close(
        SquaredError(relative=False)(step(mine, theirs)), (mine - theirs).square().mean()
    )
    constant = torch.full_like(mine, 2.0)
    torch.testing.assert_close(SquaredError()(step(mine, constant)), (mine - constant).square().mean() / 4)
    torch.testing.assert_close(SquaredError()(step(mine, 0 * mine)), mine.square().mean())


@every_loss
@pytest.mark.parametrize("noise", [1e3, float("nan"), float("inf")])
@pytest.mark.parametrize("by", ["mask", "labels"])
def test_a_padded_batch_gives_the_loss_of_the_batch(loss: Loss, noise: float, by: str) -> None:
    mine, theirs, y = random(3, 4, 7), random(3, 4, 7, seed=1), labels(3, 4)
    lengths = torch.tensor([4, 2, 1])
    kept = torch.arange(6) < lengths[:, None]
    full = [torch.cat([x, x[:, :2]], 1) for x in (mine, theirs)]
    expected = loss(step(full[0][kept][None], full[1][kept][None], torch.cat([y, y[:, :2]], 1)[kept][None]))
    padded = [torch.where(kept[..., None], x, noise * random(3, 6, 7, seed=3)) for x in full]
    student = padded[0].requires_grad_()
    ignored = torch.where(kept, torch.cat([y, y[:, :2]], 1), -100 if by == "labels" else 0)
    x = {"attention_mask": kept.long()} if by == "mask" else None
    found = loss(step(student, padded[1], ignored, x))
    torch.testing.assert_close(found, expected)
    found.backward()
    assert student.grad is not None
    assert bool(torch.isfinite(student.grad).all())
    assert not student.grad[~kept].any()


@every_loss
def test_without_a_position_that_counts_the_loss_is_zero(loss: Loss) -> None:
    mine = random(2, 3, 7).requires_grad_()
    found = loss(step(mine, random(2, 3, 7), torch.full((2, 3), -100)))
    assert float(found.detach()) == 0
    found.backward()


def test_probabilities_of_positions() -> None:
    mine, theirs, y = random(3, 4, 7), random(3, 4, 7, seed=1), labels(3, 4)
    sure = torch.nn.functional.one_hot(y, 7).double()
    for loss in (CrossEntropy(), Decoupled()):
        expected = loss(step(mine, theirs, y))
        torch.testing.assert_close(loss(step(mine, theirs, sure)), expected)
        one, other, probabilities = (x.movedim(-1, 1)[..., None] for x in (mine, theirs, sure))
        torch.testing.assert_close(loss(step(one, other, probabilities)), expected)
        named = {"output": y, "other": y[:, :1]}
        torch.testing.assert_close(loss(step(mine, theirs, named)), expected)


def test_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(TsdistillError, match=r"\(3, 4\)"):
        CrossEntropy()(step(random(3, 4, 7), random(3, 4, 7), labels(3)))
    for loss in (CrossEntropy(), Decoupled()):
        with pytest.raises(TsdistillError, match="do not sum to 1"):
            loss(step(random(3, 7), random(3, 7), random(3, 7)))
    with pytest.raises(TsdistillError, match="a label for each value"):
        SquaredError(target="label")(step(random(3, 7), random(3, 7), labels(3)))


def test_labels_that_are_values_take_the_place_of_the_teacher() -> None:
    mine, y = random(5, 3), random(5, 3, seed=1)
    loss = SquaredError(target="label")
    assert (loss.needs_labels, loss.needs_teacher) == (True, False)
    torch.testing.assert_close(loss(step(mine, mine, y)), SquaredError()(step(mine, y)))
    whole = labels(5)
    torch.testing.assert_close(
        loss(step(mine[:, :1], mine[:, :1], whole)),
        SquaredError()(step(mine[:, :1], whole[:, None].double())),
    )
