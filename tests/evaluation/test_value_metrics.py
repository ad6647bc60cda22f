from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from tsdistill.errors import TsdistillError
from tsdistill.evaluation.value_metrics import MeanAbsoluteError, MeanSquaredError, OutputSquaredError


def values(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def figure(kind, outputs, other, batches: int = 1) -> float:
    metric = kind()
    for mine, theirs in zip(outputs.chunk(batches), other.chunk(batches), strict=True):
        if "labels" in kind.needs:
            metric.update(mine, theirs, None)
        else:
            metric.update(mine, None, theirs)
    return metric.compute()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), batches=st.integers(1, 5), width=st.integers(1, 3))
def test_errors_are_those_of_scikit_learn(seed: int, batches: int, width: int) -> None:
    mine, theirs = values(seed, 30, width), values(seed + 1, 30, width)
    arrays = np.asarray(theirs), np.asarray(mine)
    assert figure(MeanSquaredError, mine, theirs, batches) == pytest.approx(mean_squared_error(*arrays))
    assert figure(MeanAbsoluteError, mine, theirs, batches) == pytest.approx(mean_absolute_error(*arrays))
    relative = 1 - r2_score(arrays[0].ravel(), arrays[1].ravel())
    assert figure(OutputSquaredError, mine, theirs, batches) == pytest.approx(relative)


def test_labels_may_lack_the_last_dimension_and_be_whole_numbers() -> None:
    outputs = torch.tensor([[1.0], [2.5]])
    assert figure(MeanSquaredError, outputs, torch.tensor([1, 2])) == 0.125
    assert figure(MeanAbsoluteError, outputs[:, 0], torch.tensor([[0.0], [2.0]])) == 0.75


def test_the_relative_error_is_the_same_at_any_scale_and_offset() -> None:
    mine, theirs = values(0, 40, 2), values(1, 40, 2)
    expected = figure(OutputSquaredError, mine, theirs)
    moved = figure(OutputSquaredError, 1e3 * mine.double() + 1e6, 1e3 * theirs.double() + 1e6, 4)
    assert moved == pytest.approx(expected, rel=1e-6)
    assert figure(OutputSquaredError, theirs, theirs) == 0
    assert figure(OutputSquaredError, torch.full_like(theirs, float(theirs.mean())), theirs) == pytest.approx(
        1
    )
    assert figure(OutputSquaredError, torch.ones(4, 1), torch.zeros(4, 1)) == math.inf


def test_whole_outputs_count_by_tensor() -> None:
    first, second = values(0, 9, 4), 1e6 * values(1, 9)
    wrong = {"boxes": torch.full_like(first, float(first.mean())), "far": second, "names": ["a"]}
    metric = OutputSquaredError()
    metric.update(wrong, None, {"boxes": first, "far": second, "names": ["b"]})
    assert metric.compute() == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("kind", "outputs", "other", "message"),
    [
        (MeanSquaredError, torch.zeros(4, 2), torch.zeros(4), "mse needs a label for each output"),
        (
            MeanAbsoluteError,
            torch.zeros(4, 2),
            torch.zeros(2, 4),
            r"labels are \(2, 4\) and outputs \(4, 2\)",
        ),
        (OutputSquaredError, torch.zeros(4, 2), torch.zeros(4, 3), r"\(4, 2\) and the reference .*\(4, 3\)"),
        (OutputSquaredError, torch.zeros(4, dtype=torch.long), torch.zeros(4), "gives no floating tensor"),
    ],
)
def test_what_does_not_fit_is_one_line(kind, outputs, other, message: str) -> None:
    with pytest.raises(TsdistillError, match=message) as caught:
        figure(kind, outputs, other)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [MeanSquaredError, MeanAbsoluteError, OutputSquaredError])
def test_nothing_given_is_one_line(kind) -> None:
    with pytest.raises(TsdistillError, match="no samples"):
        kind().compute()
    with pytest.raises(TsdistillError, match=r"needs (labels|a reference)"):
        kind().update(torch.zeros(4, 1), None, None)
