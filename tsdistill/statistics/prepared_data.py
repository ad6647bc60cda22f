"""Data for a model: how its inputs look, one example to trace it with, and the batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.augmentation import Setting, Strategy, augmented, opened, prepared
from tsdistill.data import Stream, open_data
from tsdistill.data.examples import LikeExample
from tsdistill.data.text.text_spec import input_spec
from tsdistill.errors import TsdistillError
from tsdistill.models import InputSpec, info_of
from tsdistill.models import example_input as example_for
from tsdistill.models.input_spec import override
from tsdistill.models.requirements import check_open
from tsdistill.models.sources.hf_inputs import is_transformers
from tsdistill.options.data_options import DataOptions
from tsdistill.options.option_fields import written
from tsdistill.runtime.forward import head, placement, to_model
from tsdistill.runtime.nests import arguments_of, keyword_arguments
from tsdistill.runtime.seeds import mixed_seed

RANDOM_TOKENS = (
    "no text was given: random tokens prove nothing about a model of language, neither what its nodes carry "
    "nor what a cut costs; give text as data (docs/language.md)"
)


@dataclass(frozen=True, eq=False)
class PreparedData:
    """A model's data, opened.

    Attributes:
        spec: how inputs look, when it is known.
        example: one input of batch 1.
        stream: the samples.
        augment: the augmentation as the user names it, ``"none"`` for none.
        strategy: that augmentation, ready to be used, ``None`` for none.
        seed: of the augmentation.
        notes: lines for the user.
    """

    spec: InputSpec | None
    example: Any
    stream: Stream
    augment: str = "none"
    strategy: Strategy | None = None
    seed: int = 0
    notes: tuple[str, ...] = ()

    @property
    def description(self) -> str:
        """What the data are."""
        augmented = "" if self.augment == "none" else f"; augmented: {self.augment}"
        return self.stream.description + augmented

    @property
    def synthetic(self) -> bool:
        """Whether the data were made up."""
        return self.stream.synthetic

    @property
    def words(self) -> str:
        """How inputs look and where that comes from."""
        if self.spec is None:
            return "inputs as they are given"
        size = "x".join(str(side) for side in self.spec.size)
        return f"inputs {size} ({self.spec.source})"

    @property
    def samples(self) -> int | None:
        """How many samples there are, ``None`` when that is known only at the end."""
        return self.stream.samples

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """The batches ``(x, y)``, augmented; the same ones every time."""
        if self.strategy is None:
            yield from self.stream
            return
        for index, (x, y) in enumerate(self.stream):
            generator = torch.Generator().manual_seed(mixed_seed(self.seed, index))
            yield augmented(self.strategy, x, y, generator) if isinstance(x, Tensor) else (x, y)


def inputs_for(model: nn.Module, prepared: PreparedData) -> Iterator[Any]:
    """The inputs of every batch, as ``model`` takes them; nothing is read before it is asked for."""
    for x, _ in prepared:
        yield to_model(x, model)


def structured_example(model: nn.Module, example_input: Any = None) -> Any:
    """An example whose form says more than a size: the one given, else the model's own, if any."""
    if example_input is None:
        known = info_of(model).example
        example_input = example_for(model) if known is None and is_transformers(model) else known
    return keyword_arguments(model, example_input)


def example_like(example_input: Any) -> LikeExample | None:
    """Made-up samples in the form of an example; ``None`` where its size alone says as much."""
    if example_input is None or not LikeExample.serves(example_input):
        return None
    sized = isinstance(example_input, Tensor) and example_input.is_floating_point()
    return None if sized else LikeExample(example_input)


def prepare(
    model: nn.Module,
    data: Any,
    inputs: DataOptions = DataOptions(),
    *,
    teacher: nn.Module | None = None,
    seed: int = 0,
) -> PreparedData:
    """Open ``data`` for ``model``; an augmentation's teacher is ``teacher``, else the model itself.

    The input's shape is the one given, else the model's own, else the example's, else that of the first
    batch of data given in Python.

    Raises:
        TsdistillError: nothing says how inputs look, the data cannot be opened, or the augmentation does not
            exist or does not suit them.
    """
    check_open(model)
    if teacher is not None:
        check_open(teacher, "teacher")
    spec = info_of(model).input
    arguments = arguments_of(model, inputs.example_input)
    example_input = structured_example(model, inputs.example_input)
    numbers = isinstance(example_input, Tensor) and example_input.is_floating_point()
    if numbers and example_input.ndim > 1 and inputs.input_size is None:
        shape = tuple(example_input.shape[1:])
        if spec is None:
            spec = InputSpec(shape, source="the example input")
        elif spec.size != shape:
            spec = replace(spec, size=shape, source=f"{spec.source}; size: the example input's")
    spec = override(spec, inputs)
    augment = inputs.augment
    strategy = None if augment == "none" else opened(augment)
    unasked = data is None
    data = data if data is not None else example_like(example_input)
    if spec is None and data is None:
        example_for(model, example_input)
        if data is None and example_input is not None:
            raise TsdistillError(
                "samples are made up in the form of a tensor or of tensors by name (batch 1), the example "
                f"input is neither; give {written('data')}"
            )
    text = None if spec is not None else input_spec(model, inputs, teacher)
    if spec is None and text is None and isinstance(data, str):
        example_for(model, example_input)
    stream = open_data(data, spec or text, inputs.reading, seed=seed, arguments=arguments)
    notes = (RANDOM_TOKENS,) if unasked and text is not None else ()
    if strategy is not None:
        strategy = prepared(strategy, _setting(teacher or model, stream, spec, seed))
    example = _example(model, spec, stream, example_input)
    return PreparedData(spec, example, stream, augment, strategy, seed, notes)


def _setting(teacher: nn.Module, stream: Stream, spec: InputSpec | None, seed: int) -> Setting:
    return Setting(
        teacher=teacher,
        batches=lambda: (x for x, _ in stream if isinstance(x, Tensor)),
        generator=torch.Generator().manual_seed(seed),
        mean=spec.mean if spec else None,
        std=spec.std if spec else None,
    )


def _example(model: nn.Module, spec: InputSpec | None, stream: Stream, example_input: Any) -> Any:
    device, dtype = placement(model)
    if example_input is not None:
        return to_model(example_input, model)
    own = info_of(model).input
    if own is not None and spec is not None and own.size == spec.size:
        return example_for(model)
    if spec is not None:
        noise = torch.randn(1, *spec.size, generator=torch.Generator().manual_seed(0))
        return noise.to(device=device, dtype=dtype)
    x, _ = next(iter(stream))
    return to_model(head(x, 1), model)
