"""From a picture or an array to what a model reads, as its ``InputSpec`` says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from tsdistill.errors import TsdistillError, cause_of
from tsdistill.models.info import InputSpec


def is_image(spec: InputSpec) -> bool:
    """Whether samples are ``(channels, height, width)``."""
    return len(spec.size) == 3


def channel_figures(spec: InputSpec) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel; 0 and 1 where the specification leaves values as they are.

    One figure serves all channels, and three serve a grey image by their average.

    Raises:
        TsdistillError: their number fits neither, or a deviation is not positive.
    """
    channels = spec.size[0]

    def fit(name: str, values: tuple[float, ...] | None, default: float) -> tuple[float, ...]:
        if values is None:
            return (default,) * channels
        if len(values) == channels:
            return tuple(values)
        if len(values) == 1:
            return tuple(values) * channels
        if channels == 1:
            return (sum(values) / len(values),)
        raise TsdistillError(
            f"{name} has {len(values)} values but inputs have {channels} channels; give {channels}"
        )

    mean, std = fit("mean", spec.mean, 0.0), fit("std", spec.std, 1.0)
    if min(std) <= 0:
        raise TsdistillError(f"std must be positive, not {min(std)}")
    return mean, std


def normalise(images: torch.Tensor, spec: InputSpec) -> torch.Tensor:
    """Images ``(..., C, H, W)`` in [0, 1], less the mean, over the standard deviation."""
    mean, std = (torch.tensor(v, dtype=torch.float32).view(-1, 1, 1) for v in channel_figures(spec))
    return (images - mean) / std


def convert(image: Any, channels: int) -> Any:
    """A PIL image as grey (``channels`` 1) or RGB (3); transparency and palettes are resolved.

    Raises:
        TsdistillError: the model reads another number of channels.
    """
    if channels not in (1, 3):
        raise TsdistillError(
            f"images have 1 or 3 channels but the model reads {channels}; give its inputs as .npy or .npz"
        )
    if image.mode.startswith("I;16") or image.mode == "I":
        image = image.point(lambda value: value * (1 / 257)).convert("L")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB" if channels == 3 else "L")


class ImageTransform:
    """From a PIL image to a float tensor of shape ``spec.size``.

    It is timm's evaluation transform (resize so that the crop is ``crop_pct`` of it, centre crop, normalise),
    or ``spec.transform`` where that is given.

    Raises:
        TsdistillError: the specification is not one of images.
    """

    def __init__(self, spec: InputSpec) -> None:
        self._channels = None
        if spec.transform is not None:
            self._resize = spec.transform
            return
        if not is_image(spec):
            raise TsdistillError(
                f"images do not fit a model whose inputs have shape {spec.size}; give .npy or .npz"
            )
        self._channels = spec.size[0]
        self._resize = _timm_transform(spec, is_training=False, crop_pct=spec.crop_pct)

    def __call__(self, image: Any) -> torch.Tensor:
        """The tensor that the model reads."""
        return self._resize(image if self._channels is None else convert(image, self._channels))


def _timm_transform(spec: InputSpec, **options: Any) -> Any:
    from timm.data import create_transform

    mean, std = channel_figures(spec)
    size: Any = tuple(spec.size)
    return create_transform(size, interpolation=spec.interpolation, mean=mean, std=std, **options)


def describe(spec: InputSpec, *, pictures: bool = True) -> str:
    """What is done to samples and where its figures come from, for people.

    Args:
        spec: how inputs look.
        pictures: whether samples are pictures that were resized and normalised, not values used as they are.
    """
    size = "x".join(str(n) for n in spec.size)
    if not pictures or not is_image(spec):
        return f"{size} values ({spec.source})"
    if spec.transform is not None:
        return f"through the given transform ({spec.source})"
    if spec.mean is None and spec.std is None:
        normal = "values in [0, 1]"
    else:
        mean, std = channel_figures(spec)
        normal = f"mean {_figures(mean)}, std {_figures(std)}"
    return f"{size}, {spec.interpolation}, crop {spec.crop_pct:g}, {normal} ({spec.source})"


def _figures(values: tuple[float, ...]) -> str:
    return "/".join(f"{value:.3g}" for value in values)


TRAINING_OPTIONS = (
    *("scale", "ratio", "hflip", "vflip", "color_jitter", "auto_augment", "re_prob"),
    "train_crop_mode",
)
"""Options of ``timm.data.create_transform`` that may be given for training."""


class TrainingTransform:
    """From a PIL image to a float tensor: timm's ``create_transform(is_training=True)``.

    Args:
        spec: how inputs look.
        options: of `TRAINING_OPTIONS`, as timm takes them.

    Raises:
        TsdistillError: the specification is not one of images or timm does not take the options.
    """

    def __init__(self, spec: InputSpec, options: Mapping[str, Any]) -> None:
        if not is_image(spec) or spec.transform is not None:
            raise TsdistillError("a training transform is for images that no other transform is given for")
        unknown = sorted(set(options) - set(TRAINING_OPTIONS))
        if unknown:
            raise TsdistillError(
                f"a training transform has no option {unknown[0]}; it has {', '.join(TRAINING_OPTIONS)}"
            )
        self._channels = spec.size[0]
        channel_figures(spec)
        try:
            self._transform = _timm_transform(spec, is_training=True, **options)
        except Exception as error:  # timm asserts and raises what it likes
            raise TsdistillError(
                f"timm does not take the training transform {dict(options)}: {cause_of(error)}"
            ) from error

    def __call__(self, image: Any) -> torch.Tensor:
        """The tensor that the model reads; what is random comes from the global generators."""
        return self._transform(convert(image, self._channels))
