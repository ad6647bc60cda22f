"""``prune`` on the user's own modules, with made-up samples in the form of an example input."""

from __future__ import annotations

import pytest
import torch

import tsdistill as tsd
from tests.tracing.own import built
from tests.tracing.own_module_cases import CASES, NESTED
from tsdistill.errors import TsdistillError
from tsdistill.runtime.modes import run

PRUNED = (
    *("weight_norm", "Einsum", "Two", "Branches", "Filled", "Complex", "Fourier", "Double", "Text", "Bag"),
    *("TiedText", "lstm", "gru", "attention", "InPlace"),
)


@pytest.mark.parametrize("name", PRUNED)
def test_a_third_of_the_nodes_go(name):
    x, _ = CASES[name]
    result = tsd.prune_result(built(name), budget={"nodes": 0.7}, inputs={"example_input": x, "samples": 64})
    assert result.after["nodes"] <= 0.7 * result.before["nodes"]
    assert not result.put_back
    assert all(
        torch.isfinite(torch.view_as_real(y) if y.is_complex() else y).all() for y in run(result.model, x)
    )


def test_real_batches_by_name_are_realigned_on():
    generator = torch.Generator().manual_seed(0)
    batches = [
        {"x": torch.randn(16, 6, generator=generator), "y": torch.randn(16, 5, 6, generator=generator)}
        for _ in range(6)
    ]
    result = tsd.prune_result(
        built("Two"), budget={"nodes": 0.7}, inputs={"example_input": CASES["Two"][0]}, data=batches
    )
    assert result.realigned > 0


def test_attention_heads_are_seen_and_chosen_by_score():
    report = tsd.analyze(built("attention"), inputs={"example_input": CASES["attention"][0], "samples": 64})
    heads = next(group for group in report.groups if group.size == 4)
    assert heads.strength is not None
    assert len(set(heads.strength.tolist())) == 4


def test_products_with_parameters_are_observed():
    result = tsd.prune_result(
        built("Direct"), budget={"nodes": 0.7}, inputs={"example_input": CASES["Direct"][0], "samples": 32}
    )
    assert result.after["nodes"] <= 0.7 * result.before["nodes"]


def test_what_cannot_be_observed_is_refused_in_one_line():
    with pytest.raises(TsdistillError, match=r"cannot be (met|measured|observed)|nothing") as caught:
        tsd.prune(
            built("Mapped"),
            budget={"nodes": 0.7},
            inputs={"example_input": CASES["Mapped"][0], "samples": 32},
        )
    assert "\n" not in str(caught.value)


def test_an_example_of_nested_inputs_asks_for_data():
    with pytest.raises(TsdistillError, match="data"):
        tsd.prune(built("Nested"), budget={"nodes": 0.7}, inputs={"example_input": NESTED})
