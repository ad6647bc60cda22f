"""Old keywords, one by one, do what the options in objects do, and warn."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import pytest
import torch

import tsdistill as tsd
from tests.networks import mlp
from tsdistill.errors import TsdistillError
from tsdistill.options import AnalysisOptions, DataOptions, SelectionOptions
from tsdistill.options.old_names import Move, grouped


@grouped(
    moved={"params": Move("budget", "params"), "choosing": Move("analysis", "for_pruning")},
    selection=SelectionOptions,
    analysis=AnalysisOptions,
    inputs=DataOptions,
)
def call(
    model: int,
    *,
    budget: Any = None,
    selection: Any = SelectionOptions(),
    analysis: Any = AnalysisOptions(),
    inputs: Any = DataOptions(),
) -> dict[str, Any]:
    """The arguments."""
    return {
        "model": model,
        "budget": budget,
        "selection": SelectionOptions.of(selection).changed(),
        "analysis": AnalysisOptions.of(analysis).changed(),
        "inputs": DataOptions.of(inputs).changed(),
    }


def test_old_keywords_go_into_their_objects_and_warn() -> None:
    with pytest.warns(
        DeprecationWarning,
        match=r"call\(samples=..., params=.*'samples'.*budget=\{'params': ...\}",
    ) as told:
        old = call(3, samples=5, params=0.5, round_to=8, choosing=False, inputs={"batch_size": 2})  # type: ignore[call-arg]
    assert told[0].filename == __file__
    assert old == {
        "model": 3,
        "budget": {"params": 0.5},
        "selection": {"round_to": 8},
        "analysis": {"for_pruning": False},
        "inputs": {"batch_size": 2, "samples": 5},
    }


@pytest.mark.parametrize(
    "given",
    [
        {"samples": 5, "inputs": {"samples": 6}},
        {"samples": 5, "inputs": DataOptions(samples=6)},
        {"params": 0.5, "budget": {"params": 0.4}},
    ],
)
def test_an_option_given_both_ways_is_an_error(given: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="given twice"):
        call(3, **given)


def test_an_argument_that_does_not_exist_is_told_the_nearest() -> None:
    with pytest.raises(TypeError, match=r"call\(\).*'budgt'.*budget"):
        call(3, budgt=0.5)  # type: ignore[call-arg]


def test_new_calls_do_not_warn_and_the_signature_is_the_new_one() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert call(3, inputs={"samples": 5})["inputs"] == {"samples": 5}
    assert [*inspect.signature(call).parameters] == ["model", "budget", "selection", "analysis", "inputs"]


@pytest.mark.parametrize("given", [{"mac": 0.5}, {"model": 4}, {"model": 4, "samples": 5}])
def test_a_wrong_call_is_one_line_that_names_the_argument(given: dict[str, Any]) -> None:
    with pytest.raises(TsdistillError, match=next(iter(given))) as caught:
        call(3, **given)
    assert isinstance(caught.value, TypeError)
    with pytest.raises(TsdistillError, match="model"):
        call(**{"budget": 0.5})  # type: ignore[arg-type]


def test_an_old_call_of_prune_gives_the_same_model() -> None:
    model, x = mlp(4, 8, 6, 3), torch.randn(64, 4)
    new = tsd.prune(model, data=x, budget={"nodes": 0.6}, inputs={"batch_size": 16})
    with pytest.warns(DeprecationWarning, match="prune"):
        old = tsd.prune(model, data=x, nodes=0.6, batch_size=16)  # type: ignore[call-arg]
    with pytest.warns(DeprecationWarning, match="analyze"):
        report = tsd.analyze(model, data=x, thresholds=tsd.Thresholds(weak=0.5), choosing=False)  # type: ignore[call-arg]
    assert report.thresholds.weak == 0.5
    mine, theirs = new.state_dict(), old.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())


def test_the_old_name_of_training_options_warns() -> None:
    import tsdistill.distillation
    from tsdistill.options import TrainOptions

    with pytest.warns(DeprecationWarning, match="TrainOptions"):
        assert tsdistill.distillation.Options is TrainOptions
