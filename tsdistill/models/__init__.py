"""Models in and out: catalogs, checkpoints, recognition of bare weights, and our own files."""

from tsdistill.models.files.save import check_output, save
from tsdistill.models.info import Attribute, InputSpec, ModelInfo, attach
from tsdistill.models.input_spec import example_input
from tsdistill.models.loader import load
from tsdistill.models.origin import info_of
from tsdistill.models.sources.specs import Built, ModelSource
from tsdistill.models.widths import sync_widths

__all__ = [
    "Attribute",
    "Built",
    "InputSpec",
    "ModelInfo",
    "ModelSource",
    "attach",
    "check_output",
    "example_input",
    "info_of",
    "load",
    "save",
    "sync_widths",
]
