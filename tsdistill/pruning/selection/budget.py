"""Budgets: what is kept, as a part of the whole model or as an amount of MACs, parameters, nodes or time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite

from tsdistill.errors import TsdistillError

KINDS = ("macs", "params", "nodes", "latency")

_WORDS = {"macs": "MACs", "params": "parameters", "nodes": "nodes", "latency": "latency"}
_COUNTS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_TIMES = {"us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0}
_EXAMPLES = {"macs": "1.2G", "params": "5M", "nodes": "1200", "latency": "10ms"}
_AMOUNT = re.compile(r"([0-9][0-9_]*\.?[0-9]*(?:e[+-]?[0-9]+)?|\.[0-9]+)\s*([a-zµμ]*)", re.IGNORECASE)


@dataclass(frozen=True)
class Budget:
    """What is kept: a part of the whole, or an amount.

    Attributes:
        kind: ``"macs"``, ``"params"``, ``"nodes"`` or ``"latency"``.
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
            return f"{self.kept:.4g} of the {_WORDS[self.kind]}"
        assert self.limit is not None
        return amount(self.kind, self.limit)


def budget_of(
    macs: object = None, params: object = None, nodes: object = None, latency: object = None
) -> Budget:
    """The one budget that is given: a part (``0.5``, ``"50%"``) or an amount (``"1.2G"``, ``"10ms"``).

    A number above 1 is an amount, and so is one with a unit: k, M, G or T for MACs, parameters and nodes; us,
    ms or s for latency, which takes no amount without one. A ``Budget`` of the kind is given back.

    Raises:
        TsdistillError: none or several are given, or one that is neither a part nor an amount.
    """
    values = dict(zip(KINDS, (macs, params, nodes, latency), strict=True))
    given = {kind: value for kind, value in values.items() if value is not None}
    if len(given) != 1:
        names = ", ".join(KINDS[:-1]) + f" and {KINDS[-1]}"
        what = "no budget is given" if not given else f"{' and '.join(given)} are given and contradict"
        raise TsdistillError(f"{what}; give exactly one of {names}: what is kept")
    kind, value = next(iter(given.items()))
    if isinstance(value, Budget) and value.kind == kind:
        return value
    return _parse(kind, value)


def asked(
    macs: object = None,
    params: object = None,
    nodes: object = None,
    latency: object = None,
    *,
    lossless: bool = False,
) -> Budget | None:
    """The one budget that is given, ``None`` when instead only what costs nothing is to leave.

    Raises:
        TsdistillError: as ``budget_of``, or a budget beside ``lossless``.
    """
    if not lossless:
        return budget_of(macs, params, nodes, latency)
    values = zip(KINDS, (macs, params, nodes, latency), strict=True)
    beside = [kind for kind, value in values if value is not None]
    if beside:
        raise TsdistillError(
            f"lossless takes no budget, it removes what costs nothing and no more; leave out {beside[0]} "
            "or lossless"
        )
    return None


def _parse(kind: str, value: object) -> Budget:
    wrong = TsdistillError(
        f"{kind} takes the part that is kept, above 0 and at most 1 (0.5 or 50%), or the amount that is kept "
        f"({_EXAMPLES[kind]}), not {value!r}"
    )
    text = str(value).strip()
    percent = text.endswith("%")
    found = _AMOUNT.fullmatch(text.removesuffix("%").strip())
    if isinstance(value, bool) or found is None or (percent and found[2]):
        raise wrong
    number, unit = float(found[1]), found[2].lower()
    if not isfinite(number):
        raise wrong
    units = _TIMES if kind == "latency" else _COUNTS
    if percent or (not unit and number <= 1):
        part = number / 100 if percent else number
        if not 0 < part <= 1:
            raise wrong
        return Budget(kind, part)
    limit = number * units.get(unit, float("nan"))
    whole = kind == "latency" or (limit >= 1 and (bool(unit) or limit == int(limit)))
    if not isfinite(limit) or limit <= 0 or not whole:
        raise wrong
    return Budget(kind, limit=limit)


def amount(kind: str, value: float, *, up: bool = False) -> str:
    """An amount in words, in a form that a budget takes: ``"1.2G MACs"``, ``"10ms of latency"``.

    Args:
        kind: of the budget.
        value: MACs, parameters, nodes or seconds.
        up: round up, so that a budget of what is said is not below ``value``.
    """
    if kind == "latency":
        scale, unit = next(((s, u) for s, u in ((1.0, "s"), (1e-3, "ms")) if value >= s), (1e-6, "us"))
    else:
        scales = ((1e12, "T"), (1e9, "G"), (1e6, "M"))
        scale, unit = next(((s, u) for s, u in scales if value >= s), (1.0, ""))
    shown = value / scale
    digits = 4 if unit else 15
    text = f"{shown:.{digits}g}"
    if up and float(text) < shown:
        text = f"{shown + 10.0 ** (len(str(int(shown))) - digits):.{digits}g}"
    return f"{text}{unit} of latency" if kind == "latency" else f"{text}{unit} {_WORDS[kind]}"
