"""Laws of tracing and cutting, over random networks."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tracing.networks import networks, zeroed
from tsdistill.tracing import cut, trace

LAWS = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
X = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
BATCH = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(2))


def some(graph, data, most: float = 0.7) -> dict[str, list[int]]:
    """A random choice of nodes of every group, never all of them."""
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    chosen = {}
    for group in graph.groups:
        count = rng.integers(0, max(1, int(group.size * most)) + 1)
        chosen[group.name] = sorted(rng.permutation(group.size)[: min(count, group.size - 1)].tolist())
    return chosen


@LAWS
@given(networks(), st.data())
def test_a_cut_equals_the_original_with_the_nodes_zeroed_where_they_are_read(model, data):
    graph = trace(model, X)
    assert graph.groups
    removed = some(graph, data)
    result = cut(model, graph, removed, X)
    assert result.put_back == ()
    with torch.no_grad():
        found, wanted = result.model(BATCH), zeroed(model, graph, removed)(BATCH)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max() + 1))


@LAWS
@given(networks())
def test_removing_nothing_changes_nothing(model):
    graph = trace(model, X)
    same = cut(model, graph, {group.name: [] for group in graph.groups}, X).model
    assert list(same.state_dict()) == list(model.state_dict())
    for a, b in zip(same.state_dict().values(), model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    with torch.no_grad():
        assert torch.equal(same(BATCH), model(BATCH))


@LAWS
@given(networks(), st.data())
def test_removing_a_then_b_equals_removing_both(model, data):
    graph = trace(model, X)
    both = some(graph, data)
    first = {name: nodes[::2] for name, nodes in both.items()}
    half = cut(model, graph, first, X).model
    again = trace(half, X, check=False)
    union, second = dict(first), {}
    for name, nodes in both.items():
        left = np.setdiff1d(np.arange(graph.by_name[name].size), first[name])
        rest = np.flatnonzero(np.isin(left, nodes[1::2])).tolist()
        # A block that may go by rows or by columns may be seen the other way once it has been cut.
        if rest and name in again.by_name and again.by_name[name].size == len(left):
            second[name] = rest
            union[name] = sorted({*first[name], *left[rest].tolist()})
    once = cut(model, graph, union, X)
    twice = cut(half, again, second, X).model
    for (key, a), b in zip(once.model.state_dict().items(), twice.state_dict().values(), strict=True):
        assert torch.equal(a, b), key
    with torch.no_grad():
        assert torch.equal(once.model(BATCH), twice(BATCH))


@LAWS
@given(networks(), st.data())
def test_the_graph_knows_the_costs_after_a_cut(model, data):
    from torch.utils.flop_counter import FlopCounterMode

    graph = trace(model, X)
    removed = some(graph, data)
    small = cut(model, graph, removed, X).model
    kept = {group.name: group.size - len(removed[group.name]) for group in graph.groups}
    assert graph.params(kept) == sum(p.numel() for p in small.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        small(X)
    assert graph.macs(kept) == counter.get_total_flops() // 2


@LAWS
@given(networks())
def test_tracing_leaves_the_model_as_it_was(model):
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    trace(model, X)
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(module.training for module in model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.slow
@settings(LAWS, max_examples=400)
@given(networks(), st.data())
def test_a_cut_equals_the_zeroed_original_on_many_networks(model, data):
    graph = trace(model, X)
    removed = some(graph, data)
    with torch.no_grad():
        found = cut(model, graph, removed, X).model(BATCH)
        wanted = zeroed(model, graph, removed)(BATCH)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max() + 1))
