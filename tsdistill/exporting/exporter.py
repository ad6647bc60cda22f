"""``export``: a model written for other engines or as source, and compared with what was written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from tsdistill import plugins
from tsdistill.data import open_data
from tsdistill.data.text.text_spec import input_spec
from tsdistill.errors import TsdistillError
from tsdistill.exporting.export_inputs import Example
from tsdistill.exporting.exporter_protocol import KIND, Exporter, ExportJob, WrittenModel
from tsdistill.exporting.pretrained import NAME as WITHOUT_SUFFIX
from tsdistill.exporting.verification import Check, check
from tsdistill.files import atomic_files, atomic_folder
from tsdistill.models import example_input as example_of
from tsdistill.models.files.stored_weights import check_finite
from tsdistill.options.data_options import InputOptions
from tsdistill.options.option_fields import written
from tsdistill.output_paths import check_folder, check_place
from tsdistill.runtime.caches import without_cache
from tsdistill.runtime.forward import head
from tsdistill.runtime.modes import Inputs, first_line, plain_evaluation, training_restored
from tsdistill.runtime.nests import arguments_of
from tsdistill.runtime.unchanged import unchanged
from tsdistill.tracing.model_copy import deepcopy_model

_TRACED_BATCH = 2
"""Samples of the example that is exported when the batch is dynamic: the smallest batch that ``torch.export``
does not take for a constant (it specialises sizes of 0 and 1).
"""


@dataclass(frozen=True)
class Exported:
    """Files that were written, and how far they are from the module.

    Attributes:
        files: what was written, the file or folder that was asked for first.
        format: ``"ONNX"``, ``"torch.export"``, ``"TorchScript"``, ``"Python source"``, ``"transformers'
            folder"``, or that of a plugin.
        check: the comparison with the module; ``None`` where a plugin's format cannot be run on this machine.
        dynamic_batch: whether any batch size will do.
        opset: of an ONNX file, the version of its operators.
        needs: what running it takes.
    """

    files: tuple[Path, ...]
    format: str
    check: Check | None
    dynamic_batch: bool
    opset: int | None = None
    needs: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The file or folder that was asked for."""
        return self.files[0]

    @property
    def bytes(self) -> int:
        """Size of all files."""
        parts = (part for each in self.files for part in (each.rglob("*") if each.is_dir() else (each,)))
        return sum(part.stat().st_size for part in parts)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {
            "files": [str(file) for file in self.files],
            "bytes": self.bytes,
            "format": self.format,
            "dynamic_batch": self.dynamic_batch,
            "opset": self.opset,
            "needs": list(self.needs),
            "check": None if self.check is None else {**vars(self.check), "batches": [*self.check.batches]},
        }


@unchanged
def export(
    model: nn.Module,
    path: str | Path,
    *,
    example_input: Inputs | None = None,
    dynamic_batch: bool = True,
    opset: int | None = None,
    arch: str | None = None,
    data: Any = None,
) -> Exported:
    """Write ``model`` to ``path`` in the format that its suffix names, and compare the two.

    Args:
        model: any module; it is exported in evaluation mode, from the CPU, and left as it was.
        path: ``.onnx``, ``.pt2`` (``torch.export``), ``.ts`` (TorchScript), ``.py`` (Python source that
            builds the module again from its weights, written to a ``.safetensors`` beside it), or the suffix
            of a plugin's format. Without a suffix: the folder of ``save_pretrained`` of a model of
            transformers.
        example_input: a tensor, a tuple of arguments or a dict of keyword arguments, when the model does not
            say how its inputs look.
        dynamic_batch: let the first dimension vary. Without it the batch is that of the example input.
        opset: version of the ONNX operators; ``None``: PyTorch's default.
        arch: for source, the architecture of a model that does not know it.
        data: what ``tsdistill.open_data`` takes; their first sample is the example input (of text, a sequence
            of the length that the model was loaded with).

    Raises:
        TsdistillError: the format cannot hold the model, or what was written does not compute what the model
            computes. Nothing is left behind then.
    """
    path = check_export(path, opset=opset)
    exporter = _exporter_of(path)
    check_finite(model, "the model")
    if data is not None:
        example_input = _sample(model, data, example_input)
    if any(p.device.type != "cpu" for p in model.parameters()):
        model = deepcopy_model(model).to("cpu")
    example = Example.of(example_of(model, example_input))
    dynamic = dynamic_batch and example.can_grow
    if dynamic:
        example = example.resized(_TRACED_BATCH)
    comparison = None
    mode = plain_evaluation(model) if exporter.records else training_restored(model.modules())
    cacheless = without_cache(model) if exporter.records else nullcontext()
    with mode, cacheless, _destinations(exporter, path) as files:
        model.eval()
        result = _write(exporter, ExportJob(model, example, files, path, dynamic, opset, arch))
        if result.run is not None:
            comparison = check(
                model, result.run, example, dynamic=dynamic, by=result.engine, exact=exporter.exact
            )
    return Exported(
        exporter.files(path),
        exporter.format,
        comparison,
        dynamic or exporter.any_batch,
        result.opset,
        tuple(result.needs),
    )


