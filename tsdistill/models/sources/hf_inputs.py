"""An input for a model of transformers, made from its configuration."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from tsdistill.torch_private import pytree

Keywords = dict[str, torch.Tensor]
"""Keyword arguments of a forward."""

_TOKENS = 16
"""Tokens of a text: more than the heads and kernels of small models see at once, few enough that a forward
is quick.
"""

_SAMPLES = 4000
"""Samples of a wave, at least: a quarter of a second at 16 kHz."""

_FRAMES = 200
"""Frames of a spectrogram: two seconds at the usual hop of 10 ms."""

_PATCHES = 4
"""Patches along a side of an image of free size, after neighbouring ones are merged."""

_BINS = ("num_mel_bins", "input_feat_per_channel", "feature_size", "n_mels", "feature_projection_input_dim")
_IMAGE_TOKENS = ("image_token_id", "image_token_index", "image_token")


def is_transformers(model: nn.Module) -> bool:
    """Whether ``model`` is one of transformers' (nothing is imported to find out)."""
    return type(model).__module__.startswith("transformers.models.")


def example(model: Any, generator: torch.Generator) -> Keywords:
    """Keyword arguments of batch 1: token ids, an image, a video, a spectrogram, a wave, a series, or several
    of these, as ``model`` takes them.

    Where the configuration leaves open how they look (bins before frames or behind them, say), it is the
    first way that the forward takes.
    """
    candidates = list(_candidates(model, generator))
    for candidate in candidates[:-1]:
        if _accepts(model, candidate):
            return candidate
    return candidates[-1]


def _accepts(model: Any, inputs: Keywords) -> bool:
    training = model.training
    first = next(iter(model.parameters()), None)
    try:
        with torch.no_grad():
            model.eval()(**moved_like(inputs, first))
    except Exception:  # whatever it says of an input that is not for it
        return False
    finally:
        model.train(training)
    return True


def moved_like(inputs: Any, like: torch.Tensor | None) -> Any:
    """``inputs`` with their tensors on the device of ``like``, floating ones in its type.

    They are as they were where ``like`` is ``None``.
    """
    if like is None:
        return inputs

    def move(x: torch.Tensor) -> torch.Tensor:
        return x.to(like.device, like.dtype if x.is_floating_point() else None)

    return pytree.tree_map_only(torch.Tensor, move, inputs)


def _candidates(model: Any, generator: torch.Generator) -> Iterator[Keywords]:
    """What the forward may take; the likely ones first, and last of all the one without a doubt."""
    config, arguments = model.config, inspect.signature(model.forward).parameters
    main = model.main_input_name if isinstance(model.main_input_name, str) else model.main_input_name[0]
    tokens: Keywords = {}
    if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" in arguments:
        tokens["decoder_input_ids"] = _tokens(config, generator)
    if main == "input_ids" or ("input_ids" in arguments and hasattr(config, "text_config")):
        tokens["input_ids"] = _tokens(config, generator)
    pictures = getattr(config, "vision_config", config)
    if "grid_thw" in arguments:
        yield _patches(config, generator, next(iter(arguments)), "grid_thw")
    if "input_ids" in tokens and hasattr(config, "vision_config") and hasattr(model, "get_image_features"):
        yield from _illustrated(model, tokens, "image_grid_thw" in arguments, generator)
    if "bbox" in arguments and "input_ids" in tokens:
        corners = torch.randint(0, 100, (1, tokens["input_ids"].shape[1], 2), generator=generator)
        boxes = torch.cat([corners, corners + 50], -1)
        yield {**tokens, "bbox": boxes}
        yield {**tokens, "bbox": boxes, "pixel_values": _image(config, generator)}
    if main in ("pixel_values", "pixel_values_videos") and _frames(config):
        yield {main: _image(config, generator, _frames(config))}
    if main == "past_values":
        length, channels = getattr(config, "context_length", 32), getattr(config, "num_input_channels", 1)
        yield {main: torch.randn(1, length, channels, generator=generator)}
    for sound in _sounds(main, config, generator):
        yield {**sound, **tokens}
    if main == "pixel_values" or hasattr(config, "vision_config"):
        yield {"pixel_values": _image(pictures, generator), **tokens}
    elif main not in ("input_features", "input_values", "past_values"):
        yield tokens or {"input_ids": _tokens(config, generator)}


def _illustrated(model: Any, tokens: Keywords, grid: bool, generator: torch.Generator) -> Iterator[Keywords]:
    """Texts with an image in them; ``grid`` where the model may take it in patches."""
    config = model.config
    pictures = config.vision_config
    seen: list[Keywords] = [{"pixel_values": _image(pictures, generator, frames)} for frames in (0, 1)]
    if grid:
        seen.insert(0, _patches(pictures, generator, "pixel_values", "image_grid_thw"))
    for images in seen:
        if (count := _image_tokens(model, images)) and (marked := _marked(config, tokens, count)):
            yield {**images, **marked}
            yield {**images, **marked, "mm_token_type_ids": _kinds(config, marked["input_ids"])}


