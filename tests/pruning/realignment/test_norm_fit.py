import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsdistill.pruning.realignment.norm_fit import Affine, is_norm

NORMS: list[tuple[nn.Module, tuple[int, ...], int]] = [
    (nn.BatchNorm2d(6), (8, 6, 5, 5), 1),
    (nn.LayerNorm(6), (8, 7, 6), -1),
    (nn.GroupNorm(2, 6), (8, 6, 4, 4), 1),
    (nn.RMSNorm(6), (8, 6), -1),
]


@pytest.mark.parametrize(("norm", "shape", "dim"), NORMS, ids=[str(norm) for norm, _, _ in NORMS])
def test_scale_and_shift_are_found(norm: nn.Module, shape: tuple[int, ...], dim: int) -> None:
    norm = copy.deepcopy(norm).eval().requires_grad_(False)
    other = copy.deepcopy(norm)
    other.weight.copy_(torch.rand(6) + 0.5)
    if getattr(other, "bias", None) is not None:
        other.bias.copy_(torch.randn(6))
    fit = Affine(norm, dim)
    for _ in range(3):
        x = torch.randn(shape)
        fit.add(norm(x), other(x))
    assert fit.fit()
    x = torch.randn(shape)
    torch.testing.assert_close(norm(x), other(x), atol=2e-2, rtol=2e-2)


def test_noise_moves_nothing() -> None:
    norm = nn.BatchNorm2d(200).eval().requires_grad_(False)
    fit = Affine(norm, 1)
    x = torch.randn(6, 200, 1, 1)
    fit.add(norm(x), norm(x) + torch.randn(6, 200, 1, 1))
    fit.fit()
    assert (norm.weight == 1).float().mean() > 0.4


class Bent(nn.BatchNorm2d):
    """A batch norm with a non-linearity of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x))


def test_only_what_is_linear_in_its_parameters_is_a_norm() -> None:
    x = torch.randn(4, 6, 3, 3)
    assert is_norm(nn.BatchNorm2d(6).eval(), x)
    assert is_norm(nn.GroupNorm(3, 6), x)
    assert not is_norm(Bent(6).eval(), x)
    assert not is_norm(nn.BatchNorm2d(6, affine=False), x)
    assert not is_norm(nn.Conv2d(6, 6, 1), x)
