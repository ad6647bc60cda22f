"""The basis of each head in which its coordinates are ordered by what attention makes of them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tsdistill.pruning.head_basis.head_layout import Heads
from tsdistill.runtime.forward import forward, head
from tsdistill.runtime.hooks import ModuleCall, ModuleHooks
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.runtime.nests import count
from tsdistill.statistics.sample_blocks import channels_first, flat, widen
from tsdistill.statistics.unfold import channel_dim

SAMPLES = 256
"""Samples whose second moments make the bases; every position of a sample is a row."""

_LEAST_SPREAD, _LEAST_POWER, _TINY = 1e-6, 1e-12, 1e-30


class HeadBasis(NamedTuple):
    """Matrices ``[heads, size, size]``, float64.

    Attributes:
        queries: queries become ``T q``.
        keys: keys become ``T^-T k``, so that their products stay what they are.
        values: values become ``R v``.
        readers: weights that read them become ``P R^-1``.
    """

    queries: Tensor
    keys: Tensor
    values: Tensor
    readers: Tensor


def balanced(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """``(T, T^-1)`` with ``T A T^T = T^-T B T^-1`` diagonal and falling, of matrices ``[..., d, d]`` A and B.

    As in balanced truncation of linear systems (Moore, 1981): what the first k coordinates leave out of
    products of two vectors with second moments A and B is least, as long as the two do not depend on each
    other.
    """
    spread, vectors = torch.linalg.eigh(one)
    spread = spread.clamp(min=(_LEAST_SPREAD * spread[..., -1:]).clamp(min=_TINY)).sqrt()
    root = vectors * spread[..., None, :]
    power, vectors_of = torch.linalg.eigh(root.mT @ other @ root)
    power, vectors_of = power.flip(-1), vectors_of.flip(-1)
    fourth = power.clamp(min=(_LEAST_POWER * power[..., :1]).clamp(min=_TINY)).pow(0.25)
    turn = fourth[..., None] * (vectors_of.mT @ (vectors / spread[..., None, :]).mT)
    back = root @ vectors_of / fourth[..., None, :]
    return turn, back


def find_head_bases(
    model: nn.Module, layers: list[Heads], batches: Iterable[tuple[Any, Any]], samples: int = SAMPLES
) -> dict[str, HeadBasis]:
    """The bases of every layer, from what its heads do on some samples.

    Queries and keys: by the second moments of both, keys about their mean over positions (what all keys have
    in common, softmax does not see). Values: by the covariance of what is read and the weight that reads it.

    Returns:
        by name of the layer; the same in every process.
    """
    moments = _Moments(model, layers)
    with evaluation_mode(model), torch.no_grad():
        seen = 0
        for x, _ in batches:
            with moments.hooked():
                forward(model, head(x, samples - seen))
            seen += count(x)
            if seen >= samples:
                break
    return {layer.name: _bases(model, layer, moments) for layer in layers}


def _bases(model: nn.Module, layer: Heads, moments: _Moments) -> HeadBasis:
    turn, back = balanced(moments.of("query", layer, len(layer.queries)), moments.of("key", layer, 1))
    read = moments.of("value", layer, len(layer.readers))
    fan_out = torch.zeros_like(read)
    for name, columns in layer.readers:
        weight = model.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        part = weight.detach().double().cpu().flatten(1).T[torch.from_numpy(columns)]
        fan_out += part @ part.mT
    onto, home = balanced(read, fan_out)
    return HeadBasis(turn, back.mT, onto, home)


class _Moments:
    """Second moments of what heads write and what is read of them; forwards run inside `hooked`."""

    def __init__(self, model: nn.Module, layers: list[Heads]) -> None:
        self._model = model
        self._wanted: list[tuple[str, tuple[str, str, int]]] = []
        self._rows: dict[tuple[str, str, int], Tensor] = {}
        self._totals: dict[tuple[str, str, int], Tensor] = {}
        self._means: dict[tuple[str, str, int], Tensor] = {}
        self._seen: dict[tuple[str, str, int], int] = {}
        for layer in layers:
            for kind, sets in (("query", layer.queries), ("key", (layer.keys,)), ("value", layer.readers)):
                for number, (module, rows) in enumerate(sets):
                    key = (kind, layer.name, number)
                    self._wanted.append((module, key))
                    self._rows[key] = torch.from_numpy(rows)

    def of(self, kind: str, layer: Heads, times: int) -> Tensor:
        """Summed over the ``times`` that every head occurs, ``[heads, size, size]``, float64."""
        moments = []
        for number in range(times):
            key = (kind, layer.name, number)
            seen = max(self._seen.get(key, 0), 1)
            mean = self._means[key] / seen if kind == "value" else torch.zeros_like(self._means[key])
            moments.append(self._totals[key] / seen - mean[:, :, None] * mean[:, None, :])
        return torch.stack(moments).sum(0)

    def hooked(self) -> ExitStack:
        """Forwards inside the block are added."""
        stack = ExitStack()
        for name, key in self._wanted:
            look, module = partial(self._look, key), {name: self._model.get_submodule(name)}
            reads = key[0] == "value"
            stack.enter_context(
                ModuleHooks(module, before=look) if reads else ModuleHooks(module, after=look)
            )
        return stack

    def _look(self, key: tuple[str, str, int], call: ModuleCall) -> None:
        values = call.args[0] if key[0] == "value" else call.output
        block = widen(flat(channels_first(values.detach(), channel_dim(call.module))))
        rows = self._rows[key].to(block.device)
        own = block[:, rows.reshape(-1)].unflatten(1, rows.shape)
        if key[0] == "key":
            own = own - own.mean(-1, keepdim=True)
        own = own.permute(1, 2, 0, 3).flatten(2)
        square = (own @ own.mT).double().cpu()
        self._totals[key] = self._totals.get(key, torch.zeros_like(square)) + square
        mean = own.sum(-1).double().cpu()
        self._means[key] = self._means.get(key, torch.zeros_like(mean)) + mean
        self._seen[key] = self._seen.get(key, 0) + own.shape[-1]
