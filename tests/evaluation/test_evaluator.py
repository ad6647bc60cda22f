from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from tsdistill import plugins
from tsdistill.data import open_data
from tsdistill.errors import TsdistillError
from tsdistill.evaluation import compare, evaluate
from tsdistill.evaluation.evaluator import evaluate_all
from tsdistill.models.info import InputSpec, ModelInfo, attach
from tsdistill.options import JudgeOptions

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
    assert set(evaluate(model, [(DATA, labels)])) == {"top1", "top5"}
    assert evaluate(model, [DATA], reference=model) == {"agreement": 100.0, "kl": pytest.approx(0, abs=1e-9)}
    assert set(evaluate(model, [(DATA, labels)], reference=model)) == {"top1", "top5", "agreement", "kl"}
    with pytest.raises(TsdistillError, match="nothing to evaluate"):
        evaluate(model, [DATA])


def test_data_are_opened_for_the_inputs_of_the_model() -> None:
    model = classifier()
    attach(model, ModelInfo(input=InputSpec((6,))))
    assert evaluate(model, None, reference=model, inputs={"samples": 10})["agreement"] == 100
    with pytest.raises(TsdistillError, match=r"\(7,\) .*\(6,\)"):
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
        (classifier(), {"judging": ["top1"]}, "top1 needs labels"),
        (classifier(), {"judging": ["kl"]}, "kl needs reference"),
        (classifier(), {"judging": ["topp1"]}, "topp1"),
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


