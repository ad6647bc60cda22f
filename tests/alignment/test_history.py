from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from tsdistill.alignment.history import AlignmentHistory, GroupHistory

STRENGTH = np.array([1.0, 4.0, 0.0, 3.0, 2.0])
BEST = np.array(
    [
        [0.2, 0.5, 0.0, 0.4, 0.3],
        [0.3, 0.95, 0.0, 0.92, 0.5],
        [0.4, 0.96, 0.0, 0.7, 0.95],
        [0.5, 0.99, 0.0, 0.97, 0.96],
    ]
)


@pytest.fixture
def group() -> GroupHistory:
    return GroupHistory("conv", "conv1", STRENGTH, BEST, 0.9)


def history(*groups: GroupHistory) -> AlignmentHistory:
    final = cast(Any, SimpleNamespace(to_dict=dict))
    names = tuple(f"ckpt-{n}.pt" for n in range(len(BEST)))
    return AlignmentHistory(names, "correlation", None, "some data", groups, ("a note",), final)


def test_thirds_go_by_strength_without_nodes_that_do_nothing(group: GroupHistory) -> None:
    assert [nodes.tolist() for nodes in group.by_strength()] == [[1, 3], [4], [0]]
    expected = np.stack([BEST[:, [1, 3]].mean(1), BEST[:, 4], BEST[:, 0]], axis=1)
    np.testing.assert_allclose(group.thirds(), expected)


def test_a_node_counts_as_aligned_from_where_it_stays_so(group: GroupHistory) -> None:
    assert group.first_aligned().tolist() == [-1, 1, -1, 3, 2]
    assert group.aligned.tolist() == [0, 2, 2, 3]


def test_strong_first_is_a_rank_correlation(group: GroupHistory) -> None:
    assert group.strong_first() == pytest.approx(1.0)
    backwards = GroupHistory("conv", "conv1", 5 - STRENGTH, BEST[:, [0, 1, 3, 3, 4]], 0.9)
    assert backwards.strong_first() < 0


@pytest.mark.parametrize("strength", [[2.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
def test_strong_first_needs_three_nodes_that_differ(strength: list[float]) -> None:
    made = GroupHistory("a", "b", np.array(strength), BEST[:, : len(strength)], 0.9)
    assert np.isnan(made.strong_first())
    assert made.to_dict()["strong_first"] is None


def test_a_group_of_one_node_has_a_strong_third_only() -> None:
    made = GroupHistory("a", "b", np.array([1.0]), BEST[:, :1], 0.9)
    np.testing.assert_allclose(made.thirds()[:, 0], BEST[:, 0])
    assert np.isnan(made.thirds()[:, 1:]).all()


def test_all_groups_together(group: GroupHistory) -> None:
    other = GroupHistory("fc", "fc", np.array([1.0, 9.0]), np.full((4, 2), 0.8), 0.9)
    both = history(group, other)
    assert both.teacher_nodes == 7
    assert both.aligned.tolist() == group.aligned.tolist()
    np.testing.assert_allclose(both.thirds()[0], [(0.5 + 0.4 + 0.8) / 3, (0.3 + 0.8) / 2, 0.2])
    np.testing.assert_allclose(both.thirds("fc"), other.thirds())
    assert both.first_aligned("conv").tolist() == group.first_aligned().tolist()
    assert both.strong_first() == pytest.approx(1.0)


def test_plain_json_without_nan(group: GroupHistory) -> None:
    made = history(group, GroupHistory("fc", "fc", np.ones(1), np.ones((4, 1)), 0.9))
    data = json.loads(json.dumps(made.to_dict(), allow_nan=False))
    assert data["kind"] == "alignment over training"
    assert data["names"] == ["ckpt-0.pt", "ckpt-1.pt", "ckpt-2.pt", "ckpt-3.pt"]
    assert data["groups"][0]["first_aligned"] == [-1, 1, -1, 3, 2]
    assert data["groups"][1]["thirds"]["weak"] == [None] * 4
    assert data["thirds"]["strong"][-1] == pytest.approx((0.99 + 0.97 + 1) / 3)
    assert "0 to 4 of 6" in str(made) or "1 to 4 of 6" in str(made)
