"""``.pt2``: a program of ``torch.export``, which runs with torch alone."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from tsdistill.errors import TsdistillError
from tsdistill.exporting.export_inputs import Example
from tsdistill.exporting.silenced_output import quiet
from tsdistill.exporting.verification import Runner
from tsdistill.options.option_fields import written
from tsdistill.runtime.modes import first_line, tensors_in
from tsdistill.torch_private import buffers_of, children_of, parameters_of


def write(model: nn.Module, example: Example, path: Path, *, dynamic: bool) -> None:
    """Export ``model`` to ``path``.

    Args:
        model: the module, in evaluation mode.
        example: an input, with which the forward is recorded.
        path: the file.
        dynamic: let the batch vary.

    Raises:
        TsdistillError: ``torch.export`` cannot follow the forward.
    """
    try:
        with quiet():
            program = torch.export.export(
                with_prefix(model),
                example.args,
                dict(example.kwargs),
                dynamic_shapes=shapes(example, dynamic),
            )
            with open(path, "wb") as file:
                torch.export.save(program, file)
    except Exception as error:
        raise export_error("torch.export", error, dynamic) from error


def reader(path: Path) -> Runner:
    """What runs the program in ``path``.

    Raises:
        TsdistillError: PyTorch does not read what it wrote.
    """
    try:
        with quiet():
            program: Any = torch.export.load(path).module()
    except Exception as error:
        raise export_error("torch.export", error, False) from error

    def run(example: Example) -> Sequence[torch.Tensor]:
        return tensors_in(program(*example.args, **example.kwargs))

    return run


def shapes(example: Example, dynamic: bool, name: Any = torch.export.Dim.DYNAMIC) -> Any:
    """The dimensions that may vary, in the form that exporters take.

    Args:
        example: the input; the first dimension of its batched tensors varies.
        dynamic: whether any dimension varies.
        name: what marks a dimension that varies.

    Returns:
        One entry for each argument; ``None`` when no dimension varies.
    """
    if not dynamic:
        return None
    marked = {
        key: {0: name} if example.batched(value) else None
        for key, value in (*enumerate(example.args), *example.kwargs.items())
    }
    return marked if example.kwargs else tuple(marked.values())


def export_error(exporter: str, error: Exception, dynamic: bool) -> TsdistillError:
    """The error for a model that an exporter cannot take.

    Args:
        exporter: its name.
        error: what it raised; the message has its first cause.
        dynamic: whether the batch was to vary, which is worth giving up.
    """
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    reason = first_line(cause)
    if "data-dependent" in reason:
        reason += "; its forward goes by the values of its inputs, which no fixed program does"
    elif dynamic:
        reason += f"; perhaps {written('dynamic_batch', False)} helps"
    return TsdistillError(f"{exporter} cannot take this model: {reason}")


class PrefixedModule(nn.Module):
    """A module inside another, so that all its names begin with ``model.``; its signature is the same."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

        @functools.wraps(model.forward)
        def forward(*args: Any, **kwargs: Any) -> Any:
            return model(*args, **kwargs)

        self.forward = forward
        self.train(model.training)


def with_prefix(model: nn.Module) -> nn.Module:
    """``model`` itself, or inside a `PrefixedModule` where it has a name that exporters cannot keep.

    ``torch.export`` and the ONNX exporter put what a model holds under its names into a
    ``torch.fx.GraphModule``, whose own attributes (``code``, ``graph``, ``meta``, ``recompile``, ...) win
    over them: the program is written and does not run.
    """
    taken, free = fx.GraphModule(nn.Module(), fx.Graph()), nn.Module()
    names = (*children_of(model), *parameters_of(model), *buffers_of(model))
    reserved = any(hasattr(taken, name) and not hasattr(free, name) for name in names)
    return PrefixedModule(model) if reserved else model
