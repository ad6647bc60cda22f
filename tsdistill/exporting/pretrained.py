"""A folder of ``save_pretrained``: a model of transformers for those who have only that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.exporting.export_inputs import Example
from tsdistill.exporting.silenced_output import quiet
from tsdistill.exporting.verification import Runner
from tsdistill.models.sources.hf_config import save_pretrained
from tsdistill.models.sources.hf_inputs import is_transformers
from tsdistill.runtime.modes import tensors_in


def write(model: nn.Module, folder: Path, final: Path) -> None:
    """Write configuration and weights into ``folder``.

    Args:
        model: what is written.
        folder: where it is written for now.
        final: what messages call it.

    Raises:
        TsdistillError: it is no model of transformers, or no configuration of its family says the widths that
            it has.
    """
    if not is_transformers(model):
        raise TsdistillError(
            f"{final}: a folder is for models of transformers; name a file, .onnx, .pt2, .ts or .py"
        )
    with quiet():
        save_pretrained(model, folder, final)


def reader(model: nn.Module, folder: Path) -> Runner:
    """What runs the model that ``from_pretrained`` of the class of ``model`` makes of ``folder``."""
    kind = type(model)
    with quiet(), torch.random.fork_rng(devices=[]):
        again: nn.Module = kind.from_pretrained(folder, local_files_only=True).eval()  # type: ignore[attr-defined]

    def run(example: Example) -> Sequence[torch.Tensor]:
        return tensors_in(again(*example.args, **example.kwargs))

    return run


def engine() -> str:
    """transformers with its version."""
    import transformers

    return f"transformers {transformers.__version__}"
