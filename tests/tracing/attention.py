"""A block with attention whose logits are scaled in one of the ways that people write."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SCALES = ("fused", "size of q", "of logits", "attribute")


class Attention(nn.Module):
    """``heads`` of ``size`` each, on a stream that both sides of it keep."""

    def __init__(
        self, scale: str, heads: int = 3, size: int = 8, width: int = 20, packed: bool = True
    ) -> None:
        super().__init__()
        self.scale, self.heads, self.head_dim, self.fixed = scale, heads, size, size**-0.5
        self.stem, self.end = nn.Linear(6, width), nn.Linear(width, 5)
        if packed:
            self.qkv = nn.Linear(width, 3 * heads * size)
        else:
            self.q, self.k, self.v = (nn.Linear(width, heads * size) for _ in range(3))
        self.packed = packed
        self.proj = nn.Linear(heads * size, width)

    def split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, self.head_dim).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        made = self.qkv(x).chunk(3, -1) if self.packed else (self.q(x), self.k(x), self.v(x))
        q, k, v = map(self.split, made)
        if self.scale == "fused":
            y = F.scaled_dot_product_attention(q, k, v)
        elif self.scale == "size of q":
            y = ((q * q.shape[-1] ** -0.5) @ k.mT).softmax(-1) @ v
        elif self.scale == "of logits":
            y = (q @ k.mT / k.shape[-1] ** 0.5).softmax(-1) @ v
        else:
            y = (q @ k.mT * self.fixed).softmax(-1) @ v
        return self.end(x + self.proj(y.transpose(1, 2).flatten(2)))


def attention(scale: str = "fused", seed: int = 0, **how: Any) -> Attention:
    """One whose logits are large enough to count."""
    torch.manual_seed(seed)
    model = Attention(scale, **how)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "proj" not in name:
                parameter.mul_(3)
    return model.eval()
