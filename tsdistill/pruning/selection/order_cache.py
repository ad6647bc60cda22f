"""The last elimination orders of a report, so that plans at several limits are not scored each anew."""

from __future__ import annotations

from collections.abc import Mapping
from weakref import WeakKeyDictionary

from tsdistill.alignment.report import AlignmentReport
from tsdistill.pruning.selection.pruning_order import Elimination, score

_Question = tuple[tuple[tuple[str, int], ...], tuple[tuple[str, float], ...], bool]
_LAST: WeakKeyDictionary[AlignmentReport, tuple[_Question, list[Elimination]]] = WeakKeyDictionary()


def scored(
    report: AlignmentReport, floors: Mapping[str, int], savings: Mapping[str, float], *, keep_strong: bool
) -> list[Elimination]:
    """``score``, or what it answered when it was last asked the same of this report."""
    question = (tuple(floors.items()), tuple(savings.items()), keep_strong)
    known = _LAST.get(report)
    if known is None or known[0] != question:
        known = _LAST[report] = (question, score(report, floors, savings, keep_strong=keep_strong))
    return list(known[1])
