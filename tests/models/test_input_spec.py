from typing import Any

import pytest
import torch
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.models import InputSpec, ModelInfo, attach, example_input, load
from tsdistill.models.input_spec import override
from tsdistill.options import InputOptions

SPEC = InputSpec((3, 32, 32), (0.5,) * 3, (0.2,) * 3, source="somewhere")


def test_nothing_given_changes_nothing():
    assert override(SPEC, InputOptions()) is SPEC
    assert override(None, InputOptions()) is None


def test_given_figures_replace_known_ones():
    found: Any = override(SPEC, InputOptions(input_size=[3, 64, 64], interpolation="nearest"))
    assert found.size == (3, 64, 64)
    assert found.mean == SPEC.mean
    assert found.interpolation == "nearest"
    assert found.source == "somewhere; given: size, interpolation"
    assert override(None, InputOptions(input_size=[10])) == InputSpec((10,), source="given")


@pytest.mark.parametrize(
    ("spec", "given", "message"),
    [
        (SPEC, {"input_size": [0, 3]}, "input_size takes positive"),
        (SPEC, {"input_size": "abc"}, "input_size takes positive"),
        (SPEC, {"mean": [1, 2]}, "mean has 2 figures for inputs of 3 channels"),
        (SPEC, {"std": [1, 0, 1]}, "std takes positive"),
        (SPEC, {"interpolation": "cubic"}, "bicubic, bilinear, nearest"),
        (None, {"mean": [1]}, "give input_size"),
    ],
)
def test_bad_figures(spec, given, message):
    with pytest.raises(TsdistillError, match=message):
        override(spec, InputOptions(**given))


def test_example_input_is_seeded_and_of_the_models_type():
    model = nn.Linear(10, 2).half()
    attach(model, ModelInfo(input=InputSpec((10,))))
    x = example_input(model)
    assert x.shape == (1, 10)
    assert x.dtype == torch.float16
    assert torch.equal(x, example_input(model))
    assert example_input(model, "given") == "given"


def test_example_input_needs_a_size():
    with pytest.raises(TsdistillError, match="input_size"):
        example_input(nn.Linear(1, 1))


def test_load_attaches_what_was_given():
    model = load("timm:test_resnet,pretrained=false", inputs={"input_size": [3, 64, 64], "mean": [0, 0, 0]})
    assert example_input(model).shape == (1, 3, 64, 64)
