"""A small transformer."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Transformer(nn.Module):
    """One pre-norm block on eight tokens of width 12."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(24, 12), nn.LayerNorm(12)
        self.qkv, self.proj = nn.Linear(12, 36), nn.Linear(12, 12)
        self.norm2, self.fc1, self.fc2 = nn.LayerNorm(12), nn.Linear(12, 24), nn.Linear(24, 12)
        self.act, self.head = nn.GELU(), nn.Linear(12, 5)

    def tokens(self, x: Tensor) -> Tensor:
        return self.embed(x.flatten(2).transpose(1, 2).reshape(len(x), 8, 24))

    def block(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).reshape(*x.shape[:2], 3, 2, 6).permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.proj(seen.transpose(1, 2).reshape(*x.shape[:2], 12))
        return x + self.fc2(self.act(self.fc1(self.norm2(x))))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.tokens(x)).mean(1))


class Classified(Transformer):
    """The same, with a first token unlike the others, which alone is read in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.last = nn.Parameter(8 * torch.randn(1, 1, 12)), nn.LayerNorm(12)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(len(x), -1, -1), self.tokens(x)], 1)
        return self.head(self.last(self.block(x))[:, 0])
