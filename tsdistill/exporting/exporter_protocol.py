"""What an exporter is: it writes models in one format and runs what it has written."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.exporting.export_inputs import Example
from tsdistill.options.option_fields import written
from tsdistill.runtime.exclusive import exclusive

KIND = "exporter"


@dataclass(frozen=True)
class ExportJob:
    """A model that an exporter writes.

    Attributes:
        model: the module, in evaluation mode, on the CPU.
        example: arguments of its forward. Where the batch may vary it holds two samples: the smallest batch
            that ``torch.export`` does not take for a constant.
        files: where to write, in the order of `Exporter.files`. They are moved to their places once the
            comparison with the module has succeeded.
        path: the place of the first of them, for messages.
        dynamic_batch: whether the first dimension varies.
        opset: version of ONNX operators that was asked for.
        arch: specification of the architecture that was given, for a model that does not know its own.
    """

    model: nn.Module
    example: Example
    files: tuple[Path, ...]
    path: Path
    dynamic_batch: bool = True
    opset: int | None = None
    arch: str | None = None


@dataclass(frozen=True)
class WrittenModel:
    """What an exporter has written.

    Attributes:
        run: runs it: called with the arguments of the forward (tensors on the CPU), it returns the outputs, a
            tensor or any nest of tensors in the order of the module's. ``None``: it cannot be run on this
            machine, and is not compared with the module.
        engine: name and version of what ``run`` uses.
        needs: what running it takes, for people.
        opset: of an ONNX file, the version of its operators.
    """

    run: Callable[..., Any] | None
    engine: str = f"torch {torch.__version__}"
    needs: tuple[str, ...] = ("torch",)
    opset: int | None = None


class Exporter:
    """Base of what ``register_exporters`` takes, under the suffix of its files without the dot.

    Attributes:
        format: name of the format for people.
        is_folder: whether it writes a folder; it is there, and empty, when `write` is called.
        records: whether a forward pass is recorded. The model then runs with plain operators in place of
            fused attention kernels, which recorders do not know.
        exact: whether what was written has to give the same bits as the module. Otherwise outputs may differ
            by 1e-4 of their largest value (1e-9 in double, 3e-2 in half precision).
        any_batch: whether the format takes any batch size, whatever was asked for.
    """

    format = ""
    is_folder = False
    records = True
    exact = False
    any_batch = False

    def files(self, path: Path) -> tuple[Path, ...]:
        """What `write` writes for ``path``, itself first."""
        return (path,)

    def check(self, path: Path, opset: int | None) -> None:
        """Refuse what cannot be written, before any work is done.

        Args:
            path: where to.
            opset: version of ONNX operators that was asked for.

        Raises:
            TsdistillError: packages are missing, or an option goes with another format.
        """
        if opset is not None:
            raise TsdistillError(f"{written('opset')} goes with .onnx, not with {path}; leave it out")

    def write(self, job: ExportJob) -> WrittenModel:
        """Write a model. What is raised becomes one line that names the format; nothing is left behind then.

        Args:
            job: the model, and where to write it.
        """
        raise NotImplementedError


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress what is printed, warned and logged in the block."""
    with exclusive():
        before = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        try:
            with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                warnings.simplefilter("ignore")
                yield
        finally:
            logging.disable(before)
