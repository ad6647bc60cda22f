"""timm's training transform; what it draws depends on one seed for each sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from tsdistill.data.transforms import channel_figures, convert, is_image
from tsdistill.errors import TsdistillError, cause_of
from tsdistill.models.info import InputSpec

OPTIONS = ("scale", "ratio", "hflip", "vflip", "color_jitter", "auto_augment", "re_prob", "train_crop_mode")
"""Options of ``timm.data.create_transform`` that may be given for training."""


class TrainingTransform:
    """From a PIL image to a float tensor: timm's ``create_transform(is_training=True)``.

    Args:
        spec: how inputs look.
        options: of `OPTIONS`, as timm takes them.

    Raises:
        TsdistillError: the specification is not one of images or timm does not take the options.
    """

    def __init__(self, spec: InputSpec, options: Mapping[str, Any]) -> None:
        if not is_image(spec) or spec.transform is not None:
            raise TsdistillError("a training transform is for images that no other transform is given for")
        unknown = sorted(set(options) - set(OPTIONS))
        if unknown:
            raise TsdistillError(
                f"a training transform has no option {unknown[0]}; it has {', '.join(OPTIONS)}"
            )
        from timm.data import create_transform

        mean, std = channel_figures(spec)
        self._channels, height, width = spec.size
        try:
            self._transform = create_transform(
                (self._channels, height, width),
                is_training=True,
                interpolation=spec.interpolation,
                mean=mean,
                std=std,
                **options,
            )
        except Exception as error:  # timm asserts and raises what it likes
            raise TsdistillError(
                f"timm does not take the training transform {dict(options)}: {cause_of(error)}"
            ) from error

    def __call__(self, image: Any) -> torch.Tensor:
        """The tensor that the model reads; what is random comes from the global generators."""
        return self._transform(convert(image, self._channels))

    @staticmethod
    def words(options: Mapping[str, Any]) -> str:
        """The options, for people."""
        return ", ".join(f"{name} {value}" for name, value in options.items()) or "as timm sets it"
