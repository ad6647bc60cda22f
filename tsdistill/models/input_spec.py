"""Inputs of a model: the form that the user gives, and an example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.models.info import InputSpec, attach
from tsdistill.models.origin import info_of
from tsdistill.models.sources.hf_inputs import example, is_transformers, moved_like
from tsdistill.options.data_options import InputOptions
from tsdistill.options.option_fields import written

_SEED = 0
"""Seed of the noise, so that every call gives the same input."""


def override(spec: InputSpec | None, inputs: InputOptions) -> InputSpec | None:
    """``spec`` with what the user gave in its place; ``None`` when nothing is known and nothing was given.

    A single number in place of an image's size is the side of a square.

    Raises:
        TsdistillError: a size that is not made of positive ints, figures that do not go with the channels, or
            figures or a transform without any size.
    """
    changes = _changes(spec, inputs)
    if not changes:
        return _transformed(spec, inputs)
    if spec is None and "size" not in changes:
        raise TsdistillError(
            f"the size of this model's inputs is not known; give {written('input_size')} as well"
        )
    source = "given" if spec is None or len(changes) == 4 else f"{spec.source}; given: {', '.join(changes)}"
    new = replace(spec or InputSpec(changes["size"]), **changes, source=source)
    for name, values in (("mean", new.mean), ("std", new.std)):
        if values is not None and len(values) not in (1, new.size[0]):
            raise TsdistillError(
                f"{written(name)} has {len(values)} figures for inputs of {new.size[0]} channels; give one a "
                "channel"
            )
    return _transformed(new, inputs)


def _changes(spec: InputSpec | None, inputs: InputOptions) -> dict[str, Any]:
    """The fields of ``spec`` that the user gave."""
    changes: dict[str, Any] = {}
    if inputs.input_size is not None:
        changes["size"] = _size(inputs.input_size)
        if len(changes["size"]) == 1 and spec is not None and len(spec.size) == 3:
            changes["size"] = (spec.size[0], *changes["size"] * 2)
    for name, values in (("mean", inputs.mean), ("std", inputs.std)):
        if values is not None:
            changes[name] = tuple(float(value) for value in values)
    if min(changes.get("std", (1.0,)), default=0.0) <= 0:
        raise TsdistillError(f"{written('std')} takes positive figures, not {list(changes['std'])}")
    if inputs.interpolation is not None:
        changes["interpolation"] = inputs.interpolation
    return changes


def _transformed(spec: InputSpec | None, inputs: InputOptions) -> InputSpec | None:
    """``spec`` with the caller's transform in place of resizing, cropping and normalising."""
    if inputs.transform is None:
        return spec
    if spec is None:
        raise TsdistillError(
            f"a transform was given but not the size of its results; give {written('input_size')} as well"
        )
    return replace(spec, transform=inputs.transform)


def with_channels(spec: InputSpec | None, channels: int) -> InputSpec | None:
    """``spec`` for another number of channels, each with the mean figures of the old ones."""
    if spec is None or spec.size[0] == channels:
        return spec
    mean, std = (
        None if values is None else (sum(values) / len(values),) * channels
        for values in (spec.mean, spec.std)
    )
    return replace(spec, size=(channels, *spec.size[1:]), mean=mean, std=std)


def example_input(model: nn.Module, example_input: Any = None) -> Any:
    """Inputs to run ``model`` on once: what is given, else seeded Gaussian noise of batch 1.

    The noise has the shape of the model's `InputSpec` and the device and type of its first parameter.
    torchvision's detectors get a list of one image, models of transformers what their configuration says.

    Raises:
        TsdistillError: nothing is given and the model does not say how its inputs look.
    """
    if example_input is not None:
        return example_input
    info = info_of(model)
    if info.example is not None:
        return info.example
    spec = info.input
    generator = torch.Generator().manual_seed(_SEED)
    first = next((p for p in model.parameters() if p.is_floating_point()), None)
    if is_transformers(model):
        return moved_like(example(model, generator), first)
    if spec is None:
        raise TsdistillError(
            f"the size of this model's inputs is not known; give {written('input_size')} or "
            f"{written('example_input')}"
        )
    noise = torch.randn(1, *spec.size, generator=generator)
    if first is not None:
        noise = noise.to(first.device, first.dtype)
    if type(model).__module__.startswith("torchvision.models.detection"):
        return ([noise[0].sigmoid()],)
    return noise


def give_example(model: nn.Module, example: Any) -> None:
    """Let ``example`` (batch 1) be the input that ``model`` is run on; one tensor says how inputs look."""
    info = info_of(model)
    spec = info.input
    if (
        spec is None
        and isinstance(example, torch.Tensor)
        and example.ndim > 1
        and example.is_floating_point()
    ):
        spec = InputSpec(tuple(example.shape[1:]), source="the example input")
    attach(model, replace(info, example=example, input=spec))


def _size(size: Sequence[int]) -> tuple[int, ...]:
    try:
        sizes = tuple(int(value) for value in size)
    except (TypeError, ValueError):
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise TsdistillError(
            f"{written('input_size')} takes positive whole numbers such as 3,224,224, not {size!r}"
        )
    return sizes
