"""Figures per token: perplexity, accuracy of the next token, agreement and KL, without padding."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.language import TEXT, OwnLanguageModel, causal, encoder, pairs, tokenizer
from tests.networks import mlp
from tsdistill import TsdistillError, compare, evaluate, open_data, text_spec
from tsdistill.evaluation import class_metrics
from tsdistill.evaluation.class_metrics import KullbackLeibler
from tsdistill.evaluation.token_metrics import Perplexity

INPUTS = {"tokenizer": tokenizer(), "length": 8}


def _by_hand(model, rows: torch.Tensor) -> float:
    with torch.no_grad():
        scores = model(rows).logits[:, :-1].double()
    return math.exp(functional.cross_entropy(scores.flatten(0, 1), rows[:, 1:].flatten()))


def test_perplexity_is_that_of_the_next_tokens() -> None:
    model = causal()
    rows = torch.randint(0, 60, (7, 8), generator=torch.Generator().manual_seed(0))
    figures = evaluate(model, rows, inputs={"length": 8, "batch_size": 3})
    assert list(figures) == ["perplexity", "next_token"]
    assert figures["perplexity"] == pytest.approx(_by_hand(model, rows), rel=1e-6)
    best = model(rows).logits[:, :-1].argmax(-1)
    assert figures["next_token"] == pytest.approx(100 * float((best == rows[:, 1:]).double().mean()))
    labelled = evaluate(model, [({"input_ids": rows}, rows)])
    assert labelled == pytest.approx(figures)


def test_padding_counts_for_nothing() -> None:
    model = causal()
    rows = np.random.default_rng(0).integers(0, 60, (6, 8))
    padded = np.concatenate([rows, np.full((6, 3), -1)], 1)
    plain, other = (evaluate(model, each, reference=causal(1)) for each in (rows, padded))
    assert list(plain) == ["perplexity", "next_token", "agreement", "kl"]
    assert plain["perplexity"] == pytest.approx(other["perplexity"], rel=1e-5)
    assert plain["next_token"] == pytest.approx(other["next_token"])


@pytest.mark.parametrize("model", [lambda: encoder("BertForMaskedLM"), OwnLanguageModel])
def test_models_of_hidden_tokens_and_of_one_s_own_have_a_perplexity(model) -> None:
    figures = evaluate(model(), [TEXT], inputs=INPUTS, reference=model())
    assert list(figures) == ["perplexity", "next_token", "agreement", "kl"]
    assert 1 < figures["perplexity"] < 1e6
    assert (figures["agreement"], figures["kl"]) == (100, 0)


def test_encoder_decoders_and_classifiers_have_their_own() -> None:
    two = [("the cat sat", "the dog"), ("the river", "in the town")]
    assert list(evaluate(pairs(), two, inputs=INPUTS)) == ["perplexity", "next_token"]
    classifier = encoder("BertForSequenceClassification")
    labelled = [("the cat sat", 0), ("the river", 1)]
    assert list(evaluate(classifier, labelled, inputs=INPUTS)) == ["top1"]


def test_classes_are_no_tokens() -> None:
    assert list(evaluate(mlp(4, 6), [(torch.zeros(3, 4), torch.zeros(3).long())])) == ["top1", "top5"]


def test_blocks_of_rows_change_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    scores, other = (torch.randn(50, 9, generator=generator) for _ in range(2))
    labels = torch.randint(0, 9, (50,), generator=generator)
    figures = []
    for most in (2**22, 30):
        monkeypatch.setattr(class_metrics, "_SCORES", most)
        both = (Perplexity(), KullbackLeibler())
        for each in both:
            each.update(scores, labels, other)
        figures.append([each.compute() for each in both])
    assert figures[0] == pytest.approx(figures[1], rel=1e-12)


def test_perplexity_refuses_what_is_no_token() -> None:
    with pytest.raises(TsdistillError, match="one token for each prediction"):
        Perplexity().update(torch.zeros(3, 5), torch.zeros(2).long())
    with pytest.raises(TsdistillError, match="labels are 0-7 but the model has 5 tokens"):
        Perplexity().update(torch.zeros(2, 5), torch.tensor([0, 7]))
    with pytest.raises(TsdistillError, match="no samples"):
        Perplexity().compute()
    far = Perplexity()
    far.update(torch.tensor([[0.0, 1e6]]), torch.tensor([0]))
    assert far.compute() == math.inf


def test_compare_times_reading_and_writing() -> None:
    stream = open_data([TEXT], text_spec(causal(), INPUTS))
    compared = compare([causal(), causal(1)], stream, repeats=3)
    assert compared.length == 8
    for name in ("run_memory", "prefill", "batched_prefill", "decode", "batched_decode"):
        assert len(getattr(compared, name)) == 2
        assert min(getattr(compared, name)) > 0
    assert compared.prefill[0] == pytest.approx(8 / compared.latency[0])
    assert type(compared).from_dict(compared.to_dict()) == compared
    brief = compare([causal()], stream, repeats=3, brief=True)
    assert len(brief.decode) == 1
    assert brief.batched_decode == brief.run_memory == ()


def test_encoder_decoders_write_and_encoders_do_not() -> None:
    two = [("the cat sat", "the dog"), ("the river", "in the town")]
    assert len(compare([pairs()], two, inputs=INPUTS, repeats=3).decode) == 1
    told = compare([encoder("BertForMaskedLM")], [TEXT], inputs=INPUTS, repeats=3)
    assert told.decode == ()
    assert told.prefill[0] > 0
