"""Modules as users write them: parameters used directly, normed weights, buffers, branches, odd inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

VECTOR = torch.randn(1, 6, generator=torch.Generator().manual_seed(1))
IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(2))
SERIES = torch.randn(1, 5, 6, generator=torch.Generator().manual_seed(3))
TOKENS = torch.arange(1, 6)[None]


class Direct(nn.Module):
    def __init__(self):
        super().__init__()
        self.w, self.b = nn.Parameter(torch.randn(10, 6)), nn.Parameter(torch.randn(10))
        self.v = nn.Parameter(torch.randn(10, 3))

    def forward(self, x):
        return torch.tanh(F.linear(x, self.w, self.b)) @ self.v


class Listed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, padding=1)])
        self.named = nn.ModuleDict({"last": nn.Conv2d(6, 8, 1)})
        self.scales = nn.ParameterList([nn.Parameter(torch.randn(8, 1, 1)), nn.Parameter(torch.randn(3, 8))])

    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        return F.linear((self.named["last"](x) * self.scales[0]).mean((2, 3)), self.scales[1])


def _stack(normed: Any) -> nn.Sequential:
    layers = [normed(nn.Linear(6, 10)), nn.ReLU(), normed(nn.Linear(10, 8)), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(8, 9), nn.ReLU(), nn.Linear(9, 3))


def weight_norm() -> nn.Module:
    return _stack(parametrizations.weight_norm)


def weight_norm_by_columns() -> nn.Module:
    return _stack(lambda layer: parametrizations.weight_norm(layer, dim=1))


def weight_norm_by_hooks() -> nn.Module:
    model = _stack(nn.utils.weight_norm)
    model(VECTOR).sum().backward()
    return model


def spectral_norm() -> nn.Module:
    return _stack(parametrizations.spectral_norm)


def spectral_norm_by_hooks() -> nn.Module:
    return _stack(nn.utils.spectral_norm)


class _Squared(nn.Module):
    def forward(self, w):
        return w * w.abs()


class _Symmetric(nn.Module):
    def forward(self, w):
        return w.triu() + w.triu(1).T


def parametrized() -> nn.Module:
    layers = nn.Sequential(
        nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 7), nn.ReLU(), nn.Linear(7, 7), nn.ReLU(), nn.Linear(7, 3)
    )
    parametrize.register_parametrization(layers[0], "weight", _Squared())
    parametrize.register_parametrization(layers[4], "weight", _Symmetric())
    return layers


def transposed() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 12, 3, 2, 1), nn.ReLU(), nn.ConvTranspose2d(12, 8, 4, 2, 1), nn.BatchNorm2d(8)),
        *(nn.ReLU(), nn.ConvTranspose2d(8, 12, 3, padding=1, groups=4), nn.ReLU(), nn.Conv2d(12, 3, 1)),
    )


def shuffled() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 24, 3, padding=1), nn.PixelShuffle(2)),
        *(nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(), nn.PixelUnshuffle(2), nn.Conv2d(32, 3, 1)),
    )


class Einsum(nn.Module):
    def __init__(self):
        super().__init__()
        self.w, self.v = nn.Parameter(torch.randn(6, 4, 3)), nn.Parameter(torch.randn(4, 3, 8))
        self.values, self.out = nn.Linear(8, 20), nn.Linear(20, 3)

    def forward(self, x):
        hidden = torch.relu(torch.einsum("btc,chd->bthd", x, self.w))
        y = torch.einsum("bthd,hdo->bto", hidden, self.v)
        mixed = torch.einsum("bqc,bkc->bqk", y, y).softmax(-1)
        return self.out(torch.einsum("bqk,bkc->bqc", mixed, torch.relu(self.values(y))))


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 10), nn.Linear(6, 10), nn.Linear(10, 3)
        self.d, self.e = nn.Linear(10, 9), nn.Linear(9, 2)

    def forward(self, x, more):
        hidden = torch.relu(self.a(x) + self.b(more[0]) + self.b(more[1]["y"]))
        return {"out": self.c(hidden), "more": (self.e(torch.relu(self.d(hidden))), [None, 3])}


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 10), nn.Linear(6, 7)
        self.c, self.d = nn.Linear(17, 12), nn.Linear(12, 3)

    def forward(self, x, y, flag=True):
        joined = torch.cat([self.a(x), self.b(y).mean(1)], -1)
        return (self.d(torch.relu(self.c(joined if flag else joined * 0))),)


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 12, 3, padding=1)
        self.c, self.skip = nn.Conv2d(12, 16, 3, padding=1), nn.Conv2d(12, 16, 1)
        self.out = nn.Linear(16, 3)

    def forward(self, x):
        x = self.a(x)
        if x.shape[-1] > 4:
            x = F.max_pool2d(x, 2)
        y = self.b(x)
        y = F.gelu(y + x if y.shape == x.shape else y)
        z = self.c(y)
        return self.out((z + (y if z.shape[1] == y.shape[1] else self.skip(y))).flatten(2).mean(-1))


class OnItsWidth(nn.Module):
    """Does something else when its width changes: that layer has to stay."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 8, 1), nn.Linear(8, 3)

    def forward(self, x):
        x = self.a(x)
        x = x * 2 if x.shape[1] == 12 else x
        return self.out(torch.relu(self.b(x)).mean((2, 3)))


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 12, 3, padding=1)
        self.out = nn.Linear(12, 3)

    def forward(self, x):
        x = self.a(x).relu_()
        y = self.b(x)
        y += x
        y[:, :, 0] = 0
        y[:, :, :, 1:3] *= 2
        z = torch.empty_like(y)
        z[:] = y
        return self.out(z.mul_(0.5).mean((2, 3)))


