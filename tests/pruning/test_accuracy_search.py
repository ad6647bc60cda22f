from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from tests.digits import digits as all_digits
from tests.networks import mlp
from tsdistill.alignment import analyze
from tsdistill.errors import TsdistillError
from tsdistill.evaluation import evaluate
from tsdistill.pruning import PruneResult, prune_to_drop
from tsdistill.pruning.accuracy_search import Trial, bisect, parse_drop


@pytest.fixture(scope="module")
def digits() -> list[tuple[Tensor, Tensor]]:
    images, y = all_digits()
    x = images.flatten(1)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return list(zip(x[order].split(64), y[order].split(64), strict=True))


@pytest.fixture(scope="module")
def trained(digits: list[tuple[Tensor, Tensor]]) -> nn.Module:
    model = mlp(64, 96, 48, 10)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(15):
        for x, y in digits[:20]:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    return model.eval()


def test_the_largest_cut_that_loses_no_more_than_is_allowed(
    trained: nn.Module, digits: list[tuple[Tensor, Tensor]]
) -> None:
    before = copy.deepcopy(trained.state_dict())
    told: list[str] = []
    result = prune_to_drop(
        trained,
        2,
        data=digits,
        inputs={"samples": 1280},
        trials=4,
        realignment={"rounds": 2},
        progress=lambda phase, done, total: told.append(phase),
    )
    assert isinstance(result, PruneResult)
    assert result.metric == "top1"
    judged = evaluate(result.model, digits[20:], ["top1"])["top1"]
    assert judged == pytest.approx(result.figure)
    assert result.figure >= result.dense_figure - 2
    assert result.after["macs"] < 0.9 * result.before["macs"]
    assert 1 <= len(result.trials) <= 4
    allowed = [trial for trial in result.trials if trial.allowed]
    kept = result.after["macs"] / result.before["macs"]
    assert kept == pytest.approx(min(trial.kept for trial in allowed if trial.kept))
    assert all((trial.drop <= 2) == trial.allowed for trial in result.trials if trial.drop is not None)
    assert result.judged_on.startswith("held-out samples: ")
    assert "loses at most 2 %" in result.notes[-1]
    assert len(result.search_dict()["trials"]) == len(result.trials)
    assert any(phase.startswith("trial 1: ") for phase in told)
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())


def test_too_few_samples_to_tell_are_said(trained: nn.Module, digits: list[tuple[Tensor, Tensor]]) -> None:
    result = prune_to_drop(trained, 0.5, data=digits[:2], trials=3, realignment={"realign": False})
    assert "25 samples judge, each of which is 4 % of top1" in result.notes[-1]


def test_more_may_leave_where_more_may_be_lost(
    trained: nn.Module, digits: list[tuple[Tensor, Tensor]]
) -> None:
    unlabelled = torch.cat([x for x, _ in digits])
    report = analyze(trained, data=unlabelled, inputs={"samples": 1400})
    strict, loose = (
        prune_to_drop(
            trained,
            drop,
            data=unlabelled,
            inputs={"samples": 1400},
            report=report,
            trials=4,
            realignment={"realign": False},
        )
        for drop in (1, "10%")
    )
    assert strict.metric == loose.metric == "agreement"
    assert loose.max_drop == 10
    assert loose.after["macs"] < strict.after["macs"]


def test_a_metric_of_which_less_is_better(trained: nn.Module, digits: list[tuple[Tensor, Tensor]]) -> None:
    unlabelled = torch.cat([x for x, _ in digits])
    result = prune_to_drop(
        trained,
        0.05,
        judging={"metric": "output_mse"},
        data=unlabelled,
        trials=4,
        realignment={"realign": False},
    )
    assert result.dense_figure == 0
    assert 0 < result.figure <= 0.05


def test_even_the_mildest_cut_is_too_much(trained: nn.Module, digits: list[tuple[Tensor, Tensor]]) -> None:
    unlabelled = torch.cat([x for x, _ in digits])
    with pytest.raises(TsdistillError, match=r"0\.8\d\d .*output_mse"):
        prune_to_drop(
            trained,
            0,
            judging={"metric": "output_mse"},
            data=unlabelled,
            trials=4,
            realignment={"realign": False},
        )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"max_drop": -1}, "-1"),
        ({"max_drop": "much"}, "'much'"),
        ({"max_drop": True}, "True"),
        ({"max_drop": "5%", "judging": {"metric": "kl"}}, "kl is 0"),
        ({"max_drop": 1, "judging": {"metric": "bleu"}}, "bleu"),
        ({"max_drop": 1, "judging": {"metric": ["kl", "top1"]}}, "one metric"),
        ({"max_drop": 1, "selection": {"exclude": "*"}}, "no group"),
    ],
)
def test_bad_input(trained: nn.Module, arguments: dict, words: str) -> None:
    with pytest.raises(TsdistillError) as caught:
        prune_to_drop(trained, data=torch.randn(60, 64), **arguments)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "parsed"), [(1, (1, False)), ("0.5", (0.5, False)), ("5 %", (0.05, True)), (0, (0, False))]
)
def test_drops(value: float | str, parsed: tuple[float, bool]) -> None:
    assert parse_drop(value) == parsed


@pytest.mark.parametrize("threshold", [0.06, 0.2, 0.5, 0.93])
def test_bisection_closes_in_on_what_is_allowed(threshold: float) -> None:
    tried = bisect(lambda part: Trial(part, part, 90, 1, part >= threshold), 6)
    best = min(trial.macs for trial in tried if trial.allowed)
    assert threshold <= best <= 1.06 * threshold
    assert len(tried) <= 6


def test_bisection_ends_where_nothing_is_left_to_try() -> None:
    assert len(bisect(lambda part: Trial(part, part, 90, 1, part >= 0.5), 100)) < 10
    too_far = bisect(lambda part: Trial(part, None, None, None, False), 3)
    assert [trial.macs for trial in too_far] == sorted(trial.macs for trial in too_far)
