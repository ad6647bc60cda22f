"""The copy that a cut begins with is what ``copy.deepcopy`` makes, in all that a model may hold."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from tsdistill.tracing.model_copy import deepcopy_model


class Own(nn.Module):
    """Copies itself in a way of its own."""

    def __init__(self):
        super().__init__()
        self.layer, self.copies = nn.Linear(3, 3), 0

    def __deepcopy__(self, memo):
        twin = Own()
        twin.layer.load_state_dict(self.layer.state_dict())
        twin.copies = self.copies + 1
        return twin

    def forward(self, x):
        return self.layer(x)


class Holder(nn.Module):
    """Holds shared layers and lists, tied weights, modules in a plain list, and something computed."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.again = self.layer
        self.tied = nn.Linear(3, 3)
        self.tied.weight = self.layer.weight
        self.norm = nn.BatchNorm1d(3)
        self.none = None
        self.register_parameter("nothing", None)
        self.register_buffer("table", torch.arange(3.0), persistent=False)
        self.hidden = [nn.Linear(3, 3), self.tied]
        self.log: list[int] = []
        self.same_log = self.log
        self.options = {"widths": [1, 2], "act": torch.relu}
        self.weighted = parametrizations.weight_norm(nn.Linear(3, 3))
        self.own = Own()
        self.computed = self.layer.weight * 2
        self.method = self.layer.forward

    def forward(self, x):
        x = self.own(self.weighted(self.norm(self.tied(self.again(x)))))
        return self.hidden[0](x) + self.table + self.computed.sum()


@pytest.fixture
def pair():
    torch.manual_seed(0)
    model = Holder().eval()
    return model, deepcopy_model(model)


def test_a_copy_gives_the_same_and_shares_nothing(pair):
    model, twin = pair
    x = torch.randn(4, 3)
    torch.testing.assert_close(twin(x), model(x), rtol=0, atol=0)
    for (name, one), (other_name, other) in zip(
        model.named_modules(remove_duplicate=False), twin.named_modules(remove_duplicate=False), strict=True
    ):
        assert name == other_name
        assert type(one).__name__ == type(other).__name__
        assert one is not other
        assert list(vars(one)) == list(vars(other))
    with torch.no_grad():
        for tensor in (*twin.parameters(), *twin.buffers(), *twin.hidden[0].parameters()):
            tensor.fill_(7)
    assert not any((tensor == 7).all() for tensor in model.parameters())
    twin.log.append(1)
    twin.options["widths"].append(3)
    assert (model.log, model.options["widths"]) == ([], [1, 2])


def test_what_is_one_stays_one(pair):
    _, twin = pair
    assert twin.again is twin.layer
    assert twin.hidden[1] is twin.tied
    assert twin.tied.weight is twin.layer.weight
    assert twin.same_log is twin.log
    assert twin.method.__self__ is twin.layer
    assert twin.own.copies == 1
    assert twin.computed.grad_fn is None


def test_a_tensor_takes_the_place_of_another_everywhere():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Flatten())
    model[1].weight = model[0].weight
    other = nn.Parameter(torch.ones(2, 3))
    twin = deepcopy_model(model, {id(model[0].weight): other})
    assert twin[0].weight is other
    assert twin[1].weight is other
    assert model[0].weight.shape == (3, 3)


def test_hooks_and_compiled_calls_are_treated_as_deepcopy_treats_them():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    seen = []
    model[0].register_forward_hook(lambda *_: seen.append(1))
    model.compile()
    twin, wanted = deepcopy_model(model), copy.deepcopy(model)
    assert twin._compiled_call_impl is None
    assert wanted._compiled_call_impl is None
    twin(torch.randn(1, 3))
    assert seen == [1]


def test_a_parametrization_is_removed_from_one_copy_alone():
    torch.manual_seed(0)
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 4))).eval()
    x = torch.randn(2, 3)
    wanted, first = model(x), deepcopy_model(model)
    second = copy.deepcopy(first)
    for kept, folded in ((first, second), (model, first)):
        nn.utils.parametrize.remove_parametrizations(folded[0], "weight")
        assert type(folded[0]) is nn.Linear
        assert torch.equal(folded(x), wanted)
        assert torch.equal(kept(x), wanted)