class Filled(nn.Module):
    """Writes into a tensor that it makes from sizes."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
        self.c, self.out = nn.Conv2d(10, 8, 1), nn.Linear(8, 3)

    def forward(self, x):
        p, q = self.a(x), self.b(x)
        whole = x.new_zeros(len(x), p.shape[1] + q.shape[1], *x.shape[2:])
        whole[:, : p.shape[1]] = p
        whole[:, p.shape[1] :] = q
        return self.out(torch.relu(self.c(whole)).mean((2, 3)))


class Buffered(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(6, 12), nn.Linear(12, 8), nn.Linear(8, 3)
        self.register_buffer("places", torch.linspace(-1, 1, 240).reshape(1, 20, 12), persistent=False)
        self.register_buffer("scale", torch.linspace(0.5, 1.5, 12))

    def forward(self, x):
        x = self.a(x) * self.scale + self.places[:, : x.shape[1]]
        y = self.b(torch.relu(x))
        return self.out(y + torch.sin(torch.arange(y.shape[-1]) / self.b.out_features))


def gated() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 20), nn.GLU(), nn.Linear(10, 16), nn.GLU(), nn.Linear(8, 3))


class Placed(nn.Module):
    """Places that are a plain attribute, others that the first forward computes, and a table of codes."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(6, 12), nn.Linear(12, 8), nn.Linear(10, 3)
        self.places = torch.linspace(-1, 1, 240).reshape(1, 20, 12)
        self.later = None
        self.codes: torch.Tensor
        self.register_buffer("codes", torch.linspace(-1, 1, 80).reshape(10, 8))

    def forward(self, x):
        if self.later is None:
            self.later = torch.linspace(0, 1, 8)
        x = torch.relu(self.a(x) + self.places[:, : x.shape[1]])
        return self.out(torch.relu(F.linear(self.b(x) * self.later, self.codes)))


class Cosine(nn.Module):
    """Directions of hidden vectors, whose lengths are spread over them before they divide."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 12), nn.Linear(12, 9), nn.Linear(9, 3)

    def forward(self, x):
        x = F.normalize(torch.tanh(self.a(x)), dim=-1)
        return self.c(F.normalize(self.b(x), p=1.0, dim=-1))


class Neighbours(nn.Module):
    """Sums over neighbourhoods that are unfolded (with zeros around), weighed and folded again."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.weights = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 4, 1), nn.Parameter(torch.rand(9))

    def forward(self, x):
        x = torch.relu(self.a(x))
        pieces = F.unfold(x, 3, padding=1).unflatten(1, (-1, 9)) * self.weights[:, None]
        return self.b(F.fold(pieces.flatten(1, 2), x.shape[2:], 3, padding=1))


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 10, dtype=torch.cfloat), nn.Linear(10, 8, dtype=torch.cfloat)
        self.out = nn.Linear(16, 3)

    def forward(self, x):
        y = self.b(torch.tanh(self.a(x.to(torch.cfloat))))
        return self.out(torch.cat([y.real, y.imag], -1))


class Fourier(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.w = (
            nn.Conv2d(3, 12, 3, padding=1),
            nn.Parameter(torch.randn(12, 8, 5, dtype=torch.cfloat)),
        )
        self.b, self.out = nn.Linear(12, 9), nn.Linear(9, 3)

    def forward(self, x):
        x = torch.fft.irfft2(torch.fft.rfft2(self.a(x)) * self.w, s=x.shape[-2:])
        return self.out(torch.relu(self.b(x.mean((2, 3)))))


class Double(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 3))
        self.double()

    def forward(self, x):
        return super().forward(x.double())


