"""Features kept by hooks."""

import pytest
import torch
from torch import nn

from tests.networks import convnet
from tsdistill.distillation.losses import Features, input_of
from tsdistill.errors import TsdistillError


def test_inputs_and_outputs_are_kept_with_gradient_and_hooks_go() -> None:
    model = convnet(4, 5)
    features = Features(model, [input_of("3"), "3", input_of("3")])
    assert features.taps == ("3:input", "3")
    wrapped = nn.Sequential(model)
    with features:
        wrapped(torch.randn(2, 1, 8, 8))
    assert {tap: tuple(seen.shape) for tap, seen in features.seen.items()} == {
        "3:input": (2, 4, 8, 8),
        "3": (2, 5, 8, 8),
    }
    assert all(seen.requires_grad for seen in features.seen.values())
    held = features.seen["3"]
    model(torch.randn(3, 1, 8, 8))
    assert features.seen["3"] is held
    assert not model[3]._forward_hooks
    assert not model[3]._forward_pre_hooks


def test_what_is_missing_is_said() -> None:
    model = nn.ModuleDict({"used": nn.Linear(2, 2), "unused": nn.Linear(2, 2)})
    model.forward = lambda x: model["used"](x)
    with pytest.raises(TsdistillError, match=r"teacher .*'none'"):
        Features(model, ["none"], "teacher")
    features = Features(model, ["used", "unused"])
    with features:
        model(torch.zeros(1, 2))
    assert set(features.passed) == {"used"}
    with pytest.raises(TsdistillError, match="unused"):
        _ = features.seen
