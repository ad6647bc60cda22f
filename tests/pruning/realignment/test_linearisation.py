"""Products with a Jacobian are those of the whole Jacobian, whatever the layers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.networks import randomise
from tsdistill.pruning.realignment.linearisation import CheapSecondDerivatives, Linearised


class Attention(nn.Module):
    """Tokens that look at one another, behind a layer norm over two dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.end = nn.LayerNorm((5, 6)), nn.Linear(6, 18), nn.Linear(6, 4)
        self.last = nn.LayerNorm(4, elementwise_affine=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        return self.last(self.end(nn.functional.scaled_dot_product_attention(q, k, v)))


def _convolutions(one: nn.Module, other: nn.Module, norm: nn.Module | None = None) -> nn.Module:
    return nn.Sequential(one, norm or nn.Identity(), nn.Tanh(), other)


BLOCKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "attention": (Attention, (2, 5, 6)),
    "plain": (
        lambda: _convolutions(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 1), nn.BatchNorm2d(4)),
        (2, 3, 5, 4),
    ),
    "strides": (
        lambda: _convolutions(
            nn.Conv2d(3, 4, (3, 2), stride=(2, 1), dilation=(1, 2)), nn.Conv2d(4, 2, 2, bias=False)
        ),
        (2, 3, 7, 6),
    ),
    "depthwise": (
        lambda: _convolutions(nn.Conv2d(4, 8, 3, padding="same", groups=4), nn.Conv2d(8, 8, 3, groups=2)),
        (2, 4, 5, 5),
    ),
    "lines": (
        lambda: _convolutions(nn.Conv1d(2, 3, 3, padding_mode="circular", padding=1), nn.Conv1d(3, 2, 2)),
        (2, 2, 6),
    ),
    "volumes": (lambda: _convolutions(nn.Conv3d(2, 3, 2), nn.ConvTranspose3d(3, 1, 2)), (1, 2, 3, 3, 3)),
}


@pytest.mark.parametrize("cheap", [False, True])
@pytest.mark.parametrize("kind", BLOCKS)
def test_products_with_the_jacobian_are_those_of_the_whole_jacobian(kind: str, cheap: bool) -> None:
    make, shape = BLOCKS[kind]
    torch.manual_seed(0)
    block = randomise(make()).double().requires_grad_(False).eval()
    x = torch.randn(shape, dtype=torch.float64)
    at: dict[str, Tensor] = dict(block.named_parameters())

    def run(parameters: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(block, parameters, (x,))

    with sdpa_kernel(SDPBackend.MATH):
        with CheapSecondDerivatives() if cheap else nullcontext():
            linear = Linearised(run, at)
        torch.testing.assert_close(linear.y, run(at))
        whole = torch.func.jacrev(run)(at)
        v = {name: torch.randn_like(p) for name, p in at.items()}
        u = torch.randn_like(linear.y)
        along, back = linear.times(v), linear.transposed(u)
    expected = sum((whole[name].flatten(u.ndim) @ v[name].flatten() for name in at), torch.zeros_like(u))
    torch.testing.assert_close(along, expected)
    for name in at:
        torch.testing.assert_close(back[name].flatten(), u.flatten() @ whole[name].reshape(u.numel(), -1))
