from __future__ import annotations

import pytest
import torch

from tests.evaluation.raw_outputs import BOXES, SCORES
from tsdistill.evaluation import default_metrics

INTEGERS, FLOATS = torch.zeros(4, dtype=torch.long), torch.zeros(4, 7)
DENSE = {"boxes": torch.zeros(4, 9, 4), "scores": torch.zeros(4, 9, 5)}


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
        ({"last_hidden_state": torch.zeros(4, 84, 30)}, None, True, ("output_mse",)),
        (BOXES, [BOXES], True, ("output_mse", "output_mse@boxes", "output_mse@scores")),
        (BOXES, [BOXES], False, ()),
        ([BOXES], [BOXES], True, ()),
        (DENSE, None, True, ("output_mse", "output_mse@boxes", "agreement@scores", "kl@scores")),
        (DENSE, torch.zeros(4, 9, dtype=torch.long), False, ("top1@scores", "top5@scores")),
        (DENSE, {"boxes": torch.zeros(4, 9, 4)}, False, ("mse@boxes",)),
        ((SCORES, SCORES), None, True, ("output_mse", "output_mse@0", "output_mse@1")),
    ],
)
def test_defaults_go_with_outputs_and_targets(output, target, reference: bool, expected) -> None:
    assert default_metrics(target is not None, reference, output=output, target=target) == expected


def test_what_the_user_says_of_an_output_goes_first() -> None:
    pair = (SCORES, SCORES)
    stated = {"0": "classes", "1": "unused"}
    assert default_metrics(False, True, output=pair, outputs=stated) == ("agreement@0", "kl@0")
    assert default_metrics(False, True, output=SCORES, outputs={"output": "values"}) == ("output_mse",)


def test_defaults_without_an_output_are_those_of_a_classifier() -> None:
    assert default_metrics(True, True) == ("top1", "agreement", "kl")
    assert default_metrics(False, False) == ()