class Text(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.conv = nn.Embedding(20, 16, padding_idx=0), nn.Conv1d(16, 12, 3, padding=1)
        self.out = nn.Linear(12, 20)

    def forward(self, tokens):
        return self.out(torch.relu(self.conv(self.table(tokens).transpose(1, 2))).amax(-1))


class Bag(nn.Sequential):
    def __init__(self):
        super().__init__(nn.EmbeddingBag(20, 16), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))


class TiedText(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.norm = nn.Embedding(20, 16), nn.LayerNorm(16)
        self.up, self.down, self.out = nn.Linear(16, 24), nn.Linear(24, 16), nn.Linear(16, 20, bias=False)
        self.out.weight = self.table.weight

    def forward(self, tokens):
        x = self.table(tokens)
        return self.out(x + self.down(F.gelu(self.up(self.norm(x)))))


class Topped(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 9, 1), nn.Linear(9, 3)

    def forward(self, x):
        values, _ = torch.relu(self.b(torch.relu(self.a(x)))).flatten(2).topk(3, -1)
        return self.out(values.sum(-1))


class Mapped(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))

    def forward(self, x):
        return torch.vmap(super().forward)(x)


class TwoSided(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.both = nn.Linear(6, 10), nn.Linear(6, 8), nn.Bilinear(10, 8, 7)
        self.c, self.out = nn.Linear(7, 9), nn.Linear(9, 3)

    def forward(self, x):
        return self.out(torch.relu(self.c(self.both(self.a(x), self.b(x)))))


class Recurrent(nn.Module):
    def __init__(self, kind: Any = nn.LSTM, **options: Any):
        super().__init__()
        self.enter, self.inner = nn.Linear(6, 12), kind(12, 10, batch_first=True, **options)
        wide = options.get("proj_size", 10) * (2 if options.get("bidirectional") else 1)
        self.hidden, self.out = nn.Linear(wide, 9), nn.Linear(9, 3)

    def forward(self, x):
        seen, _ = self.inner(torch.relu(self.enter(x)))
        return self.out(torch.relu(self.hidden(seen[:, -1])))


def lstm() -> nn.Module:
    return Recurrent(nn.LSTM, num_layers=2)


def projected_lstm() -> nn.Module:
    return Recurrent(nn.LSTM, bidirectional=True, proj_size=4)


def gru() -> nn.Module:
    return Recurrent(nn.GRU, bidirectional=True)


def rnn() -> nn.Module:
    return Recurrent(nn.RNN)


class Cells(nn.Module):
    def __init__(self):
        super().__init__()
        self.enter, self.long, self.short = nn.Linear(6, 12), nn.LSTMCell(12, 10), nn.GRUCell(10, 8)
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        hidden = cell = x.new_zeros(len(x), self.long.hidden_size)
        other = x.new_zeros(len(x), self.short.hidden_size)
        for step in x.unbind(1):
            hidden, cell = self.long(self.enter(step), (hidden, cell))
            other = self.short(hidden, other)
        return self.out(other)


class Attention(nn.Module):
    def __init__(self, weights: bool = False, **options: Any):
        super().__init__()
        self.weights = weights
        self.enter, self.norm = nn.Linear(6, 16), nn.LayerNorm(16)
        self.attend = nn.MultiheadAttention(16, 4, batch_first=True, **options)
        self.up, self.down, self.out = nn.Linear(16, 24), nn.Linear(24, 16), nn.Linear(16, 3)

    def forward(self, x):
        x = self.enter(x)
        y = self.norm(x)
        x = x + self.attend(y, y, y, need_weights=self.weights)[0]
        return self.out((x + self.down(torch.relu(self.up(x)))).mean(1))


def attention() -> nn.Module:
    return Attention()


def attention_with_weights() -> nn.Module:
    return Attention(weights=True, add_bias_kv=True, add_zero_attn=True)


class Crossed(nn.Module):
    def __init__(self):
        super().__init__()
        self.enter, self.keys, self.values = nn.Linear(6, 16), nn.Linear(6, 12), nn.Linear(6, 20)
        self.attend = nn.MultiheadAttention(16, 4, kdim=12, vdim=20)
        self.out = nn.Linear(16, 3)

    def forward(self, x):
        x = x.transpose(0, 1)
        attended, _ = self.attend(self.enter(x), self.keys(x), self.values(x))
        return self.out(attended).transpose(0, 1)


class EncoderDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.enter, self.out = nn.Linear(6, 16), nn.Linear(16, 3)
        self.inner = nn.Transformer(16, 4, 1, 1, 24, batch_first=True)

    def forward(self, x):
        x = self.enter(x)
        return self.out(self.inner(x, x[:, :3]))
