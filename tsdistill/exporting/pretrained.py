"""A folder of ``save_pretrained``: a model of transformers for those who have only that."""

from __future__ import annotations

from typing import Any

import torch

from tsdistill.errors import TsdistillError
from tsdistill.exporting.exporter_protocol import Exporter, ExportJob, WrittenModel, quiet
from tsdistill.models.sources.hf_config import save_pretrained
from tsdistill.models.sources.hf_inputs import is_transformers
from tsdistill.plugins import Register, hookimpl

NAME = "pretrained"
"""What the exporter is registered under, which serves paths without a suffix."""


class PretrainedFolder(Exporter):
    """The folder that ``from_pretrained`` of transformers reads (no suffix)."""

    format = "transformers' folder"
    is_folder = True
    records = False

    def write(self, job: ExportJob) -> WrittenModel:
        """Write configuration and weights.

        Raises:
            TsdistillError: it is no model of transformers, or no configuration of its family says the widths
                that it has.
        """
        if not is_transformers(job.model):
            raise TsdistillError(
                f"{job.path}: a folder is for models of transformers; name a file, .onnx, .pt2, .ts or .py"
            )
        import transformers

        architecture: Any = type(job.model)
        with quiet(), torch.random.fork_rng(devices=[]):
            save_pretrained(job.model, job.files[0], job.path)
            again = architecture.from_pretrained(job.files[0], local_files_only=True).eval()
        return WrittenModel(again, f"transformers {transformers.__version__}", ("transformers",))


@hookimpl
def register_exporters(register: Register) -> None:
    """Register the exporter to folders of transformers."""
    register(NAME, PretrainedFolder())
