from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from tsdistill.evaluation import default_metrics
from tsdistill.evaluation.outputs import classes_last, describe, judged, single

SCORES = torch.zeros(4, 7)
BOXES = {"boxes": torch.zeros(3, 4), "scores": torch.zeros(3), "labels": torch.zeros(3, dtype=torch.long)}


@pytest.mark.parametrize(
    "output",
    [
        SCORES,
        {"loss": torch.zeros(()), "logits": SCORES},
        {"prediction": SCORES, "index": torch.zeros(4, dtype=torch.long)},
        (torch.zeros(4, dtype=torch.long), SCORES, torch.zeros(2)),
        [None, {"out": SCORES}],
        SimpleNamespace(logits=SCORES, hidden=torch.zeros(9)),
    ],
)
def test_one_tensor_stands_for_the_output(output) -> None:
    assert single(output) is SCORES
    assert [name for name, _ in judged(output)] == [""]
    assert judged(output)[0][1] is SCORES
    assert default_metrics(False, True, output=output) == ("agreement", "kl")


def test_no_tensor_stands_for_boxes() -> None:
    assert single(BOXES) is None
    assert single([BOXES, BOXES]) is None
    assert single(None) is None
    assert single(torch.zeros(2, dtype=torch.long)) is None
    assert [(name, tuple(t.shape)) for name, t in judged(BOXES)] == [("boxes", (3, 4)), ("scores", (3,))]
    assert [name for name, _ in judged([BOXES, BOXES])] == ["boxes", "scores"] * 2


def test_where_classes_lie() -> None:
    shapes = {
        (4, 7): (4, 7),
        (4, 7, 3, 3): (4, 3, 3, 7),
        (2, 5, 7): (2, 5, 7),
        (2, 7, 1, 2, 3): (2, 1, 2, 3, 7),
    }
    for given, expected in shapes.items():
        found = classes_last(torch.zeros(given))
        assert found is not None
        assert tuple(found.shape) == expected
    assert classes_last(torch.zeros(4)) is None
    assert classes_last(torch.zeros(4, 1)) is None


INTEGERS, FLOATS = torch.zeros(4, dtype=torch.long), torch.zeros(4, 7)


@pytest.mark.parametrize(
    ("output", "target", "reference", "expected"),
    [
        (SCORES, INTEGERS, True, ("top1", "top5", "agreement", "kl")),
        (SCORES[:, :5], INTEGERS, False, ("top1", "top5")),
        (SCORES[:, :4], INTEGERS, False, ("top1",)),
        (SCORES, None, False, ()),
        (SCORES, FLOATS, True, ("mse", "output_mse")),
        (SCORES[:, :1], None, True, ("output_mse",)),
        (SCORES[:, 0], FLOATS[:, 0], False, ("mse",)),
        (SCORES[:, :1], INTEGERS, True, ("mse", "output_mse")),
        (torch.zeros(4, 3, 8, 8), torch.zeros(4, 8, 8, dtype=torch.long), False, ("top1",)),
        (torch.zeros(4, 3, 8, 8), INTEGERS, True, ("agreement", "kl")),
        (torch.zeros(4, 84, 30), INTEGERS, True, ("output_mse",)),
        (torch.zeros(4, 84, 30), None, True, ("agreement", "kl")),
        (torch.zeros(4, 84, 30), INTEGERS, False, ()),
        (BOXES, [BOXES], True, ("output_mse",)),
        (BOXES, [BOXES], False, ()),
        ([BOXES], [BOXES], True, ()),
    ],
)
def test_defaults_go_with_outputs_and_targets(output, target, reference: bool, expected) -> None:
    assert default_metrics(target is not None, reference, output=output, target=target) == expected


def test_defaults_without_an_output_are_those_of_a_classifier() -> None:
    assert default_metrics(True, True) == ("top1", "agreement", "kl")
    assert default_metrics(False, False) == ()


def test_words() -> None:
    assert describe(SCORES) == "a tensor of shape (4, 7)"
    assert describe([BOXES]) == "a list of mappings"
    assert describe(BOXES) == "a dict"
