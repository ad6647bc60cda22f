"""A cut model runs wherever the whole one runs: with fused kernels, with padding masks, in training mode."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import nn

import tsdistill as tsd


class Text(nn.Module):
    """A classifier of padded token sequences, as PyTorch's tutorials write it."""

    def __init__(self, *, nested: bool = True, heads: int = 4) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(24, heads, 32, batch_first=True)
        self.table = nn.Embedding(30, 24, padding_idx=0)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested)
        self.out = nn.Linear(24, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        padding = tokens == 0
        seen = self.encoder(self.table(tokens), src_key_padding_mask=padding)
        return self.out(seen.masked_fill(padding[..., None], 0).sum(1))


def tokens() -> torch.Tensor:
    drawn = torch.randint(1, 30, (4, 7), generator=torch.Generator().manual_seed(0))
    drawn[::2, 5:] = 0
    return drawn


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("part", ["self_attn", "linear1", "table", ""])
def test_a_cut_encoder_takes_padding_masks_in_every_mode(nested: bool, part: str) -> None:
    torch.manual_seed(0)
    model, x = Text(nested=nested).eval(), tokens()
    graph = tsd.trace(model, x[:1])
    removed = {g.name: list(range(g.size // 2 // g.step * g.step)) for g in graph.groups if part in g.name}
    assert removed
    cut = tsd.cut(model, graph, removed, x[:1])
    assert not cut.put_back
    with_gradients = cut.model(x)  # the fused path is for forwards without gradients
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            torch.testing.assert_close(cut.model(x), with_gradients.detach(), atol=1e-5, rtol=1e-4)
    cut.model.train()(x).sum().backward()


def test_an_encoder_with_a_head_less_in_one_layer_takes_padding_masks() -> None:
    """PyTorch looks at the heads of the first layer only before it makes nested tensors."""
    torch.manual_seed(0)
    model, x = Text().eval(), tokens()
    graph = tsd.trace(model, x[:1])
    last = next(group for group in graph.groups if "layers.1.self_attn" in group.name)
    cut = tsd.cut(model, graph, {last.name: list(range(last.size // 4))}, x[:1])
    with torch.no_grad():
        out = cut.model(x)
    torch.testing.assert_close(out, cut.model(x).detach(), atol=1e-5, rtol=1e-4)


class Split(nn.Module):
    """A network that takes another way, with the width written into it, where ``other`` says so."""

    def __init__(self, other: str) -> None:
        super().__init__()
        self.one, self.two, self.other = nn.Linear(6, 12), nn.Linear(12, 3), other
        self.free = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.one(x).relu()
        if torch.is_inference_mode_enabled() if self.other == "inference" else self.training:
            hidden = hidden + torch.zeros(12)
        return self.two(hidden) + self.free(x)


@pytest.mark.parametrize("other", ["inference", "training"])
def test_what_breaks_only_in_use_is_put_back(other: str) -> None:
    torch.manual_seed(0)
    model, x = Split(other).eval(), torch.randn(1, 6)
    graph = tsd.trace(model, x)
    cut = tsd.cut(model, graph, {group.name: [0, 1, 2] for group in graph.groups}, x)
    assert [frozen.name for frozen in cut.put_back] == ["one"]
    assert other in cut.put_back[0].cause
    with torch.inference_mode():
        assert cut.model(x).shape == (1, 3)
    assert cut.model.train()(x).shape == (1, 3)
    assert sum(p.numel() for p in cut.model.parameters()) < sum(p.numel() for p in model.parameters())


class Delegated(Split):
    """As ``Split``, where a function from outside looks at the mode of one of PyTorch's own modules."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.one(x).relu()
        if in_training(self.two):
            hidden = hidden + torch.zeros(12)
        return self.two(hidden) + self.free(x)


def in_training(module: nn.Module) -> bool:
    return module.training


def test_the_mode_of_any_module_may_decide_what_runs() -> None:
    torch.manual_seed(0)
    model, x = Delegated("training").eval(), torch.randn(1, 6)
    graph = tsd.trace(model, x)
    cut = tsd.cut(model, graph, {group.name: [0, 1, 2] for group in graph.groups}, x)
    assert [frozen.name for frozen in cut.put_back] == ["one"]


class Counted(nn.Module):
    """A network of PyTorch's own layers that counts its forwards, those of its copies with them."""

    forwards: ClassVar[list[int]] = []

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        Counted.forwards.append(len(x))
        return self.layers(x).mean((2, 3))


def test_trace_and_cut_of_plain_layers_take_six_forwards() -> None:
    """One with labels; a cut copy and its reference in ``trace`` and in ``cut``; one in inference mode."""
    torch.manual_seed(0)
    model, x = Counted().eval(), torch.randn(1, 3, 9, 9)
    Counted.forwards.clear()
    graph = tsd.trace(model, x)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    cut = tsd.cut(model, graph, {graph.groups[0].name: [1, 2, 5]}, x)
    assert Counted.forwards == [1] * 6
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not cut.put_back