class Detector(nn.Module):
    """Sees the bright rectangles of pictures of any size: a list of pictures in, a mapping for each out."""

    def __init__(self, threshold: float = 0.5) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(threshold))

    def forward(self, pictures) -> list[dict[str, torch.Tensor]]:
        found = []
        for picture in pictures:
            places = (picture[0] > self.threshold).nonzero().float()
            box = [*places.amin(0), *(places.amax(0) + 1)] if len(places) else []
            found.append({"boxes": torch.tensor(box).view(-1, 4), "scores": torch.ones(len(box) // 4)})
        return found


class MeanIoU:
    """Mean overlap of the best box with each true one, in percent."""

    needs = frozenset({"labels"})
    wants = "raw"
    unit = "%"

    def __init__(self) -> None:
        self.overlaps: list[float] = []

    def update(self, outputs, labels, reference_outputs) -> None:
        for found, true in zip(outputs, labels, strict=True):
            table = torchvision.ops.box_iou(true["boxes"], found["boxes"])
            self.overlaps += table.max(1).values.tolist() if table.shape[1] else [0.0] * len(table)

    def compute(self) -> float:
        return 100 * sum(self.overlaps) / len(self.overlaps)


class Broken:
    """A metric that has a fault."""

    needs: frozenset[str] = frozenset()

    def update(self, outputs, labels, reference_outputs) -> None:
        raise KeyError("no such thing")

    def compute(self) -> float:
        return 0.0


def pictures() -> list[tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]]:
    """Two batches of pictures of different sizes, a rectangle in each: its left half dark grey."""
    batches = []
    for sizes in ([(20, 30), (25, 20)], [(16, 16)]):
        xs: list[torch.Tensor] = []
        ys: list[dict[str, torch.Tensor]] = []
        for height, width in sizes:
            x = torch.zeros(3, height, width)
            x[:, 2:10, 4:8] = 0.4
            x[:, 2:10, 8:12] = 1
            xs.append(x)
            ys.append({"boxes": torch.tensor([[2.0, 4, 10, 12]]), "image_id": torch.tensor(len(ys))})
        batches.append((xs, ys))
    return batches


@pytest.fixture
def own_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """The metrics of this file, as a plugin's."""
    items = {**plugins.items("evaluation metric"), "iou": MeanIoU, "broken": Broken}
    monkeypatch.setattr(plugins, "get", lambda kind, name: items[name])
    monkeypatch.setattr(plugins, "origin", lambda kind, name: "plugin 'mine'")


@pytest.mark.usefixtures("own_metrics")
def test_a_detector_and_a_metric_of_boxes() -> None:
    assert evaluate(Detector(0.2), pictures(), ["iou"]) == {"iou": pytest.approx(100)}
    assert evaluate(Detector(0.5), pictures(), ["iou"]) == {"iou": pytest.approx(50)}
    assert evaluate(Detector(2.0), pictures(), ["iou"]) == {"iou": 0}
    figures = evaluate(Detector(0.5), pictures(), ["iou", "output_mse"], reference=Detector(0.2))
    assert figures["output_mse"] > 0
    compared = compare(
        {"dense": Detector(0.2), "small": Detector(0.5)},
        pictures(),
        judging=["iou"],
        inputs={"example_input": (pictures()[0][0][:1],)},
        repeats=1,
    )
    assert [round(metrics["iou"], 3) for metrics in compared.metrics] == [100, 50]
    assert compared.traits["iou"].unit == "%"


def test_a_detector_without_a_metric_is_costs_only_and_says_so() -> None:
    compared = compare(
        [Detector(), Detector(0.3)], pictures(), inputs={"example_input": (pictures()[0][0][:1],)}, repeats=1
    )
    assert compared.metrics == ({}, {})
    assert "no built-in metric goes with these outputs" in compared.notes[0]
    with pytest.raises(TsdistillError, match="no built-in metric goes with such outputs"):
        evaluate(Detector(), pictures())
    with pytest.raises(TsdistillError, match=r"top1 .*labels .*list"):
        evaluate(Detector(), pictures(), ["top1"])


@pytest.mark.usefixtures("own_metrics")
def test_a_metric_that_raises_is_one_line() -> None:
    with pytest.raises(TsdistillError, match=r"broken .*'mine'.*KeyError") as caught:
        evaluate(classifier(), [DATA], ["broken"])
    assert "\n" not in str(caught.value)


def test_a_raw_metric_refuses_nan() -> None:
    with pytest.raises(TsdistillError, match="NaN"):
        evaluate(infinite(classifier(), float("nan")), [DATA], ["output_mse"], reference=classifier())


def test_the_reference_runs_once_when_it_is_one_of_the_models() -> None:
    calls = []
    model = classifier()
    model.register_forward_hook(lambda *_: calls.append(1))
    figures = evaluate_all([model, classifier(1)], open_data([DATA], None), JudgeOptions(), model)
    assert len(calls) == 1
    assert figures[0]["agreement"] == 100 > figures[1]["agreement"]


class Tagger(nn.Module):
    """Scores of 5 classes for each token, and a value for each; noise where the mask is 0."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.table, self.value = nn.Embedding(11, 5), nn.Embedding(11, 3)

    def forward(self, input_ids, attention_mask=None):
        scores, values = self.table(input_ids), self.value(input_ids)
        if attention_mask is not None:
            scores = torch.where(attention_mask[..., None] > 0, scores, torch.randn_like(scores) * 9)
        return {"values": values, "logits": scores}


def test_padding_and_ignored_labels_leave_every_metric_as_it_is() -> None:
    mine, theirs = Tagger(0), Tagger(1)
    tokens = torch.randint(11, (4, 6), generator=torch.Generator().manual_seed(2))
    labels = tokens % 5
    plain = [({"input_ids": tokens}, labels)]
    mask = torch.cat([torch.ones(4, 6), torch.zeros(4, 3)], 1).long()
    ids = torch.cat([tokens, torch.zeros(4, 3, dtype=torch.long)], 1)
    ignored = torch.cat([labels, torch.full((4, 3), -100)], 1)
    expected = evaluate(mine, plain, reference=theirs)
    assert list(expected) == [
        "output_mse", "output_mse@values", "top1@logits", "top5@logits", "agreement@logits", "kl@logits",
    ]  # fmt: skip
    padded = {"input_ids": ids, "attention_mask": mask}
    assert evaluate(mine, [(padded, ignored)], reference=theirs) == pytest.approx(expected)
    assert evaluate(mine, [(padded, ignored.clamp_min(0))], reference=theirs) == pytest.approx(expected)
    quiet = {"input_ids": ids}
    assert evaluate(mine, [(quiet, ignored)], reference=theirs) == pytest.approx(expected)
    other = torch.where(ignored < 0, 7, ignored)
    assert evaluate(mine, [(quiet, other)], reference=theirs, judging={"ignore_index": 7}) == pytest.approx(
        expected
    )


class Masked(nn.Module):
    """Scores of tokens, from a forward with two arguments."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embed = nn.Embedding(11, 4)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.embed(input_ids) * attention_mask[..., None]


def test_padding_among_positional_arguments_counts_for_nothing() -> None:
    ids = torch.randint(11, (6, 7), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(7) < torch.tensor([7, 2, 5, 1, 3, 6])[:, None]).long()
    named = {"input_ids": ids, "attention_mask": mask}
    mine, theirs = Masked(0), Masked(1)
    with torch.no_grad():
        mine_logs, their_logs = (m(ids, mask).double().log_softmax(-1)[mask > 0] for m in (mine, theirs))
    expected = float((their_logs.exp() * (their_logs - mine_logs)).sum(1).mean())
    for batch in (((ids, mask), torch.full((6, 7), 3)), named):
        assert evaluate(mine, [batch], ["kl"], reference=theirs)["kl"] == pytest.approx(expected)


class Shifted(nn.Module):
    """Scores ``[N, 4]``, those of a sample shifted by ``offset`` times its first value, and boxes."""

    def __init__(self, offset: float, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.scores, self.boxes, self.offset = nn.Linear(6, 4), nn.Linear(6, 2), offset

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"scores": self.scores(x) + self.offset * x[:, :1], "boxes": self.boxes(x)}


def test_the_error_over_all_outputs_does_not_see_what_changes_no_probability() -> None:
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
    reference = Shifted(0.0)
    assert evaluate(Shifted(9.0), [x], reference=reference)["output_mse"] == pytest.approx(0, abs=1e-9)
    other = Shifted(9.0, seed=2)
    with torch.no_grad():
        outputs = [[model(x)[name].double() for name in ("scores", "boxes")] for model in (other, reference)]
    errors = []
    for place in range(2):
        y, r = (of[place] - of[place].mean(1, keepdim=True) * (1 - place) for of in outputs)
        errors.append(float((y - r).square().sum() / (r - r.mean()).square().sum()))
    assert evaluate(other, [x], reference=reference)["output_mse"] == pytest.approx(sum(errors) / 2)


def test_every_output_is_compared_whatever_it_is_called() -> None:
    mine, theirs = Tagger(0), Tagger(1)
    x = {"input_ids": torch.arange(11)[None]}
    compared = compare({"a": mine, "b": Wrapped2(theirs)}, [x], inputs={"example_input": x}, repeats=1)
    assert compared.figures == ("output_mse", "output_mse@values", "agreement@logits", "kl@logits")
    assert compared.metrics[1] == pytest.approx(evaluate(theirs, [x], reference=mine))
    assert compared.traits["kl@logits"].unit == "nats"
    said = {"values": "unused", "logits": "values"}
    assert compare(
        [mine, theirs], [x], inputs={"example_input": x}, repeats=1, judging={"outputs": said}
    ).figures == ("output_mse@logits",)
    with pytest.raises(TsdistillError, match="'boxes'"):
        evaluate(mine, [x], ["kl@boxes"], reference=theirs)


class Wrapped2(nn.Module):
    """The outputs of a tagger in a tuple."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **x):
        return tuple(self.model(**x).values())
