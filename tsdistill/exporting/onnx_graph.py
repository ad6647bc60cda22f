"""``.onnx``: a graph for onnxruntime and every other engine that reads ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.exporting.export_inputs import Example
from tsdistill.exporting.silenced_output import quiet
from tsdistill.exporting.torch_export import export_error, shapes, with_prefix
from tsdistill.exporting.verification import Runner
from tsdistill.options.option_fields import written
from tsdistill.runtime.modes import first_line

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
OPSETS = range(18, 25)
"""Versions of the ONNX operators that PyTorch's exporter writes."""

MAX_BYTES = 2 * 10**9 - 2**20
"""Bytes of weights: a protocol buffer holds 2**31 bytes at most, and the graph itself takes some of them."""


def check_installed() -> None:
    """Refuse to begin without the packages that this format takes.

    Raises:
        TsdistillError: names those that are missing.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise TsdistillError(
            f"ONNX takes {', '.join(missing)}, not installed here: pip install 'tsdistill[export]'"
        )


def check_opset(opset: int | None) -> None:
    """Refuse a version of the operators that PyTorch's exporter does not write.

    Raises:
        TsdistillError: ``opset`` is outside the range.
    """
    if opset is not None and opset not in OPSETS:
        raise TsdistillError(
            f"{written('opset')} {opset}: ONNX operators of versions {OPSETS[0]} to {OPSETS[-1]} "
            "can be written; leave it out for PyTorch's default"
        )


def write(model: nn.Module, example: Example, path: Path, *, dynamic: bool, opset: int | None = None) -> int:
    """Export ``model`` to ``path``, weights within.

    Args:
        model: the module, in evaluation mode.
        example: an input, with which the forward is recorded.
        path: the file.
        dynamic: let the batch vary.
        opset: version of the ONNX operators; ``None``: PyTorch's default.

    Returns:
        The version of the operators in the file.

    Raises:
        TsdistillError: the exporter cannot take the model, it is too large for one file, or it does not come
            out in the version asked for.
    """
    import onnx

    size = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
    if size > MAX_BYTES:
        raise TsdistillError(
            f"the model takes {size / 1e9:.1f} GB, an ONNX file holds 2 GB; write .pt2 or halve its precision"
        )
    try:
        with quiet(), torch.no_grad():
            torch.onnx.export(
                with_prefix(model),
                example.args,
                path,
                kwargs=dict(example.kwargs) or None,
                dynamic_shapes=shapes(example, dynamic, "batch"),
                opset_version=opset,
                external_data=False,
                verbose=False,
            )
    except Exception as error:
        raise export_error("the ONNX exporter", error, dynamic) from error
    version = next(i.version for i in onnx.load(path, load_external_data=False).opset_import if not i.domain)
    if opset is not None and version != opset:
        raise TsdistillError(
            f"{written('opset')} {opset}: the model comes out in version {version} only; leave it "
            "out or take that"
        )
    return version


def engine() -> str:
    """Name and version of what runs graphs here."""
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__}"


def reader(path: Path) -> Runner:
    """What runs the graph in ``path``, on the CPU.

    Raises:
        TsdistillError: onnxruntime refuses it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise TsdistillError(
            f"{engine()} cannot run what came out ({first_line(error)}); export it in single "
            "precision, or to .pt2"
        ) from error
    names = [entry.name for entry in session.get_inputs()]

    def run(example: Example) -> Sequence[torch.Tensor]:
        values = example.kwargs or dict(zip(names, example.tensors, strict=True))
        feed = {name: values[name].numpy() for name in names}
        return [torch.from_numpy(value) for value in session.run(None, feed)]

    return run
