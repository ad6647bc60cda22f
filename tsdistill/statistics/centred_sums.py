"""Means and centred sums of blocks of samples, block after block, without losing digits.

Every block is centred by its own mean in the precision that it comes in, multiplied there, and merged with
what came before in float64 (Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance"). So
a node whose mean is a million times its deviation, or whose mean drifts from batch to batch, keeps its
digits.

A block is ``[N, C, P]``: N samples, C nodes, P positions of each; every position counts as a sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

LARGEST = 32768
"""Most rows (samples times positions) that are multiplied at once, which bounds the memory of a block."""

RESOLUTION = (4 * torch.finfo(torch.float32).eps) ** 2
"""Variance over squared mean at or below which a node counts as constant: four times float32's steps."""

_SMALL = 1024
"""Rows below which blocks are collected first: products of few rows are dominated by overhead."""

_STRIP = 96
"""Fewest columns that `gram` multiplies at once; narrower matrix products are inefficient."""


def accumulator_device(device: torch.device) -> torch.device:
    """Where float64 sums live: ``device`` itself, or the CPU for devices without float64."""
    return torch.device("cpu") if device.type == "mps" else device


class CentredSums:
    """n, means, centred squares and centred products of two sides, or of one with itself; memory C_left ·
    C_right.

    Args:
        full: keep each side's products with itself as well.

    Attributes:
        n: samples so far, positions counted.
        means: float64 ``[C]``, one a side.
        squares: float64 ``[C]``, Σ(x − mean)², one a side.
        products: float64 ``[C_left, C_right]``, Σ(left − mean)(right − mean)ᵀ.
        own: float64 ``[C, C]``, one a side, when ``full``.
    """

    def __init__(self, *, full: bool = False) -> None:
        self.full = full
        self.n = 0
        self.means: list[Tensor] = []
        self.squares: list[Tensor] = []
        self.products: Tensor | None = None
        self.own: list[Tensor] = []

    def add(self, *sides: Tensor) -> None:
        """Take in one block ``[N, C, P]`` a side, in float32 or float64.

        A block whose squares overflow float32 (values above about 1e17) is summed in float64.
        """
        if not sides[0].numel():
            return
        with _exact_products(sides[0]):
            sums = _block_sums(sides, self.full)
            if sides[0].dtype != torch.float64 and not _finite(sums.squares):
                device = accumulator_device(sides[0].device)
                sums = _block_sums(tuple(side.to(device).double() for side in sides), self.full)
            self._merge(sums)

    def _merge(self, block: _CentredBlock) -> None:
        n = block.n
        if self.products is None:
            self.n, self.means = n, [mean.clone() for mean in block.means]
            self.squares = [square.double() for square in block.squares]
            self.products, self.own = block.products.double(), [product.double() for product in block.own]
            return
        weight = self.n * n / (self.n + n)
        steps = [mean - before for mean, before in zip(block.means, self.means, strict=True)]
        for before, square, step in zip(self.squares, block.squares, steps, strict=True):
            before.add_(square).addcmul_(step, step, value=weight)
        self.products.add_(block.products).addr_(steps[0], steps[-1], alpha=weight)
        for total, product, step in zip(self.own, block.own, steps, strict=False):
            total.add_(product).addr_(step, step, alpha=weight)
        self.n += n
        for before, step in zip(self.means, steps, strict=True):
            before.add_(step, alpha=n / self.n)


