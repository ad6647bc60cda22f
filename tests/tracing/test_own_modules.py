"""The user's own modules: which widths go, what stays and why, and that the cut computes the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.tracing.networks import zeroed
from tests.tracing.own import built, halved, reloaded, same
from tests.tracing.own_module_cases import CASES
from tests.tracing.own_modules import IMAGE, SERIES, TOKENS, VECTOR
from tsdistill.runtime.modes import run
from tsdistill.tracing import cut, trace

LEFT = {
    "spectral_norm": ("0", "computed from all of a weight"),
    "spectral_norm_by_hooks": ("0", "computed from all of a weight"),
    "parametrized": ("2", "no layer writes"),
    "transposed": ("5", "rectangular"),
    "OnItsWidth": ("a", "differs"),
    "Buffered": ("b", "no layer writes"),
    "TwoSided": ("a", "not known"),
}


def _layers(sizes: dict[str, int]) -> dict[str, int]:
    """Sizes by module, whatever parameter of it the group is named after."""
    found: dict[str, int] = {}
    for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
        for tail in (".parametrizations", ".weight_", ".in_proj", ".q_proj"):
            name = name.partition(tail)[0]
        found[f"{name}#2" if name in found else name] = size
    return found


def _plain(reader):
    """Whether a layer reads with a parameter, not with a weight computed from it, which would not be zeroed
    as it is cut."""
    return reader.param == f"{reader.module}.weight"


@pytest.mark.parametrize("name", CASES)
def test_half_of_every_width_goes_and_the_rest_computes_the_same(name, tmp_path):
    x, sizes = CASES[name]
    model = built(name)
    graph, done = halved(model, x)
    assert _layers(graph.widths) == sizes
    assert sum(p.numel() for p in done.model.parameters()) < sum(p.numel() for p in model.parameters())
    if all(group.readers and all(_plain(reader) for reader in group.readers) for group in graph.groups):
        with torch.no_grad():
            wanted = run(zeroed(model, graph, done.removed), x)
            found = run(done.model, x)
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert same(done.model, reloaded(done.model, tmp_path), x)


@pytest.mark.parametrize("name", LEFT)
def test_what_stays_whole_is_named_with_its_cause(name):
    left, cause = LEFT[name]
    frozen = {item.name: item.cause for item in trace(built(name), CASES[name][0]).frozen}
    assert cause in frozen[left]


def test_weights_keep_their_values_where_their_norm_loses_coordinates():
    model = built("weight_norm")
    graph = trace(model, VECTOR)
    _, done = halved(model, VECTOR)
    first, second = (g for g in graph.groups if g.size in (10, 8))
    left = [[i for i in range(g.size) if i not in set(done.removed[g.name])] for g in (first, second)]
    whole, small = model[2].weight.detach(), done.model[2].weight.detach()
    torch.testing.assert_close(small, whole[left[1]][:, left[0]])


def test_a_cut_weight_norm_trains_on():
    _, done = halved(built("weight_norm_by_hooks"), VECTOR)
    before = done.model[2].weight_g.detach().clone()
    optimizer = torch.optim.SGD(done.model.parameters(), lr=0.1)
    done.model.train()(VECTOR).square().sum().backward()
    optimizer.step()
    assert not torch.equal(before, done.model[2].weight_g)


def test_tied_weights_stay_tied():
    _, done = halved(built("TiedText"), TOKENS)
    assert done.model.out.weight is done.model.table.weight


def test_batch_norms_that_were_folded_away_leave_a_model_that_is_cut():
    conv = torch.nn.utils.fusion.fuse_conv_bn_eval(nn.Conv2d(3, 8, 3).eval(), nn.BatchNorm2d(8).eval())
    folded = nn.Sequential(conv, nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    graph, done = halved(folded, IMAGE)
    assert graph.widths == {"0": 8}
    assert done.model[0].bias.shape == (4,)


def test_recurrent_layers_say_the_widths_they_have():
    _, done = halved(built("projected_lstm"), SERIES)
    inner = done.model.inner
    assert (inner.input_size, inner.hidden_size, inner.proj_size) == (6, 5, 2)
    assert [w.shape for w in inner._flat_weights] == [w.shape for w in inner.parameters()]


@pytest.mark.parametrize("name", ["attention", "EncoderDecoder", "Two", "TiedText"])
def test_a_cut_model_takes_longer_and_more_inputs(name):
    x = (VECTOR, SERIES) if name == "Two" else TOKENS if name == "TiedText" else SERIES
    _, done = halved(built(name), x)
    batch: Any = torch.randn(3, 9, 6)
    if name == "Two":
        batch = (torch.randn(3, 6), batch)
    elif name == "TiedText":
        batch = torch.randint(20, (3, 9))
    assert run(done.model, batch)[0].shape[0] == 3


def test_directions_are_those_of_the_nodes_that_stay():
    model: Any = built("Cosine")
    graph = trace(model, VECTOR)
    assert graph.widths == {"a": 12, "b": 9}
    result = cut(model, graph, {"a": [0, 4, 7], "b": [1, 8]}, VECTOR)
    assert result.put_back == ()
    one, other = (np.setdiff1d(np.arange(size), gone) for size, gone in ((12, [0, 4, 7]), (9, [1, 8])))
    with torch.no_grad():
        hidden = F.normalize(torch.tanh(model.a(VECTOR))[:, one], dim=-1)
        hidden = F.linear(hidden, model.b.weight[other][:, one], model.b.bias[other])
        hidden = F.normalize(hidden, p=1.0, dim=-1)
        torch.testing.assert_close(
            result.model(VECTOR), F.linear(hidden, model.c.weight[:, other], model.c.bias)
        )
