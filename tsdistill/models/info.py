"""Information about a model: its architecture, the form of its inputs, the changes of cuts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

_ATTRIBUTE = "_tsdistill_info"


@dataclass(frozen=True)
class Attribute:
    """A shape constant that a module keeps, as plain data (``groups``, ``num_heads``, split sizes ...).

    Attributes:
        module: dotted name of the module, ``""`` for the model itself.
        name: attribute of that module.
        value: an int, or a tuple or list of ints.
    """

    module: str
    name: str
    value: int | tuple[int, ...] | list[int]


@dataclass(frozen=True)
class InputSpec:
    """How the inputs of a model look.

    Attributes:
        size: shape of one sample without the batch: ``(C, H, W)`` or ``(features,)``.
        mean: per-channel mean that is subtracted from images in [0, 1]; ``None`` leaves values as they are.
        std: per-channel standard deviation that they are divided by.
        interpolation: ``"bicubic"``, ``"bilinear"`` or ``"nearest"``.
        crop_pct: side of the centre crop over the side of the resized image.
        source: where these figures come from, for people.
        transform: replaces resizing, cropping and normalising altogether (Python only, never stored).
    """

    size: tuple[int, ...]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    interpolation: str = "bicubic"
    crop_pct: float = 1.0
    source: str = "given"
    transform: Callable[[Any], Any] | None = None


@dataclass(frozen=True)
class ModelInfo:
    """Origin and history of a model.

    Attributes:
        arch: specification that builds the architecture (``"timm:resnet18,num_classes=10"``,
            ``"torchvision:resnet18"``, ``"file.py:factory"``), or ``None`` when it is not known.
        input: how inputs look, or ``None`` when the model does not say.
        attributes: shape constants that cuts have changed, accumulated.
        buffers: non-persistent buffers that cuts have changed; they are stored with the weights.
        notes: lines for the user, such as how the architecture was recognised.
        example: an input of batch 1 that the user gave; never stored.
        name: what it was loaded from, a file's path or a specification; never stored.
        tokenizer: what makes tokens of text, as the user gave it; never stored.
        length: tokens in a sequence, likewise.
    """

    arch: str | None = None
    input: InputSpec | None = None
    attributes: tuple[Attribute, ...] = ()
    buffers: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    example: Any = field(default=None, compare=False, repr=False)
    name: str | None = field(default=None, compare=False)
    tokenizer: Any = field(default=None, compare=False, repr=False)
    length: int | None = field(default=None, compare=False)


def attached(model: nn.Module) -> ModelInfo | None:
    """The information attached to ``model``, if there is any."""
    return model.__dict__.get(_ATTRIBUTE)


def attach(model: nn.Module, info: ModelInfo) -> None:
    """Attach ``info`` to ``model``; it survives ``copy.deepcopy``."""
    model.__dict__[_ATTRIBUTE] = info