class PendingSamples:
    """Gathers small blocks until they make a worthwhile one, and hands on large ones a slice at a time."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Tensor, ...]] = []
        self._rows = 0

    def add(self, *sides: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """The blocks that are ready, this one among them or not."""
        samples, _, positions = sides[0].shape
        rows = samples * positions
        if rows >= _SMALL:
            step = max(1, LARGEST // positions)
            for start in range(0, samples, step):
                yield tuple(side[start : start + step] for side in sides)
            return
        if rows:
            self._waiting.append(tuple(_flat(side).clone() for side in sides))
            self._rows += rows
        if self._rows >= _SMALL:
            yield from self.rest()

    def rest(self) -> Iterator[tuple[Tensor, ...]]:
        """What still waits, as one block."""
        if self._waiting:
            sides = zip(*self._waiting, strict=True)
            yield tuple(torch.cat(side) for side in sides)
        self._waiting, self._rows = [], 0


def _flat(block: Tensor) -> Tensor:
    """``[N, C, P]`` as ``[N·P, C, 1]``."""
    return block.transpose(1, 2).reshape(-1, block.shape[1], 1)


class _CentredBlock(NamedTuple):
    """What `CentredSums` keeps, of one block."""

    n: int
    means: list[Tensor]
    squares: list[Tensor]
    products: Tensor
    own: list[Tensor]


def _finite(squares: list[Tensor]) -> bool:
    """Whether centred squares are finite; centred products then are, by the Cauchy-Schwarz inequality."""
    return all(bool(torch.isfinite(square).all()) for square in squares)


def _block_sums(sides: tuple[Tensor, ...], full: bool) -> _CentredBlock:
    n = sides[0].shape[0] * sides[0].shape[2]
    device = accumulator_device(sides[0].device)
    centred, offsets, means, squares = [], [], [], []
    for side in sides:
        shift = side.mean((0, 2))
        rows = _centred(side, shift)
        offset = rows.sum(0).to(device).double()
        centred.append(rows)
        offsets.append(offset)
        means.append(shift.to(device).double() + offset / n)
        if len(sides) > 1:
            squares.append(rows.square().sum(0).to(device).double() - offset**2 / n)
    products = _product(centred[0], centred[-1], offsets[0], offsets[-1], n)
    if len(sides) == 1:
        squares.append(products.diagonal().clone())
    own = [_product(c, c, o, o, n) for c, o in zip(centred, offsets, strict=True)] if full else []
    return _CentredBlock(n, means, squares, products, own)


def _centred(block: Tensor, shift: Tensor) -> Tensor:
    """Rows ``[N·P, C]`` of a block less ``shift [C]``, laid out as the block's memory is."""
    samples, nodes, positions = block.shape
    if positions == 1 or block.stride(1) == 1:
        rows = torch.empty(samples, positions, nodes, dtype=block.dtype, device=block.device)
        torch.sub(block.transpose(1, 2), shift, out=rows)
        return rows.view(-1, nodes)
    columns = torch.empty(nodes, samples, positions, dtype=block.dtype, device=block.device)
    torch.sub(block.transpose(0, 1), shift[:, None, None], out=columns)
    return columns.view(nodes, -1).T


def gram(rows: Tensor) -> Tensor:
    """``rowsᵀ rows``; of a wide one on the CPU only what lies on and below the diagonal is multiplied."""
    width = rows.shape[1]
    if width < 2 * _STRIP or rows.device.type != "cpu":
        return rows.T @ rows
    result = torch.empty(width, width, dtype=rows.dtype)
    step = max(_STRIP, -(-width // 8))
    for start in range(0, width, step):
        stop = min(start + step, width)
        below = rows[:, start:].T @ rows[:, start:stop]
        result[start:, start:stop] = below
        result[start:stop, stop:] = below[stop - start :].T
    return result


def _product(left: Tensor, right: Tensor, offset_left: Tensor, offset_right: Tensor, n: int) -> Tensor:
    both = gram(left) if left is right else left.T @ right
    product = both.to(offset_left.device).double()
    return product.addr_(offset_left, offset_right, alpha=-1 / n)


@contextmanager
def _exact_products(like: Tensor) -> Iterator[None]:
    """Products in full float32, whatever reduced precision the user's forward may run in."""
    before = torch.get_float32_matmul_precision()
    if like.dtype == torch.float64 or before == "highest":
        yield
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
