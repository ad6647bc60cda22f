from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tsdistill import plugins
from tsdistill.errors import TsdistillError
from tsdistill.evaluation.class_metrics import Agreement, KullbackLeibler, Top1, Top5


def scores(seed: int, count: int = 40, classes: int = 7) -> torch.Tensor:
    return torch.randn(count, classes, generator=torch.Generator().manual_seed(seed)) * 3


def figure(kind, outputs: torch.Tensor, other: torch.Tensor, batches: int = 1) -> float:
    metric = kind()
    labelled = "labels" in kind.needs
    for mine, theirs in zip(outputs.chunk(batches), other.chunk(batches), strict=True):
        metric.update(mine, theirs if labelled else None, None if labelled else theirs)
    return metric.compute()


def test_accuracy_by_hand() -> None:
    outputs = torch.tensor([[0.1, 0.9, 0.0], [0.5, 0.2, 0.3], [0.0, 0.1, 0.2], [3.0, 2.0, 1.0]])
    assert figure(Top1, outputs, torch.tensor([1, 0, 0, 1])) == 50.0
    wide = torch.arange(8.0).expand(4, 8)
    assert figure(Top5, wide, torch.tensor([7, 3, 2, 0])) == 50.0


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000), batches=st.integers(1, 5), scale=st.floats(0.1, 30), shift=st.floats(-50, 50)
)
def test_laws(seed: int, batches: int, scale: float, shift: float) -> None:
    mine, theirs = scores(seed), scores(seed + 1)
    assert figure(Agreement, mine, mine, batches) == 100
    assert figure(KullbackLeibler, mine, mine, batches) == pytest.approx(0, abs=1e-9)
    assert figure(Agreement, mine, theirs, batches) == pytest.approx(figure(Agreement, theirs, mine))
    assert figure(KullbackLeibler, mine, theirs, batches) > 0
    assert figure(KullbackLeibler, mine, theirs, batches) == pytest.approx(
        figure(KullbackLeibler, mine, theirs)
    )
    assert figure(KullbackLeibler, mine + shift, theirs) == pytest.approx(
        figure(KullbackLeibler, mine, theirs), rel=1e-4
    )
    assert figure(Agreement, mine * scale + shift, mine) == 100
    labels = theirs.argmax(1)
    assert figure(Top1, mine, labels, batches) == pytest.approx(figure(Agreement, mine, theirs))
    assert figure(Top1, mine, labels) <= figure(Top5, mine, labels) <= 100


def test_divergence_is_that_of_pytorch_with_the_reference_first() -> None:
    mine, theirs = scores(0), scores(1)
    expected = torch.nn.functional.kl_div(
        mine.log_softmax(1), theirs.log_softmax(1), log_target=True, reduction="batchmean"
    )
    assert figure(KullbackLeibler, mine, theirs) == pytest.approx(float(expected), rel=1e-5)


def test_maps_and_sequences_are_judged_at_each_position() -> None:
    maps = torch.randn(2, 5, 3, 4)
    other = maps.clone()
    other[0, :, 1, 2] = -other[0, :, 1, 2]
    assert figure(Agreement, maps, other) == pytest.approx(100 * 23 / 24)
    assert figure(Top1, maps, maps.argmax(1)) == 100
    sequences = torch.randn(2, 6, 9)
    assert figure(Top1, sequences, sequences.argmax(2)) == 100


@pytest.mark.parametrize(
    ("kind", "outputs", "other", "message"),
    [
        (Top1, torch.zeros(4, 3), torch.tensor([0, 1, 2, 3]), "model has 3 classes"),
        (Top1, torch.zeros(4, 3), torch.tensor([0, -1, 2, 1]), "labels"),
        (Top1, torch.zeros(4, 3), torch.zeros(4), "class number"),
        (Top1, torch.zeros(4, 3), torch.zeros(4, 3, dtype=torch.long), "class number"),
        (Top1, torch.zeros(4, 1), torch.zeros(4, dtype=torch.long), "two or more classes"),
        (Top1, torch.zeros(4), torch.zeros(4, dtype=torch.long), "two or more classes"),
        (Top5, torch.zeros(4, 3), torch.zeros(4, dtype=torch.long), "top5 needs 5 classes"),
        (Agreement, torch.zeros(4, 3), torch.zeros(4, 2), r"\(4, 3\) and the reference \(4, 2\)"),
        (Agreement, torch.zeros(4, 1), torch.zeros(4, 1), "two or more classes"),
        (KullbackLeibler, torch.zeros(4, 1), torch.zeros(4, 1), "two or more classes"),
    ],
)
def test_what_does_not_fit_is_one_line(kind, outputs, other, message: str) -> None:
    with pytest.raises(TsdistillError, match=message) as caught:
        figure(kind, outputs, other)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [Top1, Top5, Agreement, KullbackLeibler])
def test_nothing_given_is_one_line(kind) -> None:
    with pytest.raises(TsdistillError, match="no samples"):
        kind().compute()
    with pytest.raises(TsdistillError, match=r"needs (labels|a reference)"):
        kind().update(torch.zeros(4, 9), None, None)


def test_the_built_in_metrics_come_through_the_hook() -> None:
    assert {"top1", "top5", "agreement", "kl"} <= set(plugins.names("evaluation metric"))
    assert plugins.get("evaluation metric", "kl") is KullbackLeibler
