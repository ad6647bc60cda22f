from __future__ import annotations

import pytest

from tests.alignment.small import images, residual
from tsdistill.alignment import analyze
from tsdistill.errors import TsdistillError
from tsdistill.pruning import plan


def test_the_plan_meets_its_budget_and_explains_itself() -> None:
    report = analyze(residual(width=16, inner=24), data=images(200))
    made = plan(report, macs="60%")
    assert made.after["macs"] <= 0.6 * made.before["macs"]
    assert made.before["params"] == report.params
    assert made.after["nodes"] == made.before["nodes"] - sum(len(g.removed) for g in made.groups.values())
    assert set(made.groups) == {"stem", "first"}
    for group in made.groups.values():
        assert len(group.removed) == len(group.reasons) == len(group.costs)
        assert len(set(group.removed)) == len(group.removed) < group.size
    assert "0.6 of the MACs" in made.budget


def test_a_smaller_budget_removes_more_of_the_same() -> None:
    report = analyze(residual(width=16, inner=24), data=images(200))
    some, more = plan(report, nodes=0.8).removed, plan(report, nodes=0.5).removed
    for name, nodes in some.items():
        assert set(nodes) <= set(more[name])


def test_groups_that_are_left_whole_stay_so() -> None:
    report = analyze(residual(width=16, inner=24), data=images(100))
    made = plan(report, nodes=0.7, whole=["first"])
    assert list(made.removed) == ["stem"]
    with pytest.raises(TsdistillError, match="cannot be met"):
        plan(report, nodes=0.3, whole=["first"])
