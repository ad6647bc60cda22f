from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch

from tests.evaluation.raw_outputs import BOXES, SCORES
from tsdistill.errors import TsdistillError
from tsdistill.evaluation.named_outputs import describe, main_name, main_output, named_outputs


class Pair(NamedTuple):
    boxes: torch.Tensor
    logits: torch.Tensor


@dataclass
class Structured:
    logits: torch.Tensor
    depth: torch.Tensor


@pytest.mark.parametrize(
    ("output", "names", "main"),
    [
        (SCORES, ["output"], "output"),
        ({"loss": torch.zeros(()), "logits": SCORES}, ["logits"], "logits"),
        ({"prediction": SCORES, "index": torch.zeros(4, dtype=torch.long)}, ["prediction"], "prediction"),
        ((torch.zeros(4, dtype=torch.long), SCORES, torch.zeros(2)), ["1", "2"], "1"),
        ([None, {"out": SCORES}], ["1.out"], "1.out"),
        (SimpleNamespace(logits=SCORES, hidden=torch.zeros(9)), ["logits"], "logits"),
        (Pair(torch.zeros(4, 2), SCORES), ["boxes", "logits"], "logits"),
        (Structured(SCORES, SCORES), ["logits", "depth"], "logits"),
        (BOXES, ["boxes", "scores"], "boxes"),
    ],
)
def test_every_floating_tensor_has_a_name(output, names: list[str], main: str) -> None:
    found = named_outputs(output)
    assert list(found) == names
    assert main_name(found) == main
    assert main_output(output) is found[main]


def test_no_tensor_over_the_batch() -> None:
    assert named_outputs([BOXES, BOXES]) == {}
    assert main_output([BOXES, BOXES]) is BOXES["boxes"]
    assert named_outputs(None) == {}
    with pytest.raises(TsdistillError, match="NoneType"):
        main_output(None)
    assert named_outputs(torch.zeros(2, dtype=torch.long)) == {}


def test_what_transformers_give_along_is_left_out() -> None:
    from transformers.modeling_outputs import CausalLMOutputWithPast

    along = CausalLMOutputWithPast(loss=torch.zeros(()), logits=SCORES, hidden_states=(SCORES, SCORES))
    assert list(named_outputs(along)) == ["logits"]


def test_words() -> None:
    assert describe(SCORES) == "a tensor of shape (4, 7)"
    assert describe([BOXES]) == "a list of mappings"
    assert describe(BOXES) == "a dict"
