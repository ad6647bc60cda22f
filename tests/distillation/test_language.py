"""Training on text."""

from __future__ import annotations

import json

import pytest

from tests.language import TEXT, causal, tokenizer
from tsdistill import TsdistillError, distill, train


def test_text_is_read_with_a_tokenizer_that_is_an_object() -> None:
    plain = {"epochs": 1, "batch_size": 8, "track": False, "device": "cpu"}
    options = {**plain, "tokenizer": tokenizer(), "length": 8}
    result = distill(causal(), causal(1), data=[TEXT], held_out=[TEXT], options=options)
    assert "val/perplexity" in result.log[-1]
    assert json.dumps(result.options.to_dict())
    assert train(causal(), data=[TEXT], options=options).updates > 2
    with pytest.raises(TsdistillError, match="nothing says which one"):
        train(causal(), data=[TEXT], options=plain)
