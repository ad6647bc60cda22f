"""How a model reads text: its task, the length of its sequences, its vocabulary and its tokenizer."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.errors import TsdistillError
from tsdistill.models.info import InputSpec
from tsdistill.models.input_spec import override
from tsdistill.models.origin import info_of
from tsdistill.models.sources.hf_inputs import is_transformers
from tsdistill.options.data_options import InputOptions
from tsdistill.options.option_fields import written
from tsdistill.runtime.nests import tensors

CAUSAL, MASKED, PAIRS, CLASSES, FEATURES = "causal", "masked", "pairs", "classes", "features"
"""What the outputs of a model of text are: the next token, hidden tokens, the tokens of another text, a class
of a text, or plain activations."""

LENGTH = 512
"""Tokens in a sequence where none are named: long enough that most tokens are predicted from a context, short
enough that attention takes a small part of the time."""

LOGITS_AT_ONCE = 2**26
"""Scores of tokens that one batch gives at most: 256 MB in float32. Judging holds about four such arrays."""

_LIMITS = ("max_position_embeddings", "n_positions", "max_target_positions", "max_sequence_length")
"""Names under which configurations keep the number of positions."""


@dataclass(frozen=True, eq=False)
class TextSpec:
    """How a model reads text.

    Attributes:
        task: one of `CAUSAL`, `MASKED`, `PAIRS`, `CLASSES`, `FEATURES`.
        length: tokens in a sequence.
        vocabulary: tokens that the model knows; ids are below it.
        stated: whether the user gave the length.
        tokenizer: a folder, a file, a name of the hub or an object; ``None`` where nothing says it.
        named: whether inputs are arguments by name (``input_ids``), as of transformers, or one tensor.
        padding: id that fills rows up; masked wherever it stands.
        ends: id that the model ends a text with, ``None`` where it has none.
        start: id that a decoder begins with.
        classes: numbers of classes by their names.
    """

    task: str
    length: int
    vocabulary: int
    stated: bool = False
    tokenizer: Any = None
    named: bool = True
    padding: int = 0
    ends: int | None = None
    start: int = 0
    classes: Mapping[str, int] = field(default_factory=dict)

    @property
    def largest_batch(self) -> int | None:
        """Sequences whose scores of all tokens fit into `LOGITS_AT_ONCE`; ``None`` where no tokens are
        scored."""
        if self.task in (CLASSES, FEATURES):
            return None
        return max(1, LOGITS_AT_ONCE // (self.length * max(1, self.vocabulary)))


def input_spec(
    model: nn.Module, inputs: InputOptions, *others: nn.Module | None
) -> InputSpec | TextSpec | None:
    """How the inputs of ``model`` look: sizes, or text; ``None`` where nothing is known.

    Args:
        model: the model.
        inputs: what the user says of it.
        others: models of the same inputs, whose tokenizer serves where ``model`` has none (a teacher).

    Raises:
        TsdistillError: an option does not fit the model.
    """
    spec = override(info_of(model).input, inputs)
    if spec is not None:
        return spec
    text = text_spec(model, inputs)
    if text is None or text.tokenizer is not None:
        return text
    places = (tokenizer_of(other, InputOptions()) for other in others if other is not None)
    return replace(text, tokenizer=next((place for place in places if place is not None), None))


def text_spec(model: nn.Module, inputs: InputOptions | Mapping[str, Any] = InputOptions()) -> TextSpec | None:
    """How ``model`` reads text; ``None`` of a model that takes no tokens.

    A model of transformers says it by its class and configuration. Any other module that embeds tokens is
    taken for one that predicts the next token where a tokenizer or a length is given for it, or where its
    example is one tensor of tokens.

    Args:
        model: the model.
        inputs: the tokenizer and the length, in place of what the model says.

    Raises:
        TsdistillError: more tokens in a sequence than the model has positions for.
    """
    inputs, info = InputOptions.of(inputs), info_of(model)
    length = inputs.length if inputs.length is not None else info.length
    tokenizer = tokenizer_of(model, inputs)
    if is_transformers(model):
        if not _takes_tokens(model):
            return None
        most = _positions(model)
        if length is not None and most is not None and length > most:
            raise TsdistillError(
                f"{written('length')} {length}: the model has {most} positions; give at most {most}"
            )
        config: Any = model.config
        return TextSpec(
            _task(model),
            length or min(LENGTH, most or LENGTH),
            _vocabulary(model),
            stated=length is not None,
            tokenizer=tokenizer,
            padding=_id(config, "pad_token_id") or 0,
            ends=_id(config, "eos_token_id"),
            start=next((each for name in _STARTS if (each := _id(config, name)) is not None), 0),
            classes=dict(getattr(config, "label2id", None) or {}),
        )
    embedded = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    example = info.example if inputs.example_input is None else inputs.example_input
    if not embedded or (tokenizer is None and length is None and not _is_tokens(example)):
        return None
    vocabulary = max(module.num_embeddings for module in embedded)
    if length is None and isinstance(example, Tensor) and example.ndim == 2:
        length = max(2, example.shape[1])
    return TextSpec(
        CAUSAL, length or LENGTH, vocabulary, stated=length is not None, tokenizer=tokenizer, named=False
    )


_STARTS = ("decoder_start_token_id", "bos_token_id", "pad_token_id")
"""What a decoder begins with, the first that a configuration has."""


def tokenizer_of(model: nn.Module, inputs: InputOptions = InputOptions()) -> Any:
    """What the user gave, else the folder or the name that the model was loaded from."""
    info = info_of(model)
    for stated in (inputs.tokenizer, info.tokenizer):
        if stated is not None:
            return stated
    name = info.name or ""
    place = name.removeprefix("hf:").partition("#")[0]
    spelt = "," in place or (place[:1].isupper() and "/" not in place)
    return place if name.startswith("hf:") and place and not spelt else None


def _takes_tokens(model: Any) -> bool:
    if getattr(model, "main_input_name", "input_ids") != "input_ids":
        return False
    return "input_ids" in inspect.signature(model.forward).parameters


def _task(model: Any) -> str:
    name = type(model).__name__
    if getattr(model.config, "is_encoder_decoder", False):
        return PAIRS
    if name.endswith("ForSequenceClassification"):
        return CLASSES
    if name.endswith("ForMaskedLM"):
        return MASKED
    heads = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
    return CAUSAL if name.endswith(heads) else FEATURES


def _vocabulary(model: Any) -> int:
    """Rows of the table of tokens."""
    try:
        table = model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        table = None
    return int(getattr(table, "num_embeddings", 0) or getattr(model.config, "vocab_size", 0) or 0)


def _positions(model: Any) -> int | None:
    """How many tokens a sequence may have, ``None`` where the configuration sets no bound."""
    config = model.config
    text = getattr(config, "text_config", None) or config
    known = [value for name in _LIMITS if isinstance(value := getattr(text, name, None), int) and value > 0]
    if not known:
        return None
    offsets = [
        module.padding_idx + 1
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) and "position" in name and module.padding_idx is not None
    ]
    return min(known) - max(offsets, default=0)


def _id(config: Any, name: str) -> int | None:
    value = getattr(config, name, None)
    if isinstance(value, Sequence) and value:
        value = value[0]
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _is_tokens(example: Any) -> bool:
    held = tensors(example) if example is not None else []
    return len(held) == 1 and held[0].dtype in (torch.int64, torch.int32) and held[0].ndim == 2
