"""Losses of outputs and labels: soft targets, logits, cross-entropy, decoupled."""

import pytest
import torch
from torch.nn import functional

from tests.distillation.networks import outputs
from tsdistill.distillation.losses.output_losses import (
    CrossEntropy,
    Decoupled,
    Logits,
    SoftTargets,
    decoupled_divergences,
)
from tsdistill.errors import TsdistillError


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("T", [1.0, 2.0, 4.0, 20.0])
def test_the_gradient_of_soft_targets_is_T_times_the_difference_of_probabilities(T: float) -> None:
    mine, theirs = random(7, 5).requires_grad_(), random(7, 5, seed=1)
    SoftTargets(T)(outputs(mine, theirs)).backward()
    expected = T * ((mine / T).softmax(1) - (theirs / T).softmax(1)) / 7
    torch.testing.assert_close(mine.grad, expected.detach())


def test_at_a_high_temperature_the_gradient_is_that_of_the_centred_squared_difference() -> None:
    mine, theirs = random(7, 5).requires_grad_(), random(7, 5, seed=1)
    SoftTargets(1e4)(outputs(mine, theirs)).backward()
    difference = (mine - theirs).detach()
    expected = (difference - difference.mean(1, keepdim=True)) / (5 * 7)
    torch.testing.assert_close(mine.grad, expected, rtol=1e-2, atol=1e-4)


def test_without_temperature_soft_targets_are_the_divergence_itself() -> None:
    mine, theirs = random(7, 5), random(7, 5, seed=1)
    p, q = theirs.softmax(1), mine.softmax(1)
    torch.testing.assert_close(SoftTargets(1)(outputs(mine, theirs)), (p * (p / q).log()).sum(1).mean())
    assert abs(SoftTargets(3)(outputs(mine, mine + 2))) < 1e-9


def test_logits_are_the_theorys_half_squared_difference() -> None:
    mine, theirs = random(6, 4).requires_grad_(), random(6, 4, seed=1)
    loss = Logits()(outputs(mine, theirs))
    torch.testing.assert_close(loss, 0.5 * (mine - theirs).square().sum(1).mean())
    loss.backward()
    torch.testing.assert_close(mine.grad, ((mine - theirs) / 6).detach())


def test_the_divergence_is_tckd_plus_what_the_target_leaves_of_nckd() -> None:
    mine, theirs = random(50, 10), random(50, 10, seed=1)
    target = torch.arange(50) % 10
    tckd, nckd = decoupled_divergences(mine, theirs, target)
    p, q = theirs.softmax(1), mine.softmax(1)
    rest = 1 - p.gather(1, target[:, None])[:, 0]
    torch.testing.assert_close(tckd + rest * nckd, (p * (p / q).log()).sum(1))
    assert (tckd >= -1e-12).all()
    assert (nckd >= -1e-12).all()
    assert nckd.std() > 0.01


def test_decoupled_weighs_its_parts_and_grows_over_the_warmup() -> None:
    mine, theirs, y = random(20, 10), random(20, 10, seed=1), torch.arange(20) % 10
    tckd, nckd = decoupled_divergences(mine / 4, theirs / 4, y)
    expected = 16 * (2 * tckd + 3 * nckd).mean()
    torch.testing.assert_close(Decoupled(alpha=2, beta=3)(outputs(mine, theirs, y)), expected)
    half = Decoupled(alpha=2, beta=3, warmup=2)(outputs(mine, theirs, y, epoch=1.0))
    torch.testing.assert_close(half, expected / 2)
    mixed = functional.one_hot(y, 10).double()
    torch.testing.assert_close(Decoupled(alpha=2, beta=3)(outputs(mine, theirs, mixed)), expected)


def test_decoupled_goes_without_labels_by_the_teachers_class() -> None:
    mine, theirs = random(20, 10), random(20, 10, seed=1)
    own = Decoupled(target="teacher")
    assert not own.needs_labels
    torch.testing.assert_close(
        own(outputs(mine, theirs)), Decoupled()(outputs(mine, theirs, theirs.argmax(1)))
    )


def test_cross_entropy_takes_labels_and_probabilities() -> None:
    mine, y = random(12, 4), torch.arange(12) % 4
    loss = CrossEntropy()(outputs(mine, y=y))
    torch.testing.assert_close(loss, -mine.log_softmax(1)[torch.arange(12), y].mean())
    torch.testing.assert_close(CrossEntropy()(outputs(mine, y=functional.one_hot(y, 4).float())), loss)
    smoothed = CrossEntropy(0.2)(outputs(mine, y=y))
    torch.testing.assert_close(smoothed, 0.8 * loss - 0.2 * mine.log_softmax(1).mean())


def test_half_precision_is_widened() -> None:
    mine, theirs = random(8, 4).to(torch.bfloat16), random(8, 4, seed=1).to(torch.bfloat16)
    for loss in (SoftTargets(), Logits(), Decoupled(target="teacher")):
        assert loss(outputs(mine, theirs)).dtype == torch.float32


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: SoftTargets()(outputs(random(4, 5), random(4, 6))), "(4, 5), the teacher's (4, 6)"),
        (lambda: SoftTargets()(outputs(random(4, 5))), "needs a teacher"),
        (lambda: CrossEntropy()(outputs(random(4, 5))), "needs labels"),
        (lambda: CrossEntropy()(outputs(random(2, 5), y=torch.tensor([0, 5]))), "a label is 5"),
        (lambda: CrossEntropy()(outputs(random(2, 5), y=torch.tensor([0, -1]))), "a label is -1"),
        (lambda: CrossEntropy()(outputs(random(2, 5), y=torch.zeros(2, 3))), "labels of shape (2, 3)"),
        (lambda: SoftTargets(0), "T=0: give a number above 0"),
        (lambda: CrossEntropy(1), "smoothing=1"),
        (lambda: Decoupled(target="you"), "target=you"),
        (lambda: Decoupled()(outputs(random(4, 1), random(4, 1), torch.zeros(4).long())), "two classes"),
    ],
)
def test_what_does_not_fit_is_said(call, words: str) -> None:
    with pytest.raises(TsdistillError) as caught:
        call()
    assert words in str(caught.value)
