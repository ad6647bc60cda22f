from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from tests.alignment.metrics.stored import related, scales, seeds
from tsdistill.alignment.metrics import gates
from tsdistill.alignment.metrics.gates import GateAgreement, GateCounts


def _table(s: Tensor, t: Tensor, pieces: int = 1) -> Tensor:
    counts = GateAgreement().start(s.shape[1], t.shape[1])
    for mine, theirs in zip(s.chunk(pieces), t.chunk(pieces), strict=True):
        counts.update(mine, theirs)
    return counts.finish()


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(1, 7))
def test_the_table_is_the_correlation_of_the_gates(seed: int, pieces: int) -> None:
    s, t = related(seed)
    both = np.concatenate([(s > 0).numpy(), (t > 0).numpy()], axis=1).astype(float)
    with np.errstate(invalid="ignore"):
        reference = np.nan_to_num(np.corrcoef(both.T)[:5, 5:])
    np.testing.assert_allclose(_table(s, t, pieces), reference, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(seeds, st.permutations(range(5)), scales)
def test_permuting_and_rescaling_nodes_only_permutes(
    seed: int, order: list[int], factors: list[float]
) -> None:
    s, t = related(seed)
    before = _table(s, t)
    torch.testing.assert_close(_table(s[:, order] * torch.tensor(factors), t), before[order])
    torch.testing.assert_close(_table(t, s), before.T)
    assert bool((before.abs() <= 1).all())


def test_only_the_sides_count_not_the_sizes() -> None:
    s, t = related(2)
    torch.testing.assert_close(_table(s**3, t), _table(s, t))
    same = _table(s, s).diagonal()
    torch.testing.assert_close(same, torch.ones_like(same))
    z = torch.randn(100, 1, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(_table(torch.relu(z), torch.relu(-z)), -torch.ones(1, 1, dtype=torch.float64))


@pytest.mark.parametrize(
    "activation", ["relu", "gelu", "silu", "mish", "hardswish", "elu", "leaky_relu", "tanh"]
)
def test_a_node_is_on_exactly_where_its_pre_activation_is_positive(activation: str) -> None:
    z = torch.linspace(-12, 12, 2001)[:, None]
    h = getattr(functional, activation)(z)
    assert torch.equal(h > 0, z > 0)


def test_gates_that_never_change_agree_with_nothing() -> None:
    s, t = related(1)
    s[:, 0], s[:, 1] = 0, 5
    table = _table(s, t)
    assert bool((table[:2] == 0).all())
    assert bool((table[2:] != 0).all())


def test_counts_are_exact_integers_over_many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "_CHUNK", 64)
    s, t = related(5, rows=1000)
    counts = GateCounts(5, 3)
    counts.update(s.float(), t.float())
    on_s, on_t = (s > 0).long(), (t > 0).long()
    assert counts.rows == 1000
    assert torch.equal(counts.on_s.long(), on_s.sum(0))
    assert torch.equal(counts.on_t.long(), on_t.sum(0))
    assert torch.equal(counts.both.long(), on_s.T @ on_t)


def test_counts_of_other_processes_are_merged() -> None:
    s, t = related(6)
    whole, left, right = GateCounts(5, 3), GateCounts(5, 3), GateCounts(5, 3)
    whole.update(s, t)
    left.update(s[:70], t[:70])
    right.update(s[70:], t[70:])
    left.merge(pickle.loads(pickle.dumps(right)))
    assert torch.equal(left.finish(), whole.finish())


def test_what_comes_in_is_not_changed() -> None:
    s, t = related(7)
    before = s.clone(), t.clone()
    _table(s, t)
    assert torch.equal(s, before[0])
    assert torch.equal(t, before[1])
