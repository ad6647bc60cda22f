from __future__ import annotations

import pytest
import torch
from torch import nn

from tsdistill.data import open_data
from tsdistill.errors import TsdistillError
from tsdistill.evaluation import evaluate
from tsdistill.models.info import InputSpec, ModelInfo, attach

DATA = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))


def classifier(seed: int = 0) -> nn.Sequential:
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.Dropout(0.5), nn.ReLU(), nn.Linear(12, 8))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=generator)
    return model


class Wrapped(nn.Module):
    def __init__(self, model: nn.Module, wrap) -> None:
        super().__init__()
        self.model, self.wrap = model, wrap

    def forward(self, x: torch.Tensor):
        return self.wrap(self.model(x))


def test_one_pass_gives_what_the_outputs_say() -> None:
    model, other = classifier(0), classifier(1)
    with torch.no_grad():
        mine, theirs = model.eval()(DATA), other.eval()(DATA)
    labels = torch.arange(50) % 8
    model.train()
    data = [(DATA[:30], labels[:30]), (DATA[30:], labels[30:])]
    figures = evaluate(model, data, ["top1", "top5", "agreement", "kl"], reference=other)
    assert figures["top1"] == pytest.approx(100 * float((mine.argmax(1) == labels).float().mean()))
    assert figures["agreement"] == pytest.approx(
        100 * float((mine.argmax(1) == theirs.argmax(1)).float().mean())
    )
    assert figures["top5"] > figures["top1"]
    assert figures["kl"] > 0
    assert model.training
    assert not other.training


def test_metrics_by_default_are_those_whose_needs_are_met() -> None:
    model = classifier()
    labels = torch.zeros(50, dtype=torch.long)
    assert set(evaluate(model, [(DATA, labels)])) == {"top1"}
    assert evaluate(model, [DATA], reference=model) == {"agreement": 100.0, "kl": pytest.approx(0, abs=1e-9)}
    assert set(evaluate(model, [(DATA, labels)], reference=model)) == {"top1", "agreement", "kl"}
    with pytest.raises(TsdistillError, match="nothing to evaluate"):
        evaluate(model, [DATA])


def test_data_are_opened_for_the_inputs_of_the_model() -> None:
    model = classifier()
    attach(model, ModelInfo(input=InputSpec((6,))))
    assert evaluate(model, None, reference=model, samples=10)["agreement"] == 100
    with pytest.raises(TsdistillError, match=r"shape \(7,\) but the model reads \(6,\)"):
        evaluate(model, torch.zeros(3, 7), reference=model)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda y: (y.argmax(1), y),
        lambda y: {"loss": torch.zeros(()), "logits": y},
        lambda y: [None, {"out": y}],
        lambda y: type("Output", (), {"logits": y})(),
    ],
)
def test_outputs_may_be_wrapped(wrap) -> None:
    model = classifier()
    assert evaluate(Wrapped(model, wrap), [DATA], ["agreement"], reference=model) == {"agreement": 100}


def test_models_in_half_precision_get_inputs_in_theirs() -> None:
    model = classifier()
    halved = classifier().to(torch.bfloat16)
    figures = evaluate(halved, [DATA], reference=model)
    assert figures["agreement"] > 85
    assert 0 < figures["kl"] < 1


def test_mappings_are_keyword_arguments() -> None:
    class Named(nn.Module):
        def forward(self, left, right):
            return left - right

    batch = {"left": torch.eye(4), "right": torch.zeros(4, 4), "labels": torch.arange(4)}
    assert evaluate(Named(), open_data([batch], None)) == {"top1": 100}


def infinite(model: nn.Sequential, value: float) -> nn.Sequential:
    with torch.no_grad():
        model.state_dict()["4.bias"][2] = value
    return model


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (classifier(), {"metrics": ["top1"]}, "top1 needs labels"),
        (classifier(), {"metrics": ["kl"]}, "kl needs reference"),
        (classifier(), {"metrics": ["topp1"]}, "topp1"),
        (infinite(classifier(), float("nan")), {"reference": classifier()}, "the model .*NaN"),
        (infinite(classifier(), float("inf")), {"reference": classifier()}, "the model .*infinite"),
        (classifier(), {"reference": infinite(classifier(), float("nan"))}, "the reference .*NaN"),
        (
            nn.Linear(5, 2),
            {"reference": nn.Linear(5, 2)},
            "the reference's forward fails on an input of shape",
        ),
        (Wrapped(nn.Identity(), lambda y: None), {"reference": classifier()}, "without a floating tensor"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(model: nn.Module, options, message: str) -> None:
    with pytest.raises(TsdistillError, match=message) as caught:
        evaluate(model, [DATA], **options)
    assert "\n" not in str(caught.value)
