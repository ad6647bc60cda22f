"""Small networks with residual branches of every kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.networks import randomise

WIDTH = 8


class Attention(nn.Module):
    """Attention over tokens ``[n, tokens, WIDTH]``; gives its weights, too."""

    def __init__(self, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        n, count, _ = tokens.shape
        q, k, v = self.qkv(tokens).reshape(n, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2)).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).reshape(n, count, -1)), weights


def feed_forward() -> nn.Sequential:
    return nn.Sequential(nn.Linear(WIDTH, 16), nn.GELU(), nn.Dropout(0.1), nn.Linear(16, WIDTH))


class PreNorm(nn.Module):
    """A norm before each branch."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(WIDTH), Attention()
        self.norm2, self.mlp = nn.LayerNorm(WIDTH), feed_forward()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))[0]
        return x + self.mlp(self.norm2(x))


class PostNorm(PreNorm):
    """A norm behind each sum."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.attention(x)[0] + x)
        return self.norm2(x + self.mlp(x))


class Parallel(PreNorm):
    """Both branches read one norm, and one sum joins them."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        return self.attention(tokens=y)[0] + self.mlp(y) + x


class Scaled(PreNorm):
    """Scales of a channel each, and attention in the block's own code."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.addcmul(x, self.gamma, self.attention(self.norm1(x))[0])
        return x + self.gamma * self.mlp(self.norm2(x))


class Gated(nn.Module):
    """What the branch gives is weighed by a gate, the stream by the rest (a highway network)."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.layer = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate(x).sigmoid()
        return gate * self.layer(x).relu() + (1 - gate) * x


class Conditioned(nn.Module):
    """One layer computes the gates of both branches from the mean of the stream (adaptive norms)."""

    def __init__(self) -> None:
        super().__init__()
        self.gates, self.norm = nn.Linear(WIDTH, 2 * WIDTH), nn.LayerNorm(WIDTH)
        self.first, self.second = feed_forward(), feed_forward()

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.gates(x.mean(1, keepdim=True)).chunk(2, -1)
        x = x + one * self.first(self.norm(x))
        return x + other * self.second(self.norm(x))


class Tokens(nn.Module):
    """Blocks over embedded tokens, and a layer that reads their mean."""

    def __init__(self, block: type[nn.Module], depth: int = 2) -> None:
        super().__init__()
        self.embedding = nn.Linear(5, WIDTH)
        self.blocks = nn.ModuleList(block() for _ in range(depth))
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


class Basic(nn.Module):
    """Two convolutions; one activation serves twice, and works in place."""

    def __init__(self, read: int = WIDTH, written: int = WIDTH, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(read, written, 3, stride, 1, bias=False), nn.BatchNorm2d(written)
        self.conv2, self.bn2 = nn.Conv2d(written, written, 3, 1, 1, bias=False), nn.BatchNorm2d(written)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride > 1 or read != written:
            self.downsample = nn.Sequential(
                nn.Conv2d(read, written, 1, stride, bias=False), nn.BatchNorm2d(written)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class Padded(Basic):
    """A shortcut without weights: every second position, and channels of zeros."""

    def __init__(self, read: int = WIDTH, written: int = WIDTH, stride: int = 1) -> None:
        super().__init__(read, written, stride)
        self.stride, self.more = stride, written - read
        self.downsample = None

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)), inplace=True)))
        short = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        return functional.relu(short + y)


class Inverted(nn.Module):
    """An inverted residual with squeeze and excitation."""

    def __init__(self, read: int = WIDTH, written: int = WIDTH, stride: int = 1) -> None:
        super().__init__()
        self.adds = stride == 1 and read == written
        inner = 2 * read
        self.expand = nn.Sequential(nn.Conv2d(read, inner, 1), nn.BatchNorm2d(inner), nn.ReLU6(True))
        self.depthwise = nn.Conv2d(inner, inner, 3, stride, 1, groups=inner)
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(inner, inner, 1), nn.Sigmoid())
        self.project = nn.Conv2d(inner, written, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(self.expand(x))
        y = self.project(y * self.squeeze(y))
        return x + y if self.adds else y


class Nested(nn.Module):
    """A branch in which there is a branch."""

    def __init__(self, *_: int) -> None:
        super().__init__()
        self.inner = Basic()
        self.conv = nn.Conv2d(WIDTH, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(self.inner(x))


class Maps(nn.Module):
    """Blocks over maps ``[n, WIDTH, side, side]`` with one of another resolution and width among them."""

    def __init__(self, block: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.layer1 = nn.Sequential(block(), block())
        self.layer2 = nn.Sequential(block(WIDTH, 12, 2))
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(functional.relu(self.stem(x))))
        return self.head(x.mean((2, 3)))


class Fixed(Maps):
    """The same with blocks of one resolution."""

    def __init__(self, block: Callable[..., nn.Module]) -> None:
        super().__init__(block)
        self.layer2 = nn.Sequential(nn.Conv2d(WIDTH, 12, 1))


def network(kind: str) -> tuple[nn.Module, Any]:
    """A randomised network, and an input of batch 1."""
    torch.manual_seed(0)
    block = BLOCKS[kind]
    if issubclass(block, PreNorm | Gated | Conditioned):
        return randomise(Tokens(block)), torch.randn(1, 6, 5)
    return randomise((Fixed if block is Nested else Maps)(block)), torch.randn(1, 3, 9, 9)


BLOCKS: dict[str, type[nn.Module]] = {
    "pre-norm": PreNorm,
    "post-norm": PostNorm,
    "parallel": Parallel,
    "scaled": Scaled,
    "gated": Gated,
    "conditioned": Conditioned,
    "basic": Basic,
    "padded": Padded,
    "inverted": Inverted,
    "nested": Nested,
}
