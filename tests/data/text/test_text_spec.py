"""A model says how it reads text."""

from __future__ import annotations

import pytest
import torch

from tests.language import OwnLanguageModel, causal, encoder, pairs
from tests.networks import mlp
from tsdistill import TsdistillError, load, text_spec
from tsdistill.data.text.text_spec import CAUSAL, CLASSES, FEATURES, MASKED, PAIRS


@pytest.mark.parametrize(
    ("model", "task"),
    [
        (causal, CAUSAL),
        (pairs, PAIRS),
        (lambda: encoder("BertForMaskedLM"), MASKED),
        (lambda: encoder("BertForSequenceClassification"), CLASSES),
        (lambda: encoder("BertModel"), FEATURES),
    ],
)
def test_the_task_is_that_of_the_class(model, task: str) -> None:
    spec = text_spec(model())
    assert (spec.task, spec.vocabulary) == (task, 60)
    assert spec.length == (512 if task == PAIRS else 32)


def test_models_of_images_read_no_text() -> None:
    assert text_spec(mlp(4, 3)) is None
    size = "hidden_size=8,num_hidden_layers=1,num_attention_heads=1,intermediate_size=8,image_size=8"
    assert text_spec(load(f"hf:ViTModel,{size},patch_size=4")) is None


def test_positions_of_roberta_begin_behind_its_padding() -> None:
    size = "hidden_size=8,num_hidden_layers=1,num_attention_heads=1,intermediate_size=8,vocab_size=50"
    model = load(f"hf:RobertaForMaskedLM,{size},max_position_embeddings=20")
    spec = text_spec(model)
    assert spec.length == 18
    model(torch.full((1, 18), 7))


def test_a_length_beyond_the_positions_is_refused() -> None:
    with pytest.raises(TsdistillError, match="length 33: the model has 32 positions"):
        text_spec(causal(), {"length": 33})


def test_a_module_of_one_s_own_reads_text_where_something_says_so() -> None:
    assert text_spec(OwnLanguageModel()) is None
    spec = text_spec(OwnLanguageModel(), {"length": 9})
    assert (spec.task, spec.named, spec.length, spec.vocabulary) == (CAUSAL, False, 9, 60)
    example = torch.zeros(1, 7, dtype=torch.long)
    assert text_spec(OwnLanguageModel(), {"example_input": example}).length == 7
