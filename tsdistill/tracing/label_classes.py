"""Classes of labels from the constraints of the operators: which are removed together, which are fixed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tsdistill.tracing.labels import Constraints


@dataclass(frozen=True, eq=False)
class Classes:
    """The classes of the labels: a class goes or stays as a whole.

    Attributes:
        of: class of every label.
        fixed: for every class, must it stay?
        axes: name of a block -> the axis along which it was decided to let rows go.
        head_size_axes: name of such a block -> another axis that could shrink, one that is summed over
            between two activations (the size of an attention head).
    """

    of: np.ndarray
    fixed: np.ndarray
    axes: Mapping[str, int]
    head_size_axes: Mapping[str, int]


def resolve(
    constraints: Constraints,
    axes: Mapping[str, int] | None = None,
    refused: Mapping[str, Collection[int]] | None = None,
    *,
    tied: bool = True,
) -> Classes:
    """Merge the labels that go together and settle every block.

    A block (``OuterProductBlock``) in which more than one axis could shrink is settled by choosing one axis,
    along which whole rows may be removed, and fixing the others: first one that is not summed over between
    two activations (the size of an attention head scales its logits), then one that such a choice leaves free
    anyway (the heads of a value, whose queries and keys go by heads), then the one with most nodes.

    Args:
        constraints: what the operators said.
        axes: what was decided for the same network at another width, and is to be decided again.
        refused: name of a block -> the axes along which a cut of it has failed.
        tied: merge also what only goes together because code takes one width from another.
    """
    classes = _LabelClasses(constraints.count)
    edges = [*constraints.edges, *(constraints.couplings if tied else ())]
    if edges:
        classes.merge(*(np.concatenate(side) for side in zip(*edges, strict=True)))
    if constraints.frozen:
        classes.fix(np.concatenate([labels.ravel() for labels, _ in constraints.frozen]))
    classes.fix(np.zeros(1, dtype=np.int64))
    if constraints.factory_labels:
        _fix_unmerged(classes, np.concatenate(constraints.factory_labels))
    inner = np.unique(np.concatenate(constraints.inner)) if constraints.inner else np.zeros(0, dtype=np.int64)
    decided: dict[str, int] = {}
    head_size_axes: dict[str, int] = {}
    pending = list(constraints.outer_products)
    while pending:
        pending, settled = _settle(classes, pending)
        if not settled:
            chosen, others = _choose(
                classes,
                pending,
                inner,
                [(axes or {}).get(product.name) for product in pending],
                [(refused or {}).get(product.name, ()) for product in pending],
            )
            for by_index, by_name in ((chosen, decided), (others, head_size_axes)):
                by_name.update({pending[index].name: axis for index, axis in by_index.items()})
    return Classes(classes.of, classes.fixed, decided, head_size_axes)


def _fix_unmerged(classes: _LabelClasses, factory: np.ndarray) -> None:
    """Fix the labels of tensors made by factory operators (``torch.zeros``) that no other label is merged
    with."""
    others = np.ones(len(classes.of), dtype=bool)
    others[factory] = False
    met = np.zeros(len(classes.fixed), dtype=bool)
    met[classes.of[others]] = True
    classes.fix(factory[~met[classes.of[factory]]])


class _LabelClasses:
    """A partition of ``count`` labels, with a flag for every class that cannot be removed.

    Attributes:
        of: int64 [labels], class of every label.
        fixed: bool [classes].
    """

    def __init__(self, count: int) -> None:
        self.of = np.arange(count)
        self.fixed = np.zeros(count, dtype=bool)

    def merge(self, a: np.ndarray, b: np.ndarray) -> None:
        of, self.fixed = _merged(self.of[a], self.of[b], self.fixed)
        self.of = of[self.of]

    def fix(self, labels: np.ndarray) -> None:
        self.fixed[self.of[labels]] = True

    def remaining(self, a: np.ndarray, b: np.ndarray) -> int:
        """How many classes that may go there would be if ``a`` and ``b`` were merged."""
        names, both = np.unique(np.concatenate([self.of[a], self.of[b]]), return_inverse=True)
        _, fixed = _merged(both[: len(a)], both[len(a) :], self.fixed[names])
        return int((~fixed).sum())

    def is_fixed(self, labels: np.ndarray) -> np.ndarray:
        return self.fixed[self.of[labels]]


def _merged(a: np.ndarray, b: np.ndarray, fixed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The class of each class after the merge of ``a`` and ``b``, pair by pair, and which of those are fixed:
    those into which a ``fixed`` one went."""
    links = coo_array((np.ones(len(a), dtype=np.int8), (a, b)), shape=(len(fixed), len(fixed)))
    count, of = connected_components(links, directed=False)
    merged = np.zeros(count, dtype=bool)
    np.logical_or.at(merged, of, fixed)
    return of, merged


