"""Pruning of models of language."""

from __future__ import annotations

import pytest

from tests.language import LINES, TEXT, OwnLanguageModel, causal, encoder, pairs, tokenizer
from tsdistill import prune_result, prune_to_drop
from tsdistill.statistics.prepared_data import RANDOM_TOKENS

INPUTS = {"tokenizer": tokenizer(), "length": 8}


def test_a_cut_on_random_tokens_says_that_it_proves_nothing() -> None:
    assert RANDOM_TOKENS in prune_result(causal(), macs=0.9, inputs={"samples": 8}).notes
    assert RANDOM_TOKENS not in prune_result(causal(), data=[TEXT], macs=0.9, inputs=INPUTS).notes


@pytest.mark.parametrize(
    ("model", "data"),
    [
        (lambda: encoder("BertForSequenceClassification"), [(line, n % 2) for n, line in enumerate(LINES)]),
        (pairs, [(line, LINES[0]) for line in LINES]),
        (OwnLanguageModel, [TEXT]),
    ],
)
def test_encoders_pairs_and_modules_of_one_s_own_are_cut_on_text(model, data) -> None:
    result = prune_result(model(), data=data, macs=0.8, inputs=INPUTS)
    assert result.after["macs"] <= 0.8 * result.before["macs"]


def test_a_loss_in_percent_is_one_of_perplexity() -> None:
    result = prune_to_drop(causal(), "20%", data=[TEXT], trials=4, inputs=INPUTS)
    assert (result.metric, result.unit) == ("perplexity", "")
    assert result.figure <= 1.2 * result.dense_figure
