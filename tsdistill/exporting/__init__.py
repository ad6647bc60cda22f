"""Models for those who do not have tsdistill: ONNX, ``torch.export``, TorchScript, Python source, and the
formats of plugins."""

from tsdistill.exporting.exporter import Exported, export
from tsdistill.exporting.verification import Check

__all__ = ["Check", "Exported", "export"]
