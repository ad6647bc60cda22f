from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tsdistill.report.curve import bins


def group(similarity: list[float], norm: list[float]) -> Any:
    return SimpleNamespace(size=len(norm), similarity=np.array(similarity), standardised_norm=np.array(norm))


def test_every_node_is_in_one_bin() -> None:
    similarity = np.random.default_rng(0).uniform(-1.2, 1.0, 500).round(1)
    found = bins(group([*similarity, 1.0], [1.0] * 501))
    assert sum(item.count for item in found) == 501
    assert found[-1].count == int((similarity >= 0.99).sum()) + 1


def test_medians_and_maxima() -> None:
    first, second, third = bins(group([0.1, 0.2, 0.3, 0.95, 1.0], [1, 2, 6, 5, 7]), (0.0, 0.5, 0.9, 1.0))
    assert (first.count, first.median, first.largest) == (3, 2, 6)
    assert (second.count, second.median, second.largest) == (0, 0, 0)
    assert (third.count, third.median, third.largest) == (2, 6, 7)


def test_an_edge_belongs_to_the_upper_bin() -> None:
    low, high = bins(group([0.9], [1.0]), (0.0, 0.9, 1.0))
    assert (low.count, high.count) == (0, 1)


@pytest.mark.parametrize("value", [-1.0, 1.0])
def test_the_ends_count(value: float) -> None:
    assert sum(item.count for item in bins(group([value], [1.0]))) == 1
