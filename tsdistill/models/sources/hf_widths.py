"""Widths that a configuration of transformers can say, and the fields that stand for them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tsdistill.models.sources.hf_inputs import is_transformers

_MLP = (
    *("intermediate_size", "n_inner", "ffn_dim", "d_ff", "encoder_ffn_dim", "decoder_ffn_dim", "hidden_dim"),
    *("ffn_hidden_size", "moe_intermediate_size"),
)
"""What configurations call the width of a feed-forward network."""

_HEADS = (
    ("num_attention_heads", "num_key_value_heads"),
    ("num_attention_heads",),
    ("num_key_value_heads",),
    ("n_head",),
    ("num_heads",),
    ("encoder_attention_heads",),
    ("decoder_attention_heads",),
    ("num_attention_heads", "num_kv_heads"),
)
"""What configurations call numbers of heads: those that change together."""


@dataclass(frozen=True)
class WidthField:
    """A width that fields of a configuration stand for.

    Attributes:
        names: the fields.
        inner: whether they are in the configuration of the text part.
    """

    names: tuple[str, ...]
    inner: bool

    def apply(self, config: Any, kept: int, size: int) -> bool:
        """Set the fields to what is left when ``kept`` of ``size`` nodes stay; ``False`` where that is no
        integer."""
        place = config.get_text_config() if self.inner else config
        values = {name: _value(place, name, size) for name in self.names}
        if any(value * kept % size for value in values.values()):
            return False
        for name, value in values.items():
            setattr(place, name, value * kept // size)
        return True


def width_field(
    model: nn.Module, removed: Mapping[str, tuple[int, ...]], kept: int, size: int
) -> WidthField | None:
    """The fields of a model's configuration that stand for a width; ``None`` where it has none.

    Args:
        model: a model of transformers.
        removed: name of a parameter -> its shape once a few nodes of the width have left.
        kept: number of nodes that are left then.
        size: number of nodes of the whole width.
    """
    if not is_transformers(model):
        return None
    wanted = {name: tuple(p.shape) for name, p in model.named_parameters()} | dict(removed)
    for field in _fields(model.config, size):
        config = copy.deepcopy(model.config)
        if field.apply(config, kept, size) and built_shapes(model, config) == wanted:
            return field
    return None


def built_shapes(model: nn.Module, config: Any) -> dict[str, tuple[int, ...]] | None:
    """The shapes of the parameters of a model of the same class; ``None`` where it cannot be built."""
    try:
        with torch.device("meta"):
            fresh = type(model)(config)
    except Exception:  # whatever a class of transformers says of a configuration
        return None
    return {name: tuple(p.shape) for name, p in fresh.named_parameters()}


def _fields(config: Any, size: int) -> Iterator[WidthField]:
    """Fields that could stand for a width."""
    text = config.get_text_config()
    for inner in (False, True) if text is not config else (False,):
        place = text if inner else config
        for name in _MLP:
            if _value(place, name, size) == size:
                yield WidthField((name,), inner)
        for names in _HEADS:
            if all(_value(place, name, 0) for name in names):
                yield WidthField(names, inner)


def _value(config: Any, name: str, otherwise: int) -> int:
    """A number in a configuration; ``n_inner`` and its like are ``None`` where they follow from others."""
    value = getattr(config, name, 0)
    if value is None:
        return otherwise
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
