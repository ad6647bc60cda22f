from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tsdistill.errors import TsdistillError
from tsdistill.lab.layers.recursive_gradient import gradient_rule, modulation, node_layers


def by_autograd(student: nn.Sequential, teacher: nn.Module, x: Tensor) -> list[Tensor]:
    """−∂J/∂(pre-activation) of every ReLU, J summed over samples."""
    pre, h = [], x
    for module in student:
        if isinstance(module, nn.ReLU | nn.LeakyReLU):
            h = h.detach().requires_grad_() if not h.requires_grad else h
            pre.append(h)
        h = module(h)
    loss = (teacher(x).detach() - h).square().sum() / 2
    return [-each for each in torch.autograd.grad(loss, pre)]


def drawn(make: Callable[[], nn.Sequential], seed: int) -> nn.Sequential:
    model = make().double().eval()
    generator = torch.Generator().manual_seed(seed)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator, dtype=torch.float64) - 0.45)
    for module in model:
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d) and module.running_var is not None:
            module.running_var.abs_().add_(0.2)
    return model


def mlp(sizes: list[int], act: nn.Module, bias: bool = True) -> Callable[[], nn.Sequential]:
    def make() -> nn.Sequential:
        found: list[nn.Module] = []
        for low, high in pairwise(sizes[:-1]):
            found += [nn.Linear(low, high, bias=bias), act]
        return nn.Sequential(*found, nn.Linear(sizes[-2], sizes[-1], bias=bias))

    return make


def convnet(width: int, act: Callable[[], nn.Module], pool: nn.Module) -> Callable[[], nn.Sequential]:
    def make() -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(2, width, 3, padding=1),
            nn.BatchNorm2d(width),
            act(),
            pool,
            nn.Conv2d(width, width + 1, 3, stride=2, bias=False),
            act(),
            nn.Dropout(),
            nn.Flatten(),
            nn.Linear((width + 1) * 4, 5),
            nn.BatchNorm1d(5),
            act(),
            nn.Linear(5, 3),
        )

    return make


def agree(student: nn.Sequential, teacher: nn.Sequential, x: Tensor) -> None:
    rules = gradient_rule(student, teacher, x)
    for rule, wanted in zip(rules, by_autograd(student, teacher, x), strict=True):
        assert (rule.gradient - wanted).abs().max() <= 1e-12 * (1 + wanted.abs().max())


@given(
    widths=st.lists(st.tuples(st.integers(1, 7), st.integers(1, 5)), min_size=1, max_size=5),
    ends=st.tuples(st.integers(1, 5), st.integers(1, 4)),
    slope=st.sampled_from([0.0, 0.01, 0.3]),
    bias=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=25, deadline=None)
def test_lemma_1_equals_autograd_for_any_depth(
    widths: list[tuple[int, int]], ends: tuple[int, int], slope: float, bias: bool, seed: int
) -> None:
    act = nn.LeakyReLU(slope) if slope else nn.ReLU()
    first, last = ends
    student = drawn(mlp([first, *(own for own, _ in widths), last], act, bias), seed)
    teacher = drawn(mlp([first, *(other for _, other in widths), last], act, bias), seed + 1)
    x = torch.randn(6, first, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    agree(student, teacher, x)


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(5)])
@pytest.mark.parametrize("act", [nn.ReLU, lambda: nn.LeakyReLU(0.2), lambda: nn.ReLU(inplace=True)])
def test_lemma_1_equals_autograd_for_convnets(pool: nn.Module, act: Callable[[], nn.Module]) -> None:
    student, teacher = drawn(convnet(4, act, pool), 0), drawn(convnet(3, act, pool), 1)
    x = torch.randn(3, 2, 10, 10, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    rules = gradient_rule(student, teacher, x)
    free = drawn(
        convnet(
            4,
            lambda: nn.LeakyReLU(0.2) if isinstance(act(), nn.LeakyReLU) else nn.ReLU(),
            pool,
        ),
        0,
    )
    for rule, wanted in zip(rules, by_autograd(free, teacher, x), strict=True):
        torch.testing.assert_close(rule.gradient, wanted, rtol=1e-11, atol=1e-11)


def test_each_layer_gives_the_output() -> None:
    model = drawn(convnet(4, nn.ReLU, nn.MaxPool2d(2)), 3)
    x = torch.randn(2, 2, 10, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for layer in node_layers(model, x):
        found = (layer.fan_out * layer.nodes.unsqueeze(1)).flatten(2).sum(2) + layer.constant
        torch.testing.assert_close(found, model(x), rtol=1e-11, atol=1e-11)


def test_modulation_is_the_jacobian() -> None:
    student, teacher = drawn(mlp([4, 6, 5, 3], nn.ReLU()), 0), drawn(mlp([4, 3, 2, 3], nn.ReLU()), 1)
    x = torch.randn(20, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    whole = modulation(student, teacher, x)
    hidden = student[:2](x)
    jacobian = torch.func.vmap(torch.func.jacrev(student[2:]))(hidden)
    torch.testing.assert_close(whole[0].beta, (jacobian.mT @ jacobian).mean(0))


def test_modulation_of_channels_sums_over_positions() -> None:
    student, teacher = (
        drawn(convnet(4, nn.ReLU, nn.AvgPool2d(2)), 0),
        drawn(convnet(3, nn.ReLU, nn.AvgPool2d(2)), 1),
    )
    x = torch.randn(2, 2, 10, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = modulation(student, teacher, x)
    assert [tuple(each.alpha.shape) for each in found if each.alpha is not None] == [(4, 3), (5, 4), (5, 5)]
    v = node_layers(student, x)[0].fan_out
    torch.testing.assert_close(found[0].beta.diagonal(), v.square().sum((1, 3, 4)).mean(0))


def test_what_cannot_be() -> None:
    x = torch.randn(2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one, two = drawn(mlp([4, 3, 2], nn.ReLU()), 0), drawn(mlp([4, 3, 3, 2], nn.ReLU()), 0)
    for student, teacher, said in (
        (one, two, r"\b1\b.*\b2\b"),
        (one, drawn(mlp([4, 3, 5], nn.ReLU()), 0), r"\b2\b.*\b5\b"),
        (drawn(mlp([4, 3, 2], nn.GELU()), 0), one, "GELU"),
        (nn.Sequential(nn.Linear(4, 2).double()), one, "ReLU"),
        (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2)).double(), one, "eval"),
    ):
        with pytest.raises(TsdistillError, match=said):
            gradient_rule(student, teacher, x)
