from __future__ import annotations

import pytest
import torch

from tests.networks import images, residual
from tsdistill.data import Stream, open_data
from tsdistill.errors import TsdistillError
from tsdistill.options import DataOptions, JudgeOptions
from tsdistill.pruning.holdout import HoldoutEvaluator, repeatable, split, split_data


def opened(samples: int | None) -> Stream:
    return open_data(images(100), None, inputs={"samples": samples})


@pytest.mark.parametrize(
    ("samples", "fixed", "seen", "judging", "apart"),
    [
        (60, True, 60, 30, True),
        (90, True, 90, 10, True),
        (100, True, 100, 100, False),
        (None, False, 80, 20, True),
        (2048, False, 80, 20, True),
    ],
)
def test_other_samples_judge_where_there_are_some(
    samples: int | None, fixed: bool, seen: int, judging: int, apart: bool
) -> None:
    number, stream, kind = split(opened, samples, 30, fixed=fixed)
    assert (number, stream.samples) == (seen, judging)
    assert (kind == "held-out samples") is apart
    mine = {float(x.sum()) for batch, _ in opened(number) for x in batch}
    theirs = {float(x.sum()) for batch, _ in stream for x in batch}
    assert mine.isdisjoint(theirs) is apart


def test_what_prune_takes_is_split_too() -> None:
    inputs, stream, _ = split_data(residual(), images(50), DataOptions(batch_size=7), seed=0)
    assert (inputs.samples, stream.samples, stream.batch_size) == (40, 10, 7)


def test_batches_of_an_iterator_can_be_read_twice() -> None:
    assert len(repeatable(iter(images(8).split(4)))) == 2
    x = images(4)
    assert repeatable(x) is x


def test_the_metric_that_judges() -> None:
    model, other, x = residual(), residual(seed=1), images(40)
    unlabelled = HoldoutEvaluator(model, open_data(x, None))
    assert (unlabelled.metric, unlabelled.dense, unlabelled.unit) == ("agreement", 100.0, "%")
    assert unlabelled.drop(unlabelled.figure(other)) > 0
    labels = model(x).argmax(1)
    labelled = HoldoutEvaluator(model, open_data([(x, labels)], None))
    assert (labelled.metric, labelled.dense) == ("top1", 100.0)
    lower = HoldoutEvaluator(model, open_data(x, None), JudgeOptions(metric="output_mse"))
    assert lower.dense == 0
    assert lower.drop(0.25) == 0.25
    assert lower.words(0.25) == "0.25"
    assert unlabelled.words(97.5) == "97.5 %"
    with pytest.raises(TsdistillError, match="labels"):
        HoldoutEvaluator(model, open_data(torch.zeros(4, 3, 8, 8), None), JudgeOptions(metric="top1"))
