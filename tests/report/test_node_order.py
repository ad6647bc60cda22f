import numpy as np
import pytest

from tsdistill.alignment.matching.node_matching import match_nodes
from tsdistill.report.node_order import MOST, by_strength, heat_order, strength_bins


def test_strong_to_weak_and_equals_as_they_are() -> None:
    assert by_strength(np.array([1.0, 3, 1, 2, 3])).tolist() == [1, 4, 3, 0, 2]


def test_student_nodes_follow_their_teacher_nodes() -> None:
    table = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.95], [0.99, 0.0]])
    rows, columns = heat_order(match_nodes("m", table), np.array([1.0, 5.0]), own=False)
    assert columns.tolist() == [1, 0]
    assert rows.tolist() == [2, 0, 3, 1]


def test_when_there_are_too_many_the_strongest_and_their_students_stay() -> None:
    rng = np.random.default_rng(0)
    table = rng.uniform(0, 1, (300, 200))
    matches = match_nodes("m", table)
    strength = rng.random(200)
    rows, columns = heat_order(matches, strength, own=False)
    assert len(rows) == len(columns) == MOST
    assert set(columns.tolist()) == set(np.argsort(-strength)[:MOST].tolist())
    with_one = np.flatnonzero(np.isin(matches.best, columns))
    assert set(rows.tolist()) == set(with_one[np.argsort(-matches.similarity[with_one])][:MOST].tolist())


def test_few_student_nodes_are_all_there() -> None:
    matches = match_nodes("m", np.random.default_rng(0).uniform(0, 1, (30, 200)))
    rows, _ = heat_order(matches, np.arange(200.0), own=False)
    assert sorted(rows.tolist()) == list(range(30))


def test_beside_itself_alike_nodes_stand_together() -> None:
    kinds = np.array([0, 1, 2] * 5)
    table = np.where(kinds[:, None] == kinds[None, :], 0.9, 0.1)
    rows, columns = heat_order(match_nodes("m", table, own=True), np.ones(15), own=True)
    assert rows.tolist() == columns.tolist()
    assert (np.diff(kinds[rows]) != 0).sum() == 2


@pytest.mark.parametrize("size", [1, 2])
def test_tiny_groups(size: int) -> None:
    rows, _ = heat_order(match_nodes("m", np.eye(size), own=True), np.ones(size), own=True)
    assert sorted(rows.tolist()) == list(range(size))


@pytest.mark.parametrize(("size", "bins"), [(0, 0), (1, 1), (20, 20), (21, 10), (200, 10)])
def test_bins_from_weak_to_strong(size: int, bins: int) -> None:
    strength = np.random.default_rng(size).random(size)
    found = strength_bins(strength)
    assert len(found) == bins
    flat = [node for nodes in found for node in nodes.tolist()]
    assert strength[flat].tolist() == sorted(strength)