def _settle(classes: _LabelClasses, pending: list) -> tuple[list, bool]:
    """Tie every block with at most one axis that can shrink; what is left, and whether any was settled."""
    rest, ties, changed = [], [], False
    for product in pending:
        stays = classes.is_fixed(product.whole)
        if stays.any():
            for factor in product.factors:
                classes.fix(factor[stays])
        free = [factor for factor in product.factors if not classes.is_fixed(factor).all()]
        if len(free) > 1:
            rest.append(product)
            continue
        changed = True
        if free:
            ties.append((product.whole, free[0]))
        else:
            classes.fix(product.whole)
    if ties:
        classes.merge(*(np.concatenate(side) for side in zip(*ties, strict=True)))
    return rest, changed


def _choose(
    classes: _LabelClasses,
    pending: list,
    inner: np.ndarray,
    before: list[int | None],
    refused: list[Collection[int]],
) -> tuple[dict[int, int], dict[int, int]]:
    """Leave one axis free in every pending block, the one of ``before`` where it can shrink; which ones, and
    which that is summed over between two activations each has beside it."""
    scaled = np.zeros(len(classes.fixed), dtype=bool)
    scaled[classes.of[inner]] = True
    open_: list[list[int]] = []
    wanted = np.zeros(len(classes.fixed), dtype=bool)
    for product, closed in zip(pending, refused, strict=True):
        free = [i for i, factor in enumerate(product.factors) if not classes.is_fixed(factor).all()]
        open_.append([i for i in free if i not in closed])
        by_scale = {i: bool(scaled[classes.of[product.factors[i]]].any()) for i in open_[-1]}
        if len(set(by_scale.values())) == 2:
            for i, summed in by_scale.items():
                wanted[classes.of[product.factors[i]]] |= not summed
    chosen, head_size_axes = {}, {}
    for index, (product, axis, may) in enumerate(zip(pending, before, open_, strict=True)):
        factors = product.factors
        if sum(not classes.is_fixed(factor).all() for factor in factors) < 2:
            continue

        def rank(i: int, factors: Sequence[np.ndarray] = factors) -> tuple[bool, bool]:
            own = classes.of[factors[i]]
            return not scaled[own].any(), bool(wanted[own].any())

        best = None
        if may:
            ranks = {i: rank(i) for i in may}
            first = [i for i in may if ranks[i] == max(ranks.values())]
            best = axis if axis in may else first[0]
            if axis not in may and len(first) > 1:
                best = max(first, key=[classes.remaining(product.whole, f) for f in factors].__getitem__)
            chosen[index] = best
            head_sizes = [i for i in may if i != best and scaled[classes.of[factors[i]]].any()]
            if len(head_sizes) == 1 and not scaled[classes.of[factors[best]]].any():
                head_size_axes[index] = head_sizes[0]
        for i, factor in enumerate(factors):
            if i != best:
                classes.fix(factor)
    return chosen, head_size_axes
