"""``.py``: a Python file and its weights, which build the model again without tsdistill."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.exporting.export_inputs import Example
from tsdistill.exporting.factory_source import Factory, factory
from tsdistill.exporting.python_source_text import Content, text
from tsdistill.exporting.silenced_output import quiet
from tsdistill.exporting.verification import Runner
from tsdistill.models import info_of
from tsdistill.models.files import checkpoint, header
from tsdistill.models.files.save import save
from tsdistill.options.option_fields import written
from tsdistill.runtime.modes import first_line, tensors_in


@dataclass(frozen=True)
class Written:
    """The model that the file builds.

    Attributes:
        run: runs it.
        needs: what the file imports.
    """

    run: Runner
    needs: tuple[str, ...]


def write(
    model: nn.Module, example: Example, path: Path, final: Path, weights: Path, arch: str | None
) -> Written:
    """Write ``model`` as source to ``path`` and its tensors to ``weights``.

    Args:
        model: what is written.
        example: an input.
        path: where the file is written for now.
        final: where it will be; its weights lie beside it.
        weights: where the tensors are written for now, ``.safetensors``.
        arch: its architecture, when the model does not know it.

    Raises:
        TsdistillError: nothing says how the architecture is built, or the file does not run.
    """
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
    names = _run(text(content, final), path, final, made_by)
    drawn = names["sample"]()
    with torch.no_grad():
        output = model(**drawn) if isinstance(drawn, dict) else model(*drawn)
    names = _run(text(content, final, names["outputs"](output)), path, final, made_by)
    rebuilt = _built(names, weights, made_by)
    _check_tensors(model, rebuilt)

    def run(example: Example) -> Sequence[torch.Tensor]:
        return tensors_in(rebuilt(*example.args, **example.kwargs))

    return Written(run, ("torch", "safetensors", made_by.package))


def _run(source: str, path: Path, final: Path, made_by: Factory) -> dict[str, Any]:
    """Write ``source`` to ``path`` and give the names that it defines."""
    path.write_text(source, encoding="utf-8")
    names: dict[str, Any] = {"__name__": final.stem, "__file__": str(final)}
    try:
        with _importable(made_by), quiet():
            exec(compile(source, str(final), "exec"), names)
    except Exception as error:
        raise _build_error(error) from error
    return names


def _built(names: dict[str, Any], weights: Path, made_by: Factory) -> nn.Module:
    try:
        with _importable(made_by), torch.random.fork_rng(devices=[]), quiet():
            model: nn.Module = names["build"](weights)
    except Exception as error:
        raise _build_error(error) from error
    return model


def _build_error(error: Exception) -> TsdistillError:
    return TsdistillError(f"the Python file that was written does not build the model: {first_line(error)}")


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
