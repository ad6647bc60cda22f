"""The rank of a low-rank adapter stays whole unless it is asked for; the widths beside it are cut."""

import torch
from torch import nn

import tsdistill as tsd


class Adapted(nn.Module):
    """A linear layer with a low-rank adapter beside it."""

    def __init__(self, inner, outer):
        super().__init__()
        self.base = nn.Linear(inner, outer)
        self.lora_A = nn.ModuleDict({"default": nn.Linear(inner, 4, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(4, outer, bias=False)})
        nn.init.zeros_(self.lora_B["default"].get_parameter("weight"))

    def forward(self, x):
        return self.base(x) + self.lora_B["default"](self.lora_A["default"](x))


def _model():
    torch.manual_seed(0)
    return nn.Sequential(Adapted(8, 24), nn.ReLU(), Adapted(24, 16), nn.ReLU(), nn.Linear(16, 3)).eval()


def _ranks(model):
    return [model[place].lora_A["default"].weight.shape[0] for place in (0, 2)]


def test_ranks_stay_unless_they_are_asked_for():
    model, data = _model(), torch.randn(96, 8)
    small = tsd.prune(model, data=data, macs=0.5)
    assert _ranks(small) == [4, 4]
    assert small[2].base.weight.numel() < model[2].base.weight.numel()
    assert _ranks(tsd.prune(model, data=data, budget="lossless")) == [4, 4]
    asked = tsd.prune(model, data=data, budget={"nodes": 0.9}, selection={"only": "*lora_A*"})
    assert sum(_ranks(asked)) < 8
    assert asked[2].base.weight.shape == model[2].base.weight.shape
