"""``.ts``: TorchScript, which runs with torch alone, in C++ as well."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tsdistill.exporting.export_inputs import Example
from tsdistill.exporting.silenced_output import quiet
from tsdistill.exporting.torch_export import export_error
from tsdistill.exporting.verification import Runner
from tsdistill.runtime.modes import tensors_in


def write(model: nn.Module, example: Example, path: Path, *, dynamic: bool) -> None:
    """Trace ``model`` into ``path``. Sizes are traced too, so the batch may vary unless the forward fixes it.

    Args:
        model: the module, in evaluation mode.
        example: an input, with which the forward is recorded.
        path: the file.
        dynamic: has no effect: a traced batch may always vary.

    Raises:
        TsdistillError: the tracer cannot follow the forward.
    """
    keywords: dict[str, Any] = {"example_inputs": example.args}
    if example.kwargs:
        keywords = {"example_kwarg_inputs": dict(example.kwargs)}
    try:
        with quiet(), torch.no_grad():
            script = torch.jit.trace(model, check_trace=False, strict=False, **keywords)
            with open(path, "wb") as file:
                torch.jit.save(script, file)
    except Exception as error:
        raise export_error("TorchScript", error, False) from error


def reader(path: Path) -> Runner:
    """What runs the script in ``path``."""
    with quiet():
        script = torch.jit.load(path, map_location="cpu")

    def run(example: Example) -> Sequence[torch.Tensor]:
        with quiet():
            return tensors_in(script(*example.args, **example.kwargs))

    return run
