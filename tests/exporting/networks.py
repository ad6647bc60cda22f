"""Pruned models, made once for all tests of this folder, and a small one of nobody's catalog."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import torch
from torch import nn

import tsdistill as tsd
from tsdistill.models import attach

RESNET = "timm:test_resnet"
VIT = "timm:test_vit"
EFFICIENTNET = "timm:test_efficientnet"
RELATIVE = "timm:test_vit_relpos"


@cache
def halved(spec: str, side: int | None = None) -> nn.Module:
    """A model without half of the nodes of every group, chosen at random; its parameters are random too."""
    torch.manual_seed(0)
    model = tsd.load(
        f"{spec},pretrained=false", inputs={"input_size": None if side is None else (3, side, side)}
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    x = tsd.example_input(model)
    graph = tsd.trace(model, x, check=False)
    rng = np.random.default_rng(0)
    gone = {group.name: rng.permutation(group.size)[: group.size // 2] for group in graph.groups}
    done = tsd.cut(model, graph, gone, x)
    attach(done.model, replace(tsd.info_of(model), attributes=done.attributes, buffers=done.buffers))
    kept = sum(p.numel() for p in done.model.parameters()) / sum(p.numel() for p in model.parameters())
    assert kept < 0.85, f"{spec}: {kept:.2f} of the parameters are left"
    return done.model.eval()


def vectors() -> nn.Module:
    """A network of two layers for 8 figures."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))


class Words(nn.Module):
    """Word numbers and which of them count, by keyword; two outputs by name."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, ids: torch.Tensor, keep: torch.Tensor) -> dict[str, torch.Tensor]:
        words = self.embed(ids) * keep[..., None]
        return {"scores": self.head(words.mean(1)), "words": words}


def words() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """`Words` and an example of its inputs."""
    torch.manual_seed(0)
    return Words().eval(), {"ids": torch.randint(3, 20, (1, 5)), "keep": torch.ones(1, 5)}


class Pairs(nn.Module):
    """Takes batches of two and no other."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).reshape(2, 4)
