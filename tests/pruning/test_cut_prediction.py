from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import tsdistill as tsd
from tests.networks import images, mlp, residual
from tests.tracing.attention import attention
from tsdistill.pruning.cut_prediction import SAMPLES, prediction_stages
from tsdistill.pruning.realignment import Outputs


def _measured(model: nn.Module, x: Tensor, macs: float) -> float:
    """How far the output is off after that cut, as it is, on the same samples."""
    small = tsd.prune(model, data=x, macs=macs, realignment={"realign": False})
    return Outputs(model, [(x[:SAMPLES], None)]).error(small) ** 0.5


@pytest.mark.parametrize("macs", [0.9, 0.5])
def test_the_cut_moves_the_output_as_far_as_predicted(macs: float) -> None:
    """A residual stream, batch norms, a flattened map: the cut itself, compensated and not re-aligned."""
    model, x = residual(), images(300)
    (cut,) = tsd.predict_cuts(model, x, macs=[macs]).cuts
    assert cut.error == pytest.approx(_measured(model, x, macs), rel=0.05)
    plan = tsd.plan(tsd.analyze(model, data=x, analysis={"strength_target": None}), macs=macs)
    assert cut.widths == {name: group.size - len(group.removed) for name, group in plan.groups.items()}
    assert cut.macs_kept == plan.after["macs"] / plan.before["macs"] <= macs


def test_coordinates_of_heads_are_predicted_as_they_are_cut() -> None:
    model, x = attention(heads=4), torch.randn(200, 5, 6)
    cuts = tsd.predict_cuts(model, x, macs=[0.4])
    assert cuts.cuts[0].error == pytest.approx(_measured(model, x, 0.4), rel=0.3)


def test_nothing_changes_and_a_report_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model, teacher, x = residual(), residual(seed=2), images(200)
    state = copy.deepcopy(model.state_dict())
    alone = tsd.predict_cuts(model, x, report=tsd.analyze(model, data=x))
    beside = tsd.predict_cuts(model, x, report=tsd.analyze(model, teacher, x))
    assert alone.to_dict() == beside.to_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    errors = [cut.error or 0.0 for cut in alone.cuts]
    assert [cut.macs for cut in alone.cuts] == [0.9, 0.75, 0.5, 0.25]
    assert errors == sorted(errors)
    assert [cut.least for cut in alone.cuts] == sorted(cut.least for cut in alone.cuts)


def test_the_model_runs_twice_and_every_cut_twice() -> None:
    """Over the samples of the norms and of the outputs, as the stage of the forecast says."""
    model, x, seen = residual(), images(200), [0]
    report = tsd.analyze(model, data=x)
    handle = nn.modules.module.register_module_forward_pre_hook(
        lambda module, args: seen.__setitem__(0, seen[0] + len(args[0])) if hasattr(module, "stem") else None
    )
    tsd.predict_cuts(model, x, report=report, macs=[0.8, 0.5])
    handle.remove()
    assert seen[0] <= sum(prediction_stages(2).values()) + 8


def test_a_cut_that_cannot_be_reached_is_a_note() -> None:
    cuts = tsd.predict_cuts(mlp(6, 20, 4), torch.randn(100, 6), macs=[0.6, 0.001])
    assert [cut.macs for cut in cuts.cuts] == [0.6]
    assert "cannot be met" in cuts.notes[0]


def test_the_command_names_the_budget() -> None:
    cuts = tsd.predict_cuts(mlp(6, 20, 4), torch.randn(100, 6), macs=[0.6])
    assert "macs=0.6" in cuts.to_dict()["cuts"][0]["command"]


def test_samples_that_nothing_was_fitted_to_are_looked_at_where_there_are_some() -> None:
    model, x = residual(), images(400)
    cuts = tsd.predict_cuts(model, x, inputs={"samples": 40}, macs=[0.5])
    others = tsd.open_data(x, None, inputs={"samples": 40}).held_out(64)
    small = tsd.prune(model, data=x, inputs={"samples": 40}, macs=0.5, realignment={"realign": False})
    assert others is not None
    assert cuts.cuts[0].error == pytest.approx(Outputs(model, others).error(small) ** 0.5, rel=0.05)
    assert cuts.held_out
    assert not tsd.predict_cuts(model, x[:40], macs=[0.5]).held_out
