"""The last elimination orders of a report, so that plans at several limits are not scored each anew."""

from __future__ import annotations

from collections.abc import Mapping
from weakref import WeakKeyDictionary

from tsdistill.alignment.report import AlignmentReport
from tsdistill.plugins import NamedObject, name_of
from tsdistill.pruning.selection.importance import Importance, importance_orders
from tsdistill.pruning.selection.pruning_order import PruningOrder

_Question = tuple[tuple[tuple[str, int], ...], tuple[tuple[str, float], ...], bool, object]
_LAST: WeakKeyDictionary[AlignmentReport, tuple[_Question, list[PruningOrder]]] = WeakKeyDictionary()


def scored(
    report: AlignmentReport,
    floors: Mapping[str, int],
    savings: Mapping[str, float],
    *,
    keep_strong: bool,
    importance: str | Importance,
) -> list[PruningOrder]:
    """``importance_orders``, or what it answered when it was last asked the same of this report."""
    question = (tuple(floors.items()), tuple(savings.items()), keep_strong, _identity(importance))
    known = _LAST.get(report)
    if known is None or known[0] != question:
        found = importance_orders(importance, report, floors, savings, keep_strong=keep_strong)
        known = _LAST[report] = (question, found)
    return list(known[1])


def _identity(importance: str | Importance) -> object:
    """What two questions have to have in common: the name of a criterion, or the very object."""
    name = name_of(importance)
    return name.thing if isinstance(name, NamedObject) else name
