"""Small random networks of many kinds, and the reference that their cuts are held against."""

from __future__ import annotations

import copy
from typing import Any

import torch
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every norm, bias, scale and zero-initialised parameter a value that shows faults."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
                module.running_mean.normal_(0, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
        for parameter in model.parameters():
            if parameter.ndim <= 1 or parameter.abs().max() < 1e-3:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


class Convolve(nn.Module):
    def __init__(self, width, out, kernel, groups, bias, norm, act):
        super().__init__()
        self.conv = nn.Conv2d(width, out, kernel, padding=kernel // 2, groups=groups, bias=bias)
        norms = {
            "batch": nn.BatchNorm2d,
            "group": lambda n: nn.GroupNorm(2, n),
            "none": lambda n: nn.Identity(),
        }
        self.norm = norms[norm](out)
        self.act = {"relu": nn.ReLU(), "gelu": nn.GELU(), "silu": nn.SiLU(inplace=True)}[act]

    def forward(self, x):
        return self.act(self.norm(self.conv(x)))


class Residual(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.one = Convolve(width, hidden, 3, 1, False, "batch", "relu")
        self.two = nn.Conv2d(hidden, width, 1)

    def forward(self, x):
        return F.relu(x + self.two(self.one(x)))


class Concat(nn.Module):
    def __init__(self, width, left, right):
        super().__init__()
        self.left = nn.Conv2d(width, left, 3, padding=1)
        self.right = nn.Conv2d(width, right, 1)

    def forward(self, x):
        return torch.cat([self.left(x), F.relu(self.right(x)), x], dim=1)


class Chunk(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width // 2, width // 2, 3, padding=1)

    def forward(self, x):
        a, b = x.chunk(2, dim=1)
        return torch.cat([b * torch.sigmoid(a), self.conv(a)], dim=1)


class Slices(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first = width // 2 - 1
        self.conv = nn.Conv2d(width, width, 1)
        self.left = nn.Conv2d(self.first, 4, 1)
        self.right = nn.Conv2d(width - self.first, 4, 1)
        self.back = nn.Conv2d(4, width, 1)

    def forward(self, x):
        y = self.conv(x)
        return x + self.back(self.left(y[:, : self.first]) + self.right(y[:, self.first :]))


class SqueezeExcite(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.down = nn.Conv2d(width, 4, 1)
        self.up = nn.Conv2d(4, width, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))


class SpaceToDepth(nn.Module):
    def __init__(self, width, out):
        super().__init__()
        self.conv = nn.Conv2d(4 * width, out, 1)

    def forward(self, x):
        b, c, h, w = x.shape
        x = x.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4).reshape(b, 4 * c, h // 2, w // 2)
        return F.interpolate(self.conv(x), scale_factor=2)


class Attention(nn.Module):
    def __init__(self, width, heads, size):
        super().__init__()
        self.num_heads, self.head_dim = heads, size
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * heads * size)
        self.proj = nn.Linear(heads * size, width)

    def forward(self, x):
        b, c, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        qkv = self.qkv(self.norm(tokens)).reshape(b, h * w, 3, self.num_heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, h * w, -1)
        return x + self.proj(out).transpose(1, 2).reshape(b, c, h, w)


class Network(nn.Module):
    """A stem, random blocks, and a classifier on 3 x 8 x 8 images."""

    def __init__(self, first, blocks, last):
        super().__init__()
        self.stem = nn.Conv2d(3, first, 3, padding=1)
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(last * 4, 5)

    def forward(self, x):
        x = self.blocks(self.stem(x))
        return self.fc(F.adaptive_avg_pool2d(x, 2).flatten(1))


@st.composite
def networks(draw, spanning: bool = True) -> Network:
    """A random network; ``spanning`` allows norms whose statistics run over several nodes."""
    torch.manual_seed(draw(st.integers(0, 1000)))
    first = width = draw(st.sampled_from([8, 12]))
    blocks: list[nn.Module] = []
    kinds = ["conv", "grouped", "depthwise", "residual", "concat", "chunk", "slices", "se", "depth"]
    kinds += ["attention"] if spanning else []
    for kind in draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=4)):
        out = draw(st.sampled_from([8, 12]))
        new = {"depthwise": width, "concat": width + 10, "conv": out, "grouped": out, "depth": out}.get(
            kind, width
        )
        if kind in ("conv", "grouped", "depthwise"):
            groups = {"conv": 1, "grouped": draw(st.sampled_from([2, 4])), "depthwise": width}[kind]
            groups = 2 if width % groups or new % groups else groups
            norm = draw(st.sampled_from(["batch", "none", "group"] if spanning else ["batch", "none"]))
            act = draw(st.sampled_from(["relu", "gelu", "silu"]))
            block: nn.Module = Convolve(
                width, new, draw(st.sampled_from([1, 3])), groups, draw(st.booleans()), norm, act
            )
        else:
            block = _MAKE[kind](width, out)
        blocks.append(block)
        width = new
    network = Network(first, blocks, width).eval()
    randomise(network, draw(st.integers(0, 1000)))
    return network


_MAKE = {
    "residual": Residual,
    "concat": lambda width, out: Concat(width, 4, 6),
    "chunk": lambda width, out: Chunk(width),
    "slices": lambda width, out: Slices(width),
    "se": lambda width, out: SqueezeExcite(width),
    "depth": SpaceToDepth,
    "attention": lambda width, out: Attention(width, 4, 3),
}


def zeroed(model: nn.Module, graph, removed) -> nn.Module:
    """A copy of ``model`` with the removed nodes zeroed where they are read, and where they are written (for
    queries and keys, which are multiplied with one another).

    Norms that own removed coordinates compute their statistics over the coordinates that stay.
    """
    copied = copy.deepcopy(model)
    stays: dict[str, torch.Tensor] = {}
    for name, nodes in removed.items():
        for slot in graph.by_name[name].slots:
            owner, _, parameter = slot.param.rpartition(".")
            module = copied.get_submodule(owner)
            if isinstance(module, nn.LayerNorm | nn.GroupNorm) and parameter == "weight":
                kept = stays.setdefault(owner, torch.ones(module.weight.shape[slot.dim], dtype=torch.bool))
                kept[slot.coords[nodes].reshape(-1)] = False
            if parameter == "weight" and slot.param in graph.by_name[name].writers:
                rows = torch.as_tensor(slot.coords[nodes].reshape(-1))
                parameters = dict(copied.named_parameters())
                parameters[slot.param].data.index_fill_(slot.dim, rows, 0.0)
                if slot.dim == 0 and f"{owner}.bias" in parameters:
                    parameters[f"{owner}.bias"].data.index_fill_(0, rows, 0.0)
        for reader in graph.by_name[name].readers:
            assert reader.module is not None
            channels = torch.as_tensor(reader.coords[nodes].reshape(-1))

            def hook(_, args, channels=channels, dim=reader.channel_dim):
                return (args[0].index_fill(dim, channels, 0.0), *args[1:])

            copied.get_submodule(reader.module).register_forward_pre_hook(hook)
    for owner, kept in stays.items():
        copied.get_submodule(owner).forward = _norm_over(copied.get_submodule(owner), kept)
    return copied


def _norm_over(module: Any, kept: torch.Tensor):
    where = kept.nonzero()[:, 0]

    def layer(x):
        if x.shape[-1] != len(kept) or "2d" in type(module).__name__:
            return last(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return last(x)

    def last(x):
        shape = (len(where),)
        y = F.layer_norm(x[..., where], shape, module.weight[where], module.bias[where], module.eps)
        return torch.zeros_like(x).index_copy(-1, where, y)

    def group(x):
        size = len(kept) // module.num_groups
        groups = sum(bool(kept[i : i + size].any()) for i in range(0, len(kept), size))
        y = F.group_norm(x[:, where], groups, module.weight[where], module.bias[where], module.eps)
        return torch.zeros_like(x).index_copy(1, where, y)

    return layer if isinstance(module, nn.LayerNorm) else group
