"""How the inputs of a model look, and which samples are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from tsdistill.options.option_fields import OptionSet, option

INTERPOLATIONS = ("bicubic", "bilinear", "nearest")

BATCH_SIZE = 32
"""Samples in a forward pass, where none are named."""


@dataclass(frozen=True, kw_only=True)
class InputOptions(OptionSet):
    """How the inputs of a model look, in place of what the model says."""

    input_size: Sequence[int] | None = option(
        None, "Shape of one sample; 224 for a square.", section="Model", metavar="CxHxW", form="size"
    )
    mean: Sequence[float] | None = option(
        None, "Per-channel mean of the inputs.", section="Model", metavar="M,M,M", form="figures"
    )
    std: Sequence[float] | None = option(
        None,
        "Per-channel standard deviation of the inputs.",
        section="Model",
        metavar="S,S,S",
        form="figures",
    )
    interpolation: str | None = option(
        None, "How images are resized.", section="Model", choices=INTERPOLATIONS, metavar=""
    )
    example_input: Any = option(
        None,
        "One input (batch 1) where a size does not say it: .pt, .npy, .npz or .safetensors with a tensor, a "
        "tuple of arguments or arguments by name; or a function, path/to/file.py:function.",
        section="Model",
        metavar="FILE",
        form="text",
    )
    transform: Callable[[Any], Any] | None = option(
        None, "Replaces resizing, cropping and normalising; in Python only.", section="Model"
    )
    tokenizer: Any = option(
        None,
        "What makes tokens of text: a folder, a tokenizer.json or a name of the hub (in Python also an "
        "object); without it the one in the model's folder.",
        section="Model",
        metavar="PATH|NAME",
        form="text",
    )
    length: int | None = option(
        None,
        "Tokens in a sequence of text; without it 512, or what the model can take where that is less.",
        section="Model",
        metavar="N",
        least=2,
    )


@dataclass(frozen=True, kw_only=True)
class DataOptions(InputOptions):
    """Which samples are read, and how."""

    samples: int | None = option(
        None,
        "How many samples are looked at; without it all (on the command line at most 2048), of synthetic "
        "ones 512.",
        section="Data",
        metavar="N",
        least=2,
    )
    batch_size: int = option(BATCH_SIZE, "Samples in one pass.", section="Data", metavar="N", least=1)
    augment: Any = option(
        "none", "Augmentation (see `tsdistill plugins`).", section="Data", metavar="NAME", form="text"
    )
    strict: bool = option(
        False,
        "A sample that cannot be read is an error; without it, it is left out, counted and named.",
        section="Data",
        metavar="",
    )

    @property
    def reading(self) -> Self:
        """The options of reading samples alone: how inputs look is settled, and nothing is augmented."""
        return type(self)(samples=self.samples, batch_size=self.batch_size, strict=self.strict)

    @property
    def look(self) -> InputOptions:
        """The options of how inputs look alone."""
        return InputOptions.of(self)

    @classmethod
    def converted(cls, name: str, value: Any, at: str) -> Any:  # noqa: ARG003
        """The name of an augmentation that is given itself."""
        return strategy_name(value) if name == "augment" else value


def strategy_name(value: Any) -> Any:
    """The name of an augmentation; that of one itself, which is found by it again."""
    if not callable(value):
        return value
    from tsdistill.plugins import name_of

    return name_of(value)
