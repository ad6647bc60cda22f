"""``.ts``: TorchScript, which runs with torch alone, in C++ as well."""

from __future__ import annotations

from typing import Any

import torch

from tsdistill.exporting.exporter_protocol import Exporter, ExportJob, WrittenModel, quiet
from tsdistill.plugins import Register, hookimpl


class TorchScript(Exporter):
    """A trace of the forward, for torch alone, in C++ as well; the batch may vary unless the forward fixes
    it."""

    format = "TorchScript"

    def write(self, job: ExportJob) -> WrittenModel:
        """Trace the model."""
        inputs: dict[str, Any] = {"example_inputs": job.example.args}
        if job.example.kwargs:
            inputs = {"example_kwarg_inputs": dict(job.example.kwargs)}
        with quiet(), torch.no_grad():
            with open(job.files[0], "wb") as file:
                torch.jit.save(torch.jit.trace(job.model, check_trace=False, strict=False, **inputs), file)
            script = torch.jit.load(job.files[0], map_location="cpu")

        def run(*args: Any, **kwargs: Any) -> Any:
            with quiet():
                return script(*args, **kwargs)

        return WrittenModel(run)


@hookimpl
def register_exporters(register: Register) -> None:
    """Register the exporter to TorchScript."""
    register("ts", TorchScript())
