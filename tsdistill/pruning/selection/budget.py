"""Budgets: what is kept, as a part of the whole model or as an amount of a cost (MACs, parameters, ...)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from tsdistill import plugins
from tsdistill.errors import TsdistillError
from tsdistill.options.old_names import Move
from tsdistill.options.option_fields import written
from tsdistill.options.pruning_options import BUDGETS
from tsdistill.pruning.selection.cost import KIND, cost_of

LOSSLESS = "lossless"
"""In place of a budget: only what leaves the function as it is may leave."""

OLD_KEYWORDS = {name: Move("budget", name) for name in ("params", "nodes", "latency", "memory", LOSSLESS)}
"""Old keywords of functions that take ``budget``."""

_AMOUNT = re.compile(r"([0-9][0-9_]*\.?[0-9]*(?:e[+-]?[0-9]+)?|\.[0-9]+)\s*([a-zµμ]*)", re.IGNORECASE)


@dataclass(frozen=True)
class Budget:
    """What is kept: a part of the whole, or an amount.

    Attributes:
        kind: name of a cost, such as ``"macs"`` or ``"latency"`` (see `cost`).
        kept: the part of the dense model that is kept, 0 < kept <= 1; ``None`` when ``limit`` is given.
        limit: the amount that is kept: MACs at batch 1, parameters, prunable nodes, or seconds.
    """

    kind: str
    kept: float | None = None
    limit: float | None = None

    def __post_init__(self) -> None:
        if (self.kept is None) == (self.limit is None):
            raise TsdistillError("a budget is either a part of the whole (kept) or an amount (limit)")

    def absolute(self, whole: float) -> float:
        """The amount that is kept of a dense model that has ``whole``, in the same units.

        Raises:
            TsdistillError: the budget is above the whole, so that there is nothing to do.
        """
        if self.kept is not None:
            return self.kept * whole
        assert self.limit is not None
        if self.limit > whole:
            raise TsdistillError(
                f"a budget of {self} is above what the model has ({amount(self.kind, whole)}), so that "
                "nothing would leave; give less"
            )
        return self.limit

    def __str__(self) -> str:
        if self.kept is not None:
            return f"{self.kept:.4g} of the {cost_of(self.kind).amounts.words}"
        assert self.limit is not None
        return amount(self.kind, self.limit)


def budget_of(**values: object) -> Budget:
    """The one budget that is given, by the name of its cost: a part (``0.5``, ``"50%"``) or an amount
    (``"1.2G"``, ``"10ms"``).

    A number above 1 is an amount, and so is one with a unit of the cost (`Amounts.units`). A ``Budget`` of
    the kind is given back.

    Raises:
        TsdistillError: none or several are given, there is no such cost, or a budget is neither a part nor an
            amount.
    """
    stated = {kind: value for kind, value in values.items() if value is not None}
    if len(stated) != 1:
        kinds = [_named(kind) for kind in [*values] or plugins.names(KIND)]
        names = ", ".join(kinds[:-1]) + f" and {kinds[-1]}"
        both = " and ".join(map(_named, stated))
        what = f"{both} are given and contradict" if stated else "no budget is given"
        raise TsdistillError(f"{what}; give exactly one of {names}: what is kept")
    kind, value = next(iter(stated.items()))
    if isinstance(value, Budget) and value.kind == kind:
        return value
    return _parse(kind, value)


def asked(*, lossless: bool = False, **values: object) -> Budget | None:
    """The one budget that is given, ``None`` when instead only what costs nothing is to leave.

    Raises:
        TsdistillError: as ``budget_of``, or a budget beside ``lossless``.
    """
    if not lossless:
        return budget_of(**values)
    others = [kind for kind, value in values.items() if value is not None]
    if others:
        raise TsdistillError(
            f"{written(LOSSLESS)} takes no budget, it removes what costs nothing and no more; leave out "
            f"{_named(others[0])} or {written(LOSSLESS)}"
        )
    return None


def requested(
    macs: float | str | Budget | None, budget: Mapping[str, Any] | Budget | str | None
) -> Budget | None:
    """The one budget of ``macs`` and ``budget``, as `prune` takes them; ``None`` for lossless.

    Args:
        macs: MACs that are kept.
        budget: what is kept, by the name of its cost (``{"params": "5M"}``), or ``"lossless"``.

    Raises:
        TsdistillError: none or several budgets are given, one that does not exist, or one that is neither a
            part nor an amount.
    """
    named: dict[str, Any]
    if isinstance(budget, Budget):
        named = {budget.kind: budget}
    elif isinstance(budget, str):
        if budget != LOSSLESS:
            raise TsdistillError(
                f"budget takes {LOSSLESS!r} or what is kept, {{'params': 0.5}}, not {budget!r}"
            )
        named = {LOSSLESS: True}
    elif budget is None or isinstance(budget, Mapping):
        named = dict(budget or {})
    else:
        raise TsdistillError(
            f"budget takes {LOSSLESS!r} or what is kept, {{'params': 0.5}}, not a {type(budget).__name__}"
        )
    if not isinstance(named.get(LOSSLESS, False), bool):
        raise TsdistillError(f"{LOSSLESS} takes True or False, not {named[LOSSLESS]!r}")
    if macs is not None:
        if named.get("macs") is not None:
            raise TsdistillError("macs is given twice, by itself and in budget; leave one out")
        named = {"macs": macs, **named}
    return asked(**named)


def _named(kind: str) -> str:
    """A budget of a cost as the user writes it; only some costs have an option of their own."""
    return written(kind) if kind in BUDGETS else f"the budget of {kind}"


def _parse(kind: str, value: object) -> Budget:
    amounts = cost_of(kind).amounts
    wrong = TsdistillError(
        f"{_named(kind)} takes the part that is kept, above 0 and at most 1 (0.5 or 50%), or the amount "
        f"that is kept ({amounts.example}), not {value!r}"
    )
    text = str(value).strip()
    percent = text.endswith("%")
    match = _AMOUNT.fullmatch(text.removesuffix("%").strip())
    if isinstance(value, bool) or match is None or (percent and match[2]):
        raise wrong
    number, unit = float(match[1]), match[2].lower()
    if not isfinite(number):
        raise wrong
    if percent or (not unit and number <= 1):
        part = number / 100 if percent else number
        if not 0 < part <= 1:
            raise wrong
        return Budget(kind, part)
    limit = number * amounts.units.get(unit, float("nan"))
    whole = not amounts.whole or (limit >= 1 and (bool(unit) or limit == int(limit)))
    if not isfinite(limit) or limit <= 0 or not whole:
        raise wrong
    return Budget(kind, limit=limit)


def amount(kind: str, value: float, *, up: bool = False) -> str:
    """An amount in words, in a form that a budget takes: ``"1.2G MACs"``, ``"10ms of latency"``.

    Args:
        kind: of the budget.
        value: MACs, parameters, nodes, seconds, bytes, ...
        up: round up, so that a budget of what is said is not below ``value``.
    """
    amounts = cost_of(kind).amounts
    scales = [(amounts.units[unit.lower()], unit) for unit in amounts.shown]
    scale, unit = next(((s, u) for s, u in scales if value >= s), scales[-1])
    shown = value / scale
    digits = 4 if unit else 15
    text = f"{shown:.{digits}g}"
    if up and float(text) < shown:
        text = f"{shown + 10.0 ** (len(str(int(shown))) - digits):.{digits}g}"
    return f"{text}{unit} {amounts.words}" if "" in amounts.units else f"{text}{unit} of {amounts.words}"
