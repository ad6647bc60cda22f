"""Samples in memory or in NumPy files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from tsdistill.data.numpy_files import names_in, native, read_npy, read_npz
from tsdistill.data.transforms import is_image, normalise
from tsdistill.errors import TsdistillError
from tsdistill.models.info import InputSpec
from tsdistill.options.option_fields import written
from tsdistill.untrusted import read_guard


class ArraySamples(Dataset):
    """Rows of an array.

    Rows whose shape is ``spec.size`` are used as they are; 8-bit images, channels first or last or grey
    without a channel dimension, are scaled to [0, 1] and normalised, grey ones repeated and colour ones
    averaged where the model reads another number of channels. Without a specification every row is used as it
    is.

    Args:
        x: ``(samples, ...)``, a tensor or an array (which may be mapped from a file).
        y: ``(samples,)`` labels, or ``None``.
        spec: how inputs look, or ``None``.
        name: how messages call the array.

    Raises:
        TsdistillError: shapes do not fit (the message has both), there are no samples, or values are not
            numbers.
    """

    synthetic = False

    def __init__(self, x: Any, y: Any = None, spec: InputSpec | None = None, name: str = "the data") -> None:
        self.x, self.y, self.spec, self.name = x, y, spec, name
        shape = tuple(int(n) for n in x.shape)
        if not shape or not shape[0]:
            raise TsdistillError(f"{name} has no samples (shape {shape}); give an array of (samples, ...)")
        if isinstance(x, np.ndarray) and x.dtype.kind not in "biuf":
            raise TsdistillError(f"{name} holds {x.dtype}, not numbers; give floating values or 8-bit images")
        if isinstance(x, np.ndarray):
            with read_guard(name, "give floating values or 8-bit images"):
                torch.from_numpy(np.empty(0, x.dtype.newbyteorder("=")))
        if y is not None and (not len(y.shape) or y.shape[0] != shape[0]):
            raise TsdistillError(f"{name} has {shape[0]} samples but labels of shape {tuple(y.shape)}")
        self._pixels = x.dtype in (torch.uint8, np.dtype(np.uint8)) and spec is not None and is_image(spec)
        self._layout = self._find_layout(shape[1:])
        self.labelled = y is not None
        self.pictures = self._pixels
        used = "8-bit images, scaled to [0, 1] and normalised" if self._pixels else "used as they are"
        self.description = f"samples of {name} ({used})"

    def _find_layout(self, shape: tuple[int, ...]) -> str:
        """How a row is laid out: ``"same"``, ``"chw"``, ``"hwc"`` or ``"hw"``."""
        if self.spec is None:
            return "same"
        size = tuple(self.spec.size)
        if self._pixels:
            area = size[1:]
            if len(shape) == 3 and shape[1:] == area and shape[0] in (1, 3, size[0]):
                return "chw"
            if len(shape) == 3 and shape[:2] == area and shape[2] in (1, 3, size[0]):
                return "hwc"
            if shape == area:
                return "hw"
        elif shape == size:
            return "same"
        elif is_image(self.spec) and size[0] == 1 and shape == size[1:]:
            return "hw"
        hint = f"reshape the samples, or say what the model reads with {written('input_size')}"
        raise TsdistillError(f"{self.name} has samples of shape {shape} but the model reads {size}; {hint}")

    def __len__(self) -> int:
        return int(self.x.shape[0])

    def take(self, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What the samples of these numbers are when they are stacked, read at once where rows need nothing
        done to them."""
        if self.spec is None or self._pixels or self._layout == "hwc":
            rows = [self[index] for index in indices]
            labels = [y for _, y in rows if y is not None]
            return torch.stack([x for x, _ in rows]), torch.stack(labels) if labels else None
        x = _on_cpu(self.x[indices]).float()
        return x[:, None] if self._layout == "hw" else x, None if self.y is None else _label(self.y[indices])

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Sample ``index`` as a float tensor (integers stay integers without a specification), and its
        label."""
        row = _on_cpu(self.x[index])
        y = None if self.y is None else _label(self.y[index])
        if self.spec is None:
            return row, y
        row = row.float()
        if self._layout == "hw":
            row = row[None]
        elif self._layout == "hwc":
            row = row.permute(2, 0, 1)
        if not self._pixels:
            return row, y
        channels = self.spec.size[0]
        if row.shape[0] == 1 and channels != 1:
            row = row.expand(channels, -1, -1)
        elif row.shape[0] == 3 and channels == 1:
            row = (row * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0, keepdim=True)
        elif row.shape[0] != channels:
            raise TsdistillError(f"{self.name} has {row.shape[0]} channels but the model reads {channels}")
        return normalise(row / 255, self.spec), y


def _on_cpu(values: Any) -> torch.Tensor:
    """A tensor of rows, or of one."""
    if isinstance(values, torch.Tensor):
        return values.detach().cpu()
    return torch.from_numpy(np.array(native(values)))


def _label(value: Any) -> torch.Tensor:
    label = torch.as_tensor(value)
    return label.long() if not label.is_floating_point() else label


def read_arrays(path: str | Path, spec: InputSpec | None = None) -> ArraySamples:
    """The samples in an ``.npz`` (arrays ``x`` and, with labels, ``y``) or an ``.npy`` file; nothing is
    unpickled.

    Raises:
        TsdistillError: the file is missing, truncated, holds objects or no array ``x``, or shapes do not fit.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise TsdistillError(f"there is no file {path}")
    if path.suffix.lower() == ".npy":
        return ArraySamples(read_npy(path), None, spec, str(path))
    arrays = read_npz(path, ("x", "y"))
    if "x" not in arrays:
        held = ", ".join(names_in(path)) or "nothing"
        raise TsdistillError(
            f"{path} has no array named x (it holds {held}); save it with np.savez(path, x=...)"
        )
    x, y = arrays["x"], arrays.get("y")
    if y is not None:
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y.dtype.kind not in "biuf":
            raise TsdistillError(
                f"the labels y in {path} are {y.dtype}, not numbers; number the classes from 0"
            )
    return ArraySamples(x, y, spec, str(path))
