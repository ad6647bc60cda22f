"""Labels: one integer per coordinate of every parameter, and what the operators say about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from tsdistill.models.plain_tensors import named_tensors

Labels = tuple["np.ndarray | None", ...]
"""One entry a dimension of a tensor: int64 labels along it, or None where every coordinate always stays."""

FIXED = 0
"""The label of a coordinate that always stays."""


@dataclass(frozen=True, eq=False)
class Ruler:
    """The labels of one dimension of one parameter or buffer: ``start … start + size - 1``."""

    param: str
    dim: int
    start: int
    size: int

    @property
    def labels(self) -> np.ndarray:
        """Its labels, in order."""
        return np.arange(self.start, self.start + self.size)


@dataclass(frozen=True, eq=False)
class Product:
    """Element i of ``whole`` stays if and only if element i of every factor stays (a rectangular block).

    Splitting C coordinates by a view into H x D gives two new axes; coordinate (h, d) exists exactly where
    row h and column d do. ``factors`` spreads the labels of each new axis. ``name`` says which operator made
    the block, in words that are the same when the network is traced at another width.
    """

    whole: np.ndarray
    factors: tuple[np.ndarray, ...]
    name: str


class Ledger:
    """Hands out labels and writes down which must go together, which must stay, and which form blocks."""

    def __init__(self) -> None:
        self.count = 1
        self.rulers: list[Ruler] = []
        self.edges: list[tuple[np.ndarray, np.ndarray]] = []
        self.ties: list[tuple[np.ndarray, np.ndarray]] = []
        self.frozen: list[tuple[np.ndarray, str]] = []
        self.products: list[Product] = []
        self.inner: list[np.ndarray] = []
        self.made: list[np.ndarray] = []
        self.splits: dict[tuple[int, tuple[int, ...]], tuple[np.ndarray, list[np.ndarray | None]]] = {}

    def mark(self) -> tuple[int, ...]:
        """How far everything has been written by now."""
        return (self.count, *map(len, self._lists()))

    def rewind(self, mark: tuple[int, ...]) -> None:
        """Forget what has been written since `mark`."""
        self.count = mark[0]
        for written, length in zip(self._lists(), mark[1:], strict=True):
            del written[length:]
        self.splits = {key: found for key, found in self.splits.items() if _below(found[1], mark[0])}

    def _lists(self) -> tuple[list[Any], ...]:
        return self.rulers, self.edges, self.ties, self.frozen, self.products, self.inner, self.made

    def fresh(self, size: int) -> np.ndarray:
        """``size`` labels that nobody has yet."""
        labels = np.arange(self.count, self.count + size, dtype=np.int64)
        self.count += size
        return labels

    def make(self, size: int) -> np.ndarray:
        """``size`` labels of a tensor that is made from sizes alone; they stay unless they meet others."""
        labels = self.fresh(size)
        self.made.append(labels)
        return labels

    def rule(self, param: str, shape: Iterable[int]) -> Labels:
        """Lay a ruler along every dimension of a parameter; dimensions of size 1 get none."""
        fields: list[np.ndarray | None] = []
        for dim, size in enumerate(shape):
            if size == 1:
                fields.append(None)
                continue
            self.rulers.append(Ruler(param, dim, self.count, size))
            fields.append(self.fresh(size))
        return tuple(fields)

    def freeze(self, labels: np.ndarray | None, cause: str) -> None:
        """These coordinates always stay."""
        if labels is not None:
            self.frozen.append((labels, cause))

    def unite(self, a: np.ndarray | None, b: np.ndarray | None, cause: str) -> None:
        """Coordinate i of ``a`` and coordinate i of ``b`` go together; a coordinate that meets none stays."""
        if a is None or b is None:
            self.freeze(a if b is None else b, cause)
            return
        if a is b:
            return
        apart = a != b
        if not apart.any():
            return
        if a.all() and b.all():
            self.edges.append((a, b))
            return
        a, b = a[apart], b[apart]
        loose = (a != FIXED) & (b != FIXED)
        if not loose.all():
            self.frozen.append((np.where(a == FIXED, b, a)[~loose], cause))
            a, b = a[loose], b[loose]
        if len(a):
            self.edges.append((a, b))

    def tie(self, a: np.ndarray, b: np.ndarray) -> None:
        """Coordinate i of ``a`` and of ``b`` never meet, but code takes the width of one from the other: they
        go together."""
        self.ties.append((a, b))

    def block(self, whole: np.ndarray, factors: tuple[np.ndarray | None, ...], name: str) -> None:
        """``whole`` stays exactly where all ``factors`` do; a factor of None always stays."""
        given = tuple(factor for factor in factors if factor is not None)
        self.products.append(Product(whole, given, name))

    @property
    def blocks(self) -> dict[str, Product]:
        """The blocks by name."""
        return {product.name: product for product in self.products}


def _below(fields: Iterable[np.ndarray | None], count: int) -> bool:
    return all(field is None or not (field >= count).any() for field in fields)


def rule_model(ledger: Ledger, model: nn.Module) -> list[tuple[torch.Tensor, Labels]]:
    """Rulers for all parameters, buffers and constants of ``model``, each tensor once (by its first name)."""
    return [(tensor, ledger.rule(name, tensor.shape)) for name, tensor in _tensors(model)]


def ruled_like(ledger: Ledger, model: nn.Module) -> list[tuple[torch.Tensor, Labels]]:
    """Those of a copy of the model whose rulers ``ledger`` has, with the labels of these."""
    along = {(ruler.param, ruler.dim): ruler for ruler in ledger.rulers}

    def labels(name: str, dim: int) -> np.ndarray | None:
        ruler = along.get((name, dim))
        return None if ruler is None else ruler.labels

    return [
        (tensor, tuple(labels(name, dim) for dim in range(tensor.ndim))) for name, tensor in _tensors(model)
    ]


def _tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    seen: set[int] = set()
    for name, tensor in named_tensors(model):
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield name, tensor
