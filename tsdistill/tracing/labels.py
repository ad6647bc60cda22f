"""Labels: one integer per coordinate of every parameter, and the constraints of the operators on them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from tsdistill.models.plain_tensors import named_tensors

Labels = tuple["np.ndarray | None", ...]
"""One entry a dimension of a tensor: int64 labels along it, or None where no coordinate can be removed."""

FIXED = 0
"""The label of a coordinate that cannot be removed."""


@dataclass(frozen=True, eq=False)
class DimLabels:
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
class OuterProductBlock:
    """Element i of ``whole`` is kept if and only if element i of every factor is (a rectangular block).

    Splitting C coordinates by a view into H x D gives two new axes; coordinate (h, d) exists exactly where
    row h and column d do. ``factors`` spreads the labels of each new axis. ``name`` says which operator made
    the block, in words that are the same when the network is traced at another width.
    """

    whole: np.ndarray
    factors: tuple[np.ndarray, ...]
    name: str


class Constraints:
    """The labels of a model, and which are removed together, which cannot be removed, and which form blocks.

    Attributes:
        count: number of labels so far; the next new label.
        parameter_dims: the labelled dimensions of parameters and buffers.
        edges: pairs of arrays; elements i of both are removed together.
        couplings: the same for widths that only code takes from one another.
        frozen: labels that cannot be removed, and why.
        outer_products: blocks, in the order of the operators.
        inner: labels over which products of two activations sum.
        factory_labels: labels of tensors that factory operators (``torch.zeros``) made from sizes.
        splits: cached labels of the axes of split dimensions.
    """

    def __init__(self) -> None:
        self.count = 1
        self.parameter_dims: list[DimLabels] = []
        self.edges: list[tuple[np.ndarray, np.ndarray]] = []
        self.couplings: list[tuple[np.ndarray, np.ndarray]] = []
        self.frozen: list[tuple[np.ndarray, str]] = []
        self.outer_products: list[OuterProductBlock] = []
        self.inner: list[np.ndarray] = []
        self.factory_labels: list[np.ndarray] = []
        self.splits: dict[tuple[int, tuple[int, ...]], tuple[np.ndarray, list[np.ndarray | None]]] = {}

    def mark(self) -> tuple[int, ...]:
        """The present lengths of all lists, for `rewind`."""
        return (self.count, *map(len, self._lists()))

    def rewind(self, mark: tuple[int, ...]) -> None:
        """Remove everything that was added since `mark`."""
        self.count = mark[0]
        for entries, length in zip(self._lists(), mark[1:], strict=True):
            del entries[length:]
        self.splits = {key: split for key, split in self.splits.items() if _below(split[1], mark[0])}

    def _lists(self) -> tuple[list[Any], ...]:
        return (
            self.parameter_dims,
            self.edges,
            self.couplings,
            self.frozen,
            self.outer_products,
            self.inner,
            self.factory_labels,
        )

    def new_labels(self, size: int) -> np.ndarray:
        """``size`` unused labels."""
        labels = np.arange(self.count, self.count + size, dtype=np.int64)
        self.count += size
        return labels

    def new_factory_labels(self, size: int) -> np.ndarray:
        """``size`` labels of a tensor that is made from sizes alone; fixed unless united with others."""
        labels = self.new_labels(size)
        self.factory_labels.append(labels)
        return labels

    def label_parameter(self, param: str, shape: Iterable[int]) -> Labels:
        """Label every dimension of a parameter; dimensions of size 1 get no labels."""
        fields: list[np.ndarray | None] = []
        for dim, size in enumerate(shape):
            if size == 1:
                fields.append(None)
                continue
            self.parameter_dims.append(DimLabels(param, dim, self.count, size))
            fields.append(self.new_labels(size))
        return tuple(fields)

    def freeze(self, labels: np.ndarray | None, cause: str) -> None:
        """These coordinates cannot be removed."""
        if labels is not None:
            self.frozen.append((labels, cause))

    def unite(self, a: np.ndarray | None, b: np.ndarray | None, cause: str) -> None:
        """Remove coordinate i of ``a`` and coordinate i of ``b`` together.

        Args:
            a: int64 [size] labels, or None for coordinates that cannot be removed.
            b: the same for the other tensor; the partners of None are fixed.
            cause: why, for the notes on what is not prunable.
        """
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

    def couple(self, a: np.ndarray, b: np.ndarray) -> None:
        """Remove coordinate i of ``a`` and of ``b`` together because code takes one width from the other."""
        self.couplings.append((a, b))

    def block(self, whole: np.ndarray, factors: tuple[np.ndarray | None, ...], name: str) -> None:
        """``whole`` is kept exactly where all ``factors`` are; a factor of None is always kept."""
        labelled = tuple(factor for factor in factors if factor is not None)
        self.outer_products.append(OuterProductBlock(whole, labelled, name))

    @property
    def by_place(self) -> dict[tuple[str, int], DimLabels]:
        """The labelled dimensions by ``(parameter or buffer, dimension)``."""
        return {(each.param, each.dim): each for each in self.parameter_dims}

    @property
    def blocks(self) -> dict[str, OuterProductBlock]:
        """The blocks by name."""
        return {product.name: product for product in self.outer_products}


def _below(fields: Iterable[np.ndarray | None], count: int) -> bool:
    return all(field is None or not (field >= count).any() for field in fields)


def label_model(constraints: Constraints, model: nn.Module) -> list[tuple[torch.Tensor, Labels]]:
    """Parameters, buffers and constants of ``model``, each tensor once (by its first name), with the labels
    that ``constraints`` has of them, or else new ones."""
    known = constraints.by_place

    def labels(name: str, tensor: torch.Tensor) -> Labels:
        if not known:
            return constraints.label_parameter(name, tensor.shape)
        dims = (known.get((name, dim)) for dim in range(tensor.ndim))
        return tuple(None if each is None else each.labels for each in dims)

    first: dict[int, tuple[str, torch.Tensor]] = {}
    for name, tensor in named_tensors(model):
        first.setdefault(id(tensor), (name, tensor))
    return [(tensor, labels(name, tensor)) for name, tensor in first.values()]
