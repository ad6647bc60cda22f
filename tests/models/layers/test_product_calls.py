"""Function calls on parameters are layers inside a block, and the model is as it was behind it."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tsdistill.models.layers.call_kinds import CallLayer
from tsdistill.models.layers.product_calls import without_call_layers
from tsdistill.runtime.call_layers import call_layers
from tsdistill.tracing.model_copy import deepcopy_model


class Called(nn.Module):
    """Calls a function on parameters of its own."""

    def __init__(self, call, shape, bias=None):
        super().__init__()
        self.call = call
        self.weight = nn.Parameter(torch.randn(shape))
        self.shift = None if bias is None else nn.Parameter(torch.randn(bias))
        self.unread = nn.Linear(2, 2)

    def forward(self, x):
        return self.call(x, self.weight, self.shift)


CALLS = {
    "LinearCall": (lambda x, w, b: F.linear(x, w, b), (4, 6), 4, (6,)),
    "LinearCall of a transpose": (lambda x, w, b: x @ w.t(), (4, 6), None, (5, 6)),
    "ProductCall": (lambda x, w, b: torch.matmul(x, w), (6, 4), None, (5, 6)),
    "ProductCall of a transpose": (lambda x, w, b: F.linear(x, w.T), (6, 4), None, (6,)),
    "Conv1dCall": (lambda x, w, b: F.conv1d(x, w, bias=b, padding=1, dilation=2), (4, 6, 3), 4, (6, 9)),
    "Conv2dCall": (lambda x, w, b: F.conv2d(x, w, b, (2, 1), groups=2), (4, 3, 3, 2), 4, (6, 7, 8)),
    "Conv3dCall": (lambda x, w, b: torch.conv3d(x, w, padding="same"), (4, 6, 1, 3, 3), None, (6, 3, 4, 5)),
    "ConvTranspose1dCall": (
        lambda x, w, b: F.conv_transpose1d(x, w, b, 2, output_padding=1),
        (6, 4, 3),
        4,
        (6, 5),
    ),
    "ConvTranspose2dCall": (
        lambda x, w, b: F.conv_transpose2d(x, w, stride=2),
        (6, 4, 2, 2),
        None,
        (6, 4, 3),
    ),
}


def _layers(model):
    return {name: module for name, module in model.named_modules() if isinstance(module, CallLayer)}


@pytest.mark.parametrize("kind", CALLS)
def test_a_call_is_a_layer_that_computes_the_same(kind):
    call, shape, bias, sides = CALLS[kind]
    model, x = nn.Sequential(nn.Identity(), Called(call, shape, bias)).eval(), torch.randn(3, *sides)
    wanted, keys = model(x), list(model.state_dict())
    seen = []
    with call_layers(model, x[:1]):
        ((name, layer),) = _layers(model).items()
        assert type(layer).__name__ == kind.partition(" ")[0]
        assert name.startswith("1.")
        assert layer.parameter == "1.weight"
        assert layer.weight is model[1].weight
        assert [name for name, _ in model.named_parameters()] == [
            name for name, _ in without_call_layers(deepcopy_model(model)).named_parameters()
        ]
        handle = layer.register_forward_hook(lambda _, args, y: seen.append((args[0], y)))
        assert torch.equal(model(x), wanted)
        handle.remove()
        assert torch.equal(seen[0][0], x)
        assert torch.allclose(layer(x), wanted, atol=1e-6)
        twin = deepcopy_model(model)
    assert not _layers(model)
    assert list(model.state_dict()) == keys
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    with torch.no_grad():
        twin[1].weight.mul_(2)
        (own,) = _layers(twin).values()
        handle = own.register_forward_hook(lambda _, args, y: seen.append((args[0], y)))
        twin(x)
        handle.remove()
    assert len(seen) == 2
    without_call_layers(twin)
    assert list(copy.deepcopy(twin).state_dict()) == keys


def test_calls_that_are_no_layers_are_left_alone():
    class Others(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 4))
            self.layer, self.words = nn.Linear(4, 4), nn.Embedding(5, 4)
            self.heads = nn.MultiheadAttention(4, 2)

        def forward(self, x):
            x = F.linear(self.layer(x), x.mean() * self.weight) @ torch.eye(4)
            x = F.linear(x, self.weight * torch.rand(4, 4)) + self.heads(x, x, x)[0]
            return F.linear(x, self.words.get_parameter("weight"))

    model, x = Others().eval(), torch.randn(1, 4)
    with call_layers(model, x):
        assert not _layers(model)


def test_two_calls_of_one_weight_are_two_layers_where_they_differ():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 4, 3))

        def forward(self, x):
            once = F.conv1d(F.conv1d(x, self.weight, padding=1), self.weight, padding=1)
            return F.conv1d(once, self.weight, padding=2, dilation=2)

    model, x = Twice().eval(), torch.randn(1, 4, 9)
    with call_layers(model, x):
        assert [layer.dilation for layer in _layers(model).values()] == [(1,), (2,)]


def test_a_forward_that_fails_leaves_no_layers_behind():
    def fail(x, w, b):
        if len(x) > 1:
            raise ValueError("one at a time")
        return F.linear(x, w, b)

    model = nn.Sequential(Called(fail, (4, 6)), nn.ReLU()).eval()
    with pytest.raises(ValueError, match="one at a time"), call_layers(model, torch.randn(1, 6)):
        model(torch.randn(2, 6))
    assert not _layers(model)
    x = torch.randn(1, 6)
    assert torch.equal(model(x), F.linear(x, model[0].get_parameter("weight")).relu())
