"""An input for a model of transformers, made from its configuration."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

_TOKENS = 16
_SAMPLES = 4000


def is_transformers(model: nn.Module) -> bool:
    """Whether ``model`` is one of transformers' (nothing is imported to find out)."""
    return type(model).__module__.startswith("transformers.models.")


def example(model: Any, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Keyword arguments of batch 1: token ids, an image, a spectrogram or a wave, as ``model`` takes them."""
    config = model.config
    text = getattr(config, "text_config", config)
    main = model.main_input_name
    given: dict[str, torch.Tensor] = {}
    if main == "pixel_values" or hasattr(config, "vision_config"):
        given["pixel_values"] = _image(getattr(config, "vision_config", config), generator)
    if main == "input_ids":
        given["input_ids"] = _tokens(text, generator)
    elif main == "input_features":
        bins = getattr(config, "num_mel_bins", 80)
        length = 2 * getattr(config, "max_source_positions", 1500)
        given["input_features"] = torch.randn(1, bins, length, generator=generator)
    elif main == "input_values" and hasattr(config, "max_length") and hasattr(config, "num_mel_bins"):
        given["input_values"] = torch.randn(1, config.max_length, config.num_mel_bins, generator=generator)
    elif main == "input_values":
        least = 1
        for kernel, stride in zip(config.conv_kernel[::-1], config.conv_stride[::-1], strict=True):
            least = (least - 1) * stride + kernel
        given["input_values"] = torch.randn(1, max(_SAMPLES, 4 * least), generator=generator)
    if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" in _arguments(model):
        given["decoder_input_ids"] = _tokens(text, generator)
    return given


def _arguments(model: nn.Module) -> tuple[str, ...]:
    return tuple(inspect.signature(model.forward).parameters)


def _tokens(config: Any, generator: torch.Generator) -> torch.Tensor:
    """Ordinary tokens, none of the special ones (padding, end) that a mask is made from."""
    special = {
        value
        for name in ("pad_token_id", "eos_token_id", "bos_token_id", "decoder_start_token_id")
        for value in _each(getattr(config, name, None))
    }
    longest = min(
        (
            getattr(config, name)
            for name in ("max_position_embeddings", "max_target_positions", "n_positions")
            if isinstance(getattr(config, name, None), int)
        ),
        default=_TOKENS,
    )
    words = min(getattr(config, "vocab_size", 1000), 1000)
    ordinary = torch.tensor([t for t in range(words) if t not in special])
    length = max(2, min(_TOKENS, longest // 2))
    return ordinary[torch.randint(len(ordinary), (1, length), generator=generator)]


def _each(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _image(config: Any, generator: torch.Generator) -> torch.Tensor:
    side = getattr(config, "image_size", 224)
    sides = (side, side) if isinstance(side, int) else tuple(side)
    return torch.randn(1, getattr(config, "num_channels", 3), *sides, generator=generator)
