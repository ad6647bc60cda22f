"""Models for those who do not have tsdistill: ONNX, ``torch.export``, TorchScript, Python source."""

from tsdistill.exporting.exported import Exported
from tsdistill.exporting.exporter import export
from tsdistill.exporting.verification import Check

__all__ = ["Check", "Exported", "export"]
