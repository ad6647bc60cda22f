"""The result of an export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsdistill.exporting.verification import Check


@dataclass(frozen=True)
class Exported:
    """Files that were written, and how far they are from the module.

    Attributes:
        files: what was written, the file or folder that was asked for first.
        format: ``"ONNX"``, ``"torch.export"``, ``"TorchScript"``, ``"Python source"`` or ``"transformers'
            folder"``.
        check: the comparison with the module.
        dynamic_batch: whether any batch size will do.
        opset: of an ONNX file, the version of its operators.
        needs: what running it takes.
    """

    files: tuple[Path, ...]
    format: str
    check: Check
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
            "check": {
                "by": self.check.by,
                "inputs": self.check.inputs,
                "batches": list(self.check.batches),
                "difference": self.check.difference,
                "largest": self.check.largest,
            },
        }
