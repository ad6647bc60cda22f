"""Budgets: what part is kept, counted in MACs, parameters or nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tsdistill.errors import TsdistillError
from tsdistill.tracing.graph import NodeGraph, Term

KINDS = ("macs", "params", "nodes")


@dataclass(frozen=True)
class Budget:
    """The part of something that is kept.

    Attributes:
        kind: ``"macs"``, ``"params"`` or ``"nodes"``.
        kept: the part kept, 0 < kept <= 1.
    """

    kind: str
    kept: float

    def __str__(self) -> str:
        return f"{self.kept:.4g} of the {'MACs' if self.kind == 'macs' else self.kind}"


def budget_of(macs: object = None, params: object = None, nodes: object = None) -> Budget:
    """The one budget that is given.

    Raises:
        TsdistillError: none or several are given, or one that is not a part of the whole.
    """
    values = dict(zip(KINDS, (macs, params, nodes), strict=True))
    given = {kind: value for kind, value in values.items() if value is not None}
    if len(given) != 1:
        what = "no budget is" if not given else f"{' and '.join(given)} are"
        raise TsdistillError(
            f"{what} given; give exactly one of macs, params and nodes, the part that is kept"
        )
    kind, value = next(iter(given.items()))
    return Budget(kind, fraction(value, kind))


def fraction(value: object, name: str = "budget") -> float:
    """A part as a number: ``0.5``, ``"0.5"`` or ``"50%"``.

    Raises:
        TsdistillError: not a number above 0 and at most 1.
    """
    text = str(value).strip()
    scale = 0.01 if text.endswith("%") else 1.0
    try:
        part = float(text.removesuffix("%")) * scale
    except ValueError:
        part = float("nan")
    if isinstance(value, bool) or not 0 < part <= 1:
        raise TsdistillError(
            f"{name} takes the part that is kept, above 0 and at most 1 (0.5 or 50%), not {value!r}"
        )
    return part


class Meter:
    """What a network still costs while nodes leave, by the terms that a group occurs in."""

    def __init__(self, graph: NodeGraph, kind: str) -> None:
        terms: tuple[Term, ...] = {"macs": graph.operations, "params": graph.sizes, "nodes": ()}[kind]
        self.kept: dict[str, int] = dict(graph.widths)
        self._nodes = kind == "nodes"
        self._terms: dict[str, list[Term]] = {name: [] for name in self.kept}
        for term in terms:
            for name in {name for _, parts in term.factors for name, _ in parts}:
                self._terms[name].append(term)
        self.total = sum(self.kept.values()) if self._nodes else sum(term.value(self.kept) for term in terms)

    def saving(self, leaving: Mapping[str, int]) -> int:
        """What goes when ``leaving[group]`` more nodes leave."""
        if self._nodes:
            return sum(leaving.values())
        names = [name for name, count in leaving.items() if count]
        terms = {id(term): term for name in names for term in self._terms[name]}
        before = sum(term.value(self.kept) for term in terms.values())
        smaller = {**self.kept, **{name: self.kept[name] - leaving[name] for name in names}}
        return before - sum(term.value(smaller) for term in terms.values())

    def remove(self, leaving: Mapping[str, int]) -> None:
        """Let nodes leave."""
        self.total -= self.saving(leaving)
        for name, count in leaving.items():
            self.kept[name] -= count
