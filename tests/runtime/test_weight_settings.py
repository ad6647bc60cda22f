"""How weights that a forward computes can be set, and what the forward then computes."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tsdistill.models.layers.call_kinds import ComputedCall
from tsdistill.models.layers.effective_weights import effective_weight
from tsdistill.runtime.call_layers import call_layers


class Computed(nn.Module):
    """Multiplies with a weight that ``compute`` makes of its parameters."""

    def __init__(self, compute, *shapes):
        super().__init__()
        torch.manual_seed(0)
        self.held = nn.ParameterList(nn.Parameter(torch.randn(shape)) for shape in shapes)
        self.compute = compute

    def forward(self, x):
        return F.linear(x, self.compute(*self.held))


ANY = {
    "scaled": (lambda w, s: w * s.exp(), (4, 6), (4, 1)),
    "sliced": (lambda w: w[1:5], (9, 6)),
    "permuted": (lambda w: w.permute(2, 0, 1).reshape(4, 6), (2, 3, 4)),
    "a sum": (lambda w, v, s: w + s * v, (4, 6), (4, 6), (4, 6)),
    "written in place": (lambda w: torch.zeros(4, 6).copy_(w).mul_(3), (4, 6)),
    "repeated entries of another": (lambda w, v: w + v.repeat(1, 2), (4, 6), (4, 3)),
    "a product of square matrices and a sum": (lambda a, b, w: a @ b + w, (4, 4), (4, 6), (4, 6)),
}
MIXTURES = {
    "shared entries": (lambda w: w.repeat(2, 1), (2, 6)),
    "a product": (lambda a, b: a @ b, (4, 2), (2, 6)),
    "a product of three": (lambda a, b, c: a @ b.tanh() @ c, (4, 3), (3, 2), (2, 6)),
}
NEVER = {
    "standardised": (lambda w: (w - w.mean()) / w.std(), (4, 6)),
    "bounded": (lambda w: w.tanh(), (4, 6)),
    "computed out of reach": (lambda w: (2 * w).detach().tanh(), (4, 6)),
}


def _only(model):
    (layer,) = (module for module in model.modules() if isinstance(module, ComputedCall))
    return layer


@pytest.mark.parametrize("kind", ANY | MIXTURES)
def test_what_is_written_is_what_the_forward_computes(kind):
    model, x = Computed(*(ANY | MIXTURES)[kind]).eval(), torch.randn(3, 6)
    with call_layers(model, x[:1]):
        weight = effective_weight(_only(model))
        assert torch.equal(weight.read(), model.compute(*model.held))
        assert (weight.writable(), weight.mixable()) == (kind in ANY, True)
        wanted = torch.randn(4, 6) if kind in ANY else weight.read() @ torch.randn(6, 6)
        weight.write(wanted)
        assert torch.equal(weight.read(), wanted)
        assert torch.allclose(model(x), F.linear(x, wanted), atol=1e-4)
        assert torch.allclose(_only(model).weight, wanted, atol=1e-4)


@pytest.mark.parametrize("kind", NEVER)
def test_weights_that_no_parameter_sets_are_read(kind):
    model, x = Computed(*NEVER[kind]).eval(), torch.randn(3, 6)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    with call_layers(model, x[:1]):
        weight = effective_weight(_only(model))
        assert torch.equal(weight.read(), model.compute(*model.held))
        assert not weight.mixable()
    assert all(map(torch.equal, model.parameters(), before))
    assert all(parameter.requires_grad for parameter in model.parameters())


class Twice(nn.Module):
    """Two calls on parts of one parameter, which are apart or overlap, and a third in a module inside."""

    def __init__(self, first):
        super().__init__()
        torch.manual_seed(0)
        self.weight, self.first = nn.Parameter(torch.randn(8, 4)), first
        self.inside = Computed(lambda w: 2 * w, (4, 4))

    def forward(self, x):
        x = F.linear(x, self.weight[: self.first])
        x = self.inside(nn.functional.relu(x[:, -4:]))
        return F.linear(x, self.weight[4:])


@pytest.mark.parametrize("first", [4, 5])
def test_parts_of_one_parameter_are_set_where_they_do_not_overlap(first):
    model, x = Twice(first).eval(), torch.randn(2, 4)
    wanted, seen = model(x), {}
    with call_layers(model, x[:1]):
        layers = {name: m for name, m in model.named_modules() if isinstance(m, ComputedCall)}
        assert len(layers) == 3
        for name, layer in layers.items():
            layer.register_forward_hook(lambda m, args, y, name=name: seen.update({name: (args[0], y)}))
        assert torch.equal(model(x), wanted)
        for name, (given, made) in seen.items():
            assert torch.equal(F.linear(given, layers[name].weight), made)
        outside = [effective_weight(layer) for name, layer in layers.items() if "inside" not in name]
        assert all(weight.writable() == (first == 4) for weight in outside)
        assert effective_weight(next(m for n, m in layers.items() if "inside" in n)).writable()
