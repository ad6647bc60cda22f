"""A tokenizer of a few words, and tiny models of text that read its tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import nn

from tests.networks import randomise

LINES = (
    "the cat sat on the mat and looked at the dog",
    "the dog ran to the river and drank the water",
    "a bird sang in the tree while the cat slept",
    "we walked to the town and bought bread and milk",
    "the river was wide and the water was cold",
    "in the town a man sold apples and pears",
    "the bird flew over the river to the town",
    "the man and the dog walked in the cold",
    "milk and bread and apples were on the table",
    "the cat drank the milk and slept on the mat",
)
TEXT = "\n".join(LINES * 6) + "\n"
SPECIAL = ("[PAD]", "[UNK]", "[MASK]", "[CLS]", "[SEP]", "</s>")
TEMPLATE = "{% for m in messages %}{{ m['role'] }} : {{ m['content'] }} </s> {% endfor %}"


def trained() -> Tokenizer:
    """Of the library tokenizers: a token for every word of `LINES`."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words = trainers.WordLevelTrainer(special_tokens=list(SPECIAL), vocab_size=100)
    tokenizer.train_from_iterator([*LINES, "user : assistant :"], words)
    return tokenizer


def tokenizer(chat: bool = False) -> Any:
    """The same, of transformers."""
    from transformers import PreTrainedTokenizerFast

    made = PreTrainedTokenizerFast(
        tokenizer_object=trained(),
        pad_token="[PAD]",
        mask_token="[MASK]",
        eos_token="</s>",
        unk_token="[UNK]",
    )
    if chat:
        made.chat_template = TEMPLATE
    return made


def causal(seed: int = 0, positions: int = 32) -> Any:
    """A Llama of 60 tokens."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=60, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=positions, pad_token_id=0, eos_token_id=5,
        bos_token_id=3,
    )  # fmt: skip
    return randomise(LlamaForCausalLM(config), seed)


def encoder(kind: str, seed: int = 0) -> Any:
    """A BERT of 60 tokens with the head of its class."""
    import transformers

    config = transformers.BertConfig(
        vocab_size=60, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=32, label2id={"bad": 0, "good": 1}, id2label={0: "bad", 1: "good"},
    )  # fmt: skip
    return randomise(getattr(transformers, kind)(config), seed)


def pairs(seed: int = 0) -> Any:
    """A T5 of 60 tokens."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=60, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2)
    config.decoder_start_token_id = 0
    return randomise(T5ForConditionalGeneration(config), seed)


def folder(model: Any, place: Path, chat: bool = False) -> Path:
    """The model and the tokenizer as ``save_pretrained`` writes them."""
    model.save_pretrained(place)
    tokenizer(chat).save_pretrained(place)
    return place


class OwnLanguageModel(nn.Module):
    """Predicts the next of 60 tokens; takes one tensor, as models of one's own do."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.embed = nn.Embedding(60, 16)
        self.up, self.down = nn.Linear(16, 24), nn.Linear(24, 16)
        self.head = nn.Linear(16, 60)
        randomise(self, seed)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        return self.head(x + self.down(torch.relu(self.up(x))))