def _sample(model: nn.Module, data: Any, stated: Inputs | None) -> Any:
    """The first sample of data, as a batch of one."""
    if stated is not None:
        raise TsdistillError(
            f"{written('data')} and {written('example_input')} both give an example; leave one out"
        )
    stream = open_data(data, input_spec(model, InputOptions()), arguments=arguments_of(model))
    return head(next(iter(stream))[0], 1)


def check_export(path: str | Path, *, opset: int | None = None) -> Path:
    """Refuse what `export` could not write, before any work is done.

    Raises:
        TsdistillError: an unknown suffix, a place that cannot be written to, packages that are missing, or a
            version of the ONNX operators that is out of range or goes with another format.
    """
    path = Path(path)
    exporter = _exporter_of(path)
    exporter.check(path, opset)
    if exporter.is_folder:
        return check_folder(path, empty=True)
    for file in exporter.files(path):
        check_place(file)
    return path


def files_of(path: str | Path) -> tuple[Path, ...]:
    """The files that `export` writes for ``path``; none for a folder."""
    exporter = _exporter_of(Path(path))
    return () if exporter.is_folder else exporter.files(Path(path))


def _exporter_of(path: Path) -> Exporter:
    exporters = plugins.items(KIND)
    name = path.suffix[1:].lower() or WITHOUT_SUFFIX
    if name not in exporters:
        known = ", ".join(
            f"{'none' if suffix == WITHOUT_SUFFIX else f'.{suffix}'} ({each.format})"
            for suffix, each in exporters.items()
        )
        raise TsdistillError(f"{path}: the suffix names the format, one of {known}")
    exporter: Exporter = exporters[name]
    return exporter


@contextmanager
def _destinations(exporter: Exporter, path: Path) -> Iterator[tuple[Path, ...]]:
    """Where the exporter writes; moved to ``path`` when the block ends well, ``path`` itself last."""
    if exporter.is_folder:
        with atomic_folder(path) as folder:
            yield (folder,)
        return
    with atomic_files(exporter.files(path)[::-1]) as files:
        yield files[::-1]


def _write(exporter: Exporter, job: ExportJob) -> WrittenModel:
    """Let the exporter write the model.

    Raises:
        TsdistillError: what it raises, by its first cause.
    """
    try:
        result = exporter.write(job)
    except (TsdistillError, OSError):
        raise
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = first_line(cause)
        if "data-dependent" in reason:
            reason += "; its forward goes by the values of its inputs, which no fixed program does"
        elif job.dynamic_batch and exporter.records:
            reason += f"; perhaps {written('dynamic_batch', False)} helps"
        raise TsdistillError(f"{exporter.format} cannot take this model: {reason}") from error
    if not isinstance(result, WrittenModel):
        raise TsdistillError(
            f"the exporter of {exporter.format} returns {type(result).__name__}, not a WrittenModel"
        )
    return result
