"""``.py``: a Python file and its weights, which build the model again without tsdistill."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.exporting.exporter_protocol import Exporter, ExportJob, WrittenModel, quiet
from tsdistill.exporting.factory_source import Factory, factory
from tsdistill.exporting.python_source_text import Content, text
from tsdistill.models import info_of
from tsdistill.models.files import checkpoint, header
from tsdistill.models.files.checkpoint import SAFETENSORS
from tsdistill.models.files.save import save
from tsdistill.options.option_fields import written
from tsdistill.plugins import Register, hookimpl
from tsdistill.runtime.modes import first_line


class PythonSource(Exporter):
    """Python source that builds the model with torch and timm or torchvision alone, its weights beside it."""

    format = "Python source"
    records = False
    exact = True
    any_batch = True

    def files(self, path: Path) -> tuple[Path, ...]:
        """The source, and its weights beside it."""
        return path, path.with_suffix(SAFETENSORS)

    def check(self, path: Path, opset: int | None) -> None:
        """Refuse a file that could not be imported, and weights that are somebody else's.

        Args:
            path: where to.
            opset: has to be ``None``.

        Raises:
            TsdistillError: says which.
        """
        super().check(path, opset)
        if not path.stem.isidentifier():
            raise TsdistillError(f"{path}: a Python file is imported by its name; name it like a variable")
        _, weights = self.files(path)
        if weights.exists() and not path.exists():
            raise TsdistillError(f"{path}: its weights would replace {weights}, which is there; name another")

    def write(self, job: ExportJob) -> WrittenModel:
        """Write the source and the tensors.

        Raises:
            TsdistillError: nothing says how the architecture is built, or the file does not build the model.
        """
        model, example, arch, final = job.model, job.example, job.arch, job.path
        path, weights = job.files
        if arch is None and info_of(model).arch is None:
            raise TsdistillError(
                f"{final}: nothing says how to build this {type(model).__name__}; give "
                f"{written('arch', 'file.py:factory')} or {written('arch', 'package.module:factory')}, "
                "or write .pt2 or .onnx"
            )
        save(model, weights, arch=arch)
        stored = header.parse(checkpoint.read(weights, trust=False).header, weights)
        made_by = factory(str(stored.info.arch))
        if made_by.own_code and made_by.package.partition(".")[0] == final.stem:
            raise TsdistillError(
                f"{final}: the model's own code is in a module of that name already; name the file otherwise"
            )
        content = Content(
            made_by,
            stored,
            example.resized(1) if example.can_grow else example,
            sum(p.numel() for p in model.parameters()),
            any(isinstance(module, nn.MultiheadAttention) for module in model.modules()),
        )
        names = _executed(text(content, final), path, final, made_by)
        drawn = names["sample"]()
        with torch.no_grad():
            output = model(**drawn) if isinstance(drawn, dict) else model(*drawn)
        names = _executed(text(content, final, names["outputs"](output)), path, final, made_by)
        with _running(made_by), torch.random.fork_rng(devices=[]):
            rebuilt: nn.Module = names["build"](weights)
        _check_tensors(model, rebuilt)
        return WrittenModel(rebuilt, needs=("torch", "safetensors", made_by.package))


def _executed(source: str, path: Path, final: Path, made_by: Factory) -> dict[str, Any]:
    """Write ``source`` to ``path``, and give the names that it defines as ``final``."""
    path.write_text(source, encoding="utf-8")
    names: dict[str, Any] = {"__name__": final.stem, "__file__": str(final)}
    with _running(made_by):
        exec(compile(source, str(final), "exec"), names)
    return names


@contextmanager
def _running(made_by: Factory) -> Iterator[None]:
    """The context of the written code: the user's module can be imported, and failures are one line."""
    try:
        with _importable(made_by), quiet():
            yield
    except Exception as error:
        raise TsdistillError(
            f"the Python file that was written does not build the model: {first_line(error)}"
        ) from error


@contextmanager
def _importable(made_by: Factory) -> Iterator[None]:
    """Let the user's code be imported by its name; afterwards all is as it was."""
    if made_by.folder is None:
        yield
        return
    before = {made_by.package: sys.modules.pop(made_by.package, None)}
    sys.path.insert(0, str(made_by.folder))
    try:
        yield
    finally:
        sys.path.remove(str(made_by.folder))
        sys.modules.pop(made_by.package, None)
        sys.modules.update({name: module for name, module in before.items() if module is not None})


def _check_tensors(model: nn.Module, rebuilt: nn.Module) -> None:
    tensors, rebuilt_tensors = model.state_dict(), rebuilt.state_dict()
    for name, tensor in tensors.items():
        if isinstance(tensor, torch.Tensor) and not torch.equal(tensor, rebuilt_tensors[name]):
            raise TsdistillError(f"the Python file that was written gives other values to {name}")


@hookimpl
def register_exporters(register: Register) -> None:
    """Register the exporter to Python source."""
    register("py", PythonSource())