def _sounds(main: str, config: Any, generator: torch.Generator) -> Iterator[Keywords]:
    """Spectrograms and waves."""
    if main == "input_features":
        bins = next((getattr(config, name) for name in _BINS if hasattr(config, name)), 80)
        yield {main: torch.randn(1, _FRAMES, bins, generator=generator)}
        length = 2 * getattr(config, "max_source_positions", 1500)
        yield {main: torch.randn(1, bins, length, generator=generator)}
    elif main == "input_values" and hasattr(config, "max_length") and hasattr(config, "num_mel_bins"):
        yield {main: torch.randn(1, config.max_length, config.num_mel_bins, generator=generator)}
    elif main == "input_values" and hasattr(config, "conv_kernel"):
        least = 1
        for kernel, stride in zip(config.conv_kernel[::-1], config.conv_stride[::-1], strict=True):
            least = (least - 1) * stride + kernel
        yield {main: torch.randn(1, max(_SAMPLES, 4 * least), generator=generator)}
    elif main == "input_values":
        wave = torch.randn(1, 4 * _SAMPLES, generator=generator)
        yield {main: wave.expand(1, getattr(config, "audio_channels", 1), -1).clone()}
        yield {main: wave}


def _frames(config: Any) -> int:
    """How many images a video has, for a model of videos; else 0."""
    frames = next((getattr(config, n) for n in ("num_frames", "frames_per_clip") if hasattr(config, n)), 0)
    return int(frames or 0)


def _patches(config: Any, generator: torch.Generator, name: str, grid: str) -> Keywords:
    """An image in patches, one a row, as towers for images of any size take them, and its grid."""
    merged = int(getattr(config, "spatial_merge_size", 1))
    side = _PATCHES * merged
    values = int(getattr(config, "patch_size", 16)) ** 2 * int(getattr(config, "temporal_patch_size", 1))
    channels = getattr(config, "in_channels", getattr(config, "num_channels", 3))
    rows = torch.randn(side * side, int(channels) * values, generator=generator)
    return {name: rows, grid: torch.tensor([[1, side, side]])}


def _image_tokens(model: Any, image: Keywords) -> int:
    """How many tokens an image becomes."""
    first = next(iter(model.parameters()), None)
    try:
        with torch.no_grad():
            features = model.get_image_features(**moved_like(image, first))
    except Exception:  # an image that is not for this model
        return 0
    features = getattr(features, "pooler_output", features)
    return sum(x.numel() // x.shape[-1] for x in pytree.tree_leaves(features) if isinstance(x, torch.Tensor))


def _marked(config: Any, tokens: Keywords, count: int) -> Keywords:
    """``tokens`` with the places for an image in the middle."""
    marks = _marks(config)
    if not marks:
        return {}
    half = tokens["input_ids"].shape[1] // 2
    before, after = tokens["input_ids"][:, :half], tokens["input_ids"][:, half:]
    return {**tokens, "input_ids": torch.cat([before, before.new_full((1, count), marks[0]), after], 1)}


def _kinds(config: Any, ids: torch.Tensor) -> torch.Tensor:
    """1 for tokens of an image, 0 for words."""
    return torch.isin(ids, torch.tensor(_marks(config))).int()


def _marks(config: Any) -> list[int]:
    """The tokens that stand for an image."""
    ids = (getattr(config, name, None) for name in _IMAGE_TOKENS)
    return [mark for mark in ids if isinstance(mark, int)]


def _tokens(config: Any, generator: torch.Generator) -> torch.Tensor:
    """Ordinary tokens, none of the special ones (padding, end, an image) that a mask is made from."""
    text = getattr(config, "text_config", config)
    special = {
        value
        for each in (config, text)
        for name in vars(each)
        if name.endswith(("_token_id", "_token_index"))
        for value in _each(getattr(each, name, None))
    }
    longest = min(
        (
            getattr(text, name)
            for name in ("max_position_embeddings", "max_target_positions", "n_positions")
            if isinstance(getattr(text, name, None), int)
        ),
        default=_TOKENS,
    )
    words = min(getattr(text, "vocab_size", 1000), 1000)
    ordinary = torch.tensor([t for t in range(words) if t not in special])
    length = max(2, min(_TOKENS, longest // 2))
    return ordinary[torch.randint(len(ordinary), (1, length), generator=generator)]


def _each(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _image(config: Any, generator: torch.Generator, frames: int = 0) -> torch.Tensor:
    """A picture, or so many as a video has."""
    side = getattr(config, "image_size", None) or 224
    sides = (side, side) if isinstance(side, int) else tuple(side)
    channels = getattr(config, "num_channels", getattr(config, "in_channels", 3))
    shape = (frames, channels, *sides) if frames else (channels, *sides)
    return torch.randn(1, *shape, generator=generator)
