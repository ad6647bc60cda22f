"""Function calls of a model made layers while it is looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import torch
from torch import nn

from tsdistill.models.layers.product_calls import calls_as_layers
from tsdistill.runtime.forward import forward
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.runtime.weight_settings import find_settings

P = ParamSpec("P")
R = TypeVar("R")


class _Prepared(Protocol):
    """Data of a model, opened."""

    @property
    def example(self) -> Any:
        """An input of batch 1."""


D = TypeVar("D", bound=_Prepared)


def observing_calls(
    function: Callable[Concatenate[nn.Module, nn.Module | None, D, P], R],
) -> Callable[Concatenate[nn.Module, nn.Module | None, D, P], R]:
    """Run ``function(model, teacher, prepared, ...)`` inside `call_layers` of the model."""

    @wraps(function)
    def called(
        model: nn.Module, teacher: nn.Module | None, prepared: D, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        with call_layers(model, prepared.example):
            return function(model, teacher, prepared, *args, **kwargs)

    return called


@contextmanager
def call_layers(model: nn.Module, example: Any) -> Iterator[None]:
    """``F.linear(x, self.w)`` and its like are submodules of ``model`` inside the block (`calls_as_layers`).

    Args:
        model: the model; behind the block it is as it was.
        example: an input of batch 1.

    Raises:
        TsdistillError: the forward fails.
    """

    def run() -> None:
        with evaluation_mode(model), torch.no_grad():
            forward(model, example)

    with calls_as_layers(model, run):
        find_settings(model, example)
        yield
