"""``.pt2``: a program of ``torch.export``, which runs with torch alone."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import fx, nn

from tsdistill.exporting.export_inputs import Example
from tsdistill.exporting.exporter_protocol import Exporter, ExportJob, WrittenModel, quiet
from tsdistill.plugins import Register, hookimpl
from tsdistill.torch_private import buffers_of, children_of, parameters_of


class TorchExport(Exporter):
    """A program of ``torch.export``, for torch alone; AOTInductor compiles it."""

    format = "torch.export"

    def write(self, job: ExportJob) -> WrittenModel:
        """Export the model."""
        example = job.example
        with quiet():
            program = torch.export.export(
                with_prefix(job.model),
                example.args,
                dict(example.kwargs),
                dynamic_shapes=shapes(example, job.dynamic_batch),
            )
            with open(job.files[0], "wb") as file:
                torch.export.save(program, file)
            return WrittenModel(torch.export.load(job.files[0]).module())


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


@hookimpl
def register_exporters(register: Register) -> None:
    """Register the exporter to ``torch.export``."""
    register("pt2", TorchExport())
