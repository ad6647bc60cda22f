"""``.onnx``: a graph for onnxruntime and every other engine that reads ONNX."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from tsdistill.errors import TsdistillError
from tsdistill.exporting.exporter_protocol import Exporter, ExportJob, WrittenModel, quiet
from tsdistill.exporting.torch_export import shapes, with_prefix
from tsdistill.options.option_fields import written
from tsdistill.plugins import Register, hookimpl
from tsdistill.runtime.modes import first_line
from tsdistill.runtime.nests import tensors

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
OPSETS = range(18, 25)
"""Versions of the ONNX operators that PyTorch's exporter writes."""

MAX_BYTES = 2 * 10**9 - 2**20
"""Bytes of weights: a protocol buffer holds 2**31 bytes at most, and the graph itself takes some of them."""


class OnnxGraph(Exporter):
    """ONNX, for onnxruntime and every other engine that reads it; takes the extra tsdistill[export]."""

    format = "ONNX"

    def check(self, path: Path, opset: int | None) -> None:  # noqa: ARG002
        """Refuse to begin without the packages that ONNX takes, or with operators that PyTorch cannot write.

        Args:
            path: where to.
            opset: version of the operators; ``None``: PyTorch's default.

        Raises:
            TsdistillError: names the packages that are missing, or the versions that can be written.
        """
        missing = [name for name in PACKAGES if find_spec(name) is None]
        if missing:
            raise TsdistillError(
                f"ONNX takes {', '.join(missing)}, not installed here: pip install 'tsdistill[export]'"
            )
        if opset is not None and opset not in OPSETS:
            raise TsdistillError(
                f"{written('opset')} {opset}: ONNX operators of versions {OPSETS[0]} to {OPSETS[-1]} "
                "can be written; leave it out for PyTorch's default"
            )

    def write(self, job: ExportJob) -> WrittenModel:
        """Export the model, weights within.

        Raises:
            TsdistillError: it is too large for one file, onnxruntime refuses the graph, or it does not come
                out in the version of the operators that was asked for.
        """
        import onnx

        model, example, (path,) = job.model, job.example, job.files
        size = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
        if size > MAX_BYTES:
            raise TsdistillError(
                f"the model takes {size / 1e9:.1f} GB, an ONNX file holds 2 GB; write .pt2 or halve its "
                "precision"
            )
        with quiet(), torch.no_grad():
            torch.onnx.export(
                with_prefix(model),
                example.args,
                path,
                kwargs=dict(example.kwargs) or None,
                dynamic_shapes=shapes(example, job.dynamic_batch, "batch"),
                opset_version=job.opset,
                external_data=False,
                verbose=False,
            )
        opsets = onnx.load(path, load_external_data=False).opset_import
        version = next(entry.version for entry in opsets if not entry.domain)
        if job.opset is not None and version != job.opset:
            raise TsdistillError(
                f"{written('opset')} {job.opset}: the model comes out in version {version} only; leave it "
                "out or take that"
            )
        return _runnable(path, version)


def _runnable(path: Path, opset: int) -> WrittenModel:
    """The graph in ``path`` in onnxruntime, on the CPU.

    Raises:
        TsdistillError: onnxruntime refuses it.
    """
    import onnxruntime

    engine = f"onnxruntime {onnxruntime.__version__}"
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise TsdistillError(
            f"{engine} cannot run what came out ({first_line(error)}); export it in single precision, or to "
            ".pt2"
        ) from error
    names = [entry.name for entry in session.get_inputs()]

    def run(*args: Any, **kwargs: Any) -> list[torch.Tensor]:
        values = kwargs or dict(zip(names, tensors(args), strict=True))
        feed = {name: values[name].numpy() for name in names}
        return [torch.from_numpy(value) for value in session.run(None, feed)]

    return WrittenModel(run, engine, ("an ONNX runtime",), opset)


@hookimpl
def register_exporters(register: Register) -> None:
    """Register the exporter to ONNX."""
    register("onnx", OnnxGraph())
