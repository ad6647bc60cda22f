"""``export``: a model written for other engines or as source, and compared with what was written."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.exporting import onnx_graph, pretrained, python_source, torch_export, torchscript
from tsdistill.exporting.export_inputs import Example
from tsdistill.exporting.exported import Exported
from tsdistill.exporting.verification import check
from tsdistill.files import atomic_file, atomic_files, atomic_folder, check_new_folder, check_place
from tsdistill.models import example_input as example_of
from tsdistill.models.files.checkpoint import SAFETENSORS
from tsdistill.models.files.stored_weights import check_finite
from tsdistill.options.option_fields import written
from tsdistill.runtime.modes import Inputs, plain_evaluation, training_restored
from tsdistill.runtime.unchanged import unchanged
from tsdistill.tracing.model_copy import deepcopy_model

ONNX, PROGRAM, SCRIPT, SOURCE, FOLDER = ".onnx", ".pt2", ".ts", ".py", ""
SUFFIXES = {
    ONNX: "ONNX",
    PROGRAM: "torch.export",
    SCRIPT: "TorchScript",
    SOURCE: "Python source",
    FOLDER: "transformers' folder",
}

_TRACED_BATCH = 2
"""Samples of the example that is exported when the batch is dynamic: the smallest batch that ``torch.export``
does not take for a constant (it specialises sizes of 0 and 1).
"""


@unchanged
def export(
    model: nn.Module,
    path: str | Path,
    *,
    example_input: Inputs | None = None,
    dynamic_batch: bool = True,
    opset: int | None = None,
    arch: str | None = None,
) -> Exported:
    """Write ``model`` to ``path`` in the format that its suffix names, and compare the two.

    Args:
        model: any module; it is exported in evaluation mode, from the CPU, and left as it was.
        path: ``.onnx``, ``.pt2`` (``torch.export``), ``.ts`` (TorchScript) or ``.py``: Python source that
            builds the module again from its weights, written to a ``.safetensors`` beside it. Without a
            suffix: the folder of ``save_pretrained`` of a model of transformers.
        example_input: a tensor, a tuple of arguments or a dict of keyword arguments, when the model does not
            say how its inputs look.
        dynamic_batch: let the first dimension vary. Without it the batch is that of the example input.
        opset: version of the ONNX operators; ``None``: PyTorch's default.
        arch: for source, the architecture of a model that does not know it.

    Raises:
        TsdistillError: the format cannot hold the model, or what was written does not compute what the model
            computes. Nothing is left behind then.
    """
    path = check_export(path, opset=opset)
    check_finite(model, "the model")
    if any(p.device.type != "cpu" for p in model.parameters()):
        model = deepcopy_model(model).to("cpu")
    example = Example.of(example_of(model, example_input))
    dynamic = dynamic_batch and example.can_grow
    if dynamic:
        example = example.resized(_TRACED_BATCH)
    if path.suffix.lower() == SOURCE or path.suffix == FOLDER:
        with training_restored(model.modules()):  # with the kernels that a user's process takes
            model.eval()
            if path.suffix == FOLDER:
                return _folder(model, path, example, dynamic)
            return _source(model, path, example, dynamic, arch)
    with plain_evaluation(model):
        return _program(model, path, example, dynamic, opset)


def check_export(path: str | Path, *, opset: int | None = None) -> Path:
    """Refuse what `export` could not write, before any work is done.

    Raises:
        TsdistillError: an unknown suffix, a place that cannot be written to, packages that are missing, or a
            version of the ONNX operators that is out of range or goes with another format.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        known = ", ".join(f"{end or 'none'} ({name})" for end, name in SUFFIXES.items())
        raise TsdistillError(f"{path}: the suffix names the format, one of {known}")
    if suffix == ONNX:
        onnx_graph.check_installed()
        onnx_graph.check_opset(opset)
    elif opset is not None:
        raise TsdistillError(f"{written('opset')} goes with .onnx, not with {path}; leave it out")
    if suffix == SOURCE and not path.stem.isidentifier():
        raise TsdistillError(f"{path}: a Python file is imported by its name; name it like a variable")
    if suffix == FOLDER:
        return check_new_folder(path)
    main, *others = files_of(path)
    check_place(main)
    for file in others:
        if file.exists() and not path.exists():
            raise TsdistillError(f"{path}: its weights would replace {file}, which is there; name another")
        check_place(file)
    return path


def files_of(path: str | Path) -> tuple[Path, ...]:
    """The files that `export` writes for ``path``: itself and, for source, its weights; none for a folder."""
    path = Path(path)
    if path.suffix == FOLDER:
        return ()
    return (path, path.with_suffix(SAFETENSORS)) if path.suffix.lower() == SOURCE else (path,)


def _program(model: nn.Module, path: Path, example: Example, dynamic: bool, opset: int | None) -> Exported:
    suffix = path.suffix.lower()
    version = None
    with atomic_file(path) as temporary:
        if suffix == ONNX:
            version = onnx_graph.write(model, example, temporary, dynamic=dynamic, opset=opset)
            run, by, needs = onnx_graph.reader(temporary), onnx_graph.engine(), ("an ONNX runtime",)
        else:
            form = torch_export if suffix == PROGRAM else torchscript
            form.write(model, example, temporary, dynamic=dynamic)
            run, by, needs = form.reader(temporary), _torch(), ("torch",)
        comparison = check(model, run, example, dynamic=dynamic, by=by)
    return Exported((path,), SUFFIXES[suffix], comparison, dynamic, version, needs)


def _source(model: nn.Module, path: Path, example: Example, dynamic: bool, arch: str | None) -> Exported:
    _, weights = files_of(path)
    with atomic_files((weights, path)) as (tensors, temporary):
        written = python_source.write(model, example, temporary, path, tensors, arch)
        comparison = check(model, written.run, example, dynamic=dynamic, by=_torch(), exact=True)
    return Exported((path, weights), SUFFIXES[SOURCE], comparison, True, needs=written.needs)


def _folder(model: nn.Module, path: Path, example: Example, dynamic: bool) -> Exported:
    with atomic_folder(path) as temporary:
        pretrained.write(model, temporary, path)
        run, by = pretrained.reader(model, temporary), pretrained.engine()
        comparison = check(model, run, example, dynamic=dynamic, by=by)
    return Exported((path,), SUFFIXES[FOLDER], comparison, dynamic, needs=("transformers",))


def _torch() -> str:
    return f"torch {torch.__version__}"
