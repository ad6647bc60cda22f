"""IDX files, plain or gzipped, of MNIST and the data sets in its format."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from tsdistill.errors import TsdistillError
from tsdistill.untrusted import check_regular, read_guard

_PREFIX = {"train": "train", "test": "t10k"}
_MOST_DEFLATED = 1032
"""Times that a gzipped file grows at most: the bound of the deflate format."""

_MAX_DIMENSIONS = 32
"""Dimensions of an array: the limit of NumPy before version 2."""

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
"""NumPy's big-endian types by the third byte of an IDX file, as the format defines them."""


def read_idx(path: str | Path) -> np.ndarray:
    """The array in an IDX file (http://yann.lecun.com/exdb/mnist), gzipped when the name ends in ``.gz``.

    Raises:
        TsdistillError: the file is missing, truncated or no IDX file.
    """
    path = Path(path)
    check_regular(path)
    with read_guard(path, "fetch the file again"):
        compressed = path.suffix == ".gz"
        most = path.stat().st_size * (_MOST_DEFLATED if compressed else 1)
        with gzip.open(path) if compressed else path.open("rb") as file:
            head = file.read(4)
            if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _TYPES:
                raise TsdistillError(
                    f"{path} is not an IDX file; give the files as MNIST names and lays them"
                )
            sizes = file.read(4 * head[3])
            shape = tuple(int(n) for n in np.frombuffer(sizes, ">u4", count=len(sizes) // 4))
            dtype = np.dtype(_TYPES[head[2]])
            claimed = math.prod(shape) * dtype.itemsize
            raw = file.read(claimed + 1) if claimed <= most else b""
    if len(shape) != head[3] or head[3] > _MAX_DIMENSIONS or len(raw) != claimed:
        raise TsdistillError(
            f"{path} is truncated: it says shape {str(shape)[:80]} but does not hold as much; fetch it again"
        )
    return np.frombuffer(raw, dtype).reshape(shape)


class IdxImages(Dataset):
    """Labelled grey images of MNIST, Fashion-MNIST or KMNIST.

    Args:
        folder: holds the four IDX files, or torchvision's layout (``<class_name>/raw``) of them.
        class_name: torchvision's name of the data set, such as ``"FashionMNIST"``.
        split: ``"train"`` or ``"test"``.
        hint: where such data come from, for the message when there are none.

    Raises:
        TsdistillError: the files are not there, truncated or do not belong together.
    """

    synthetic = False
    labelled = True

    def __init__(self, folder: str | Path, class_name: str, split: str, hint: str = "") -> None:
        root = Path(folder).expanduser()
        places = (root, root / class_name / "raw", root / "raw")
        stems = [f"{_PREFIX[split]}-images-idx3-ubyte", f"{_PREFIX[split]}-labels-idx1-ubyte"]
        paths = next((p for place in places if (p := [_find(place, stem) for stem in stems])[0]), None)
        if paths is None or None in paths:
            looked = ", ".join(str(place) for place in places)
            raise TsdistillError(
                f"no {class_name} files ({stems[0]}[.gz], {stems[1]}[.gz]) in {looked}{hint}"
            )
        self.images, self.labels = (read_idx(path) for path in paths if path)
        if self.images.ndim != 3 or self.labels.shape != self.images.shape[:1]:
            raise TsdistillError(
                f"{paths[0]} has shape {self.images.shape} but {paths[1]} has {self.labels.shape};"
                " give files that belong together"
            )
        self.description = f"{class_name} {split} images in {paths[0].parent if paths[0] else root}"

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """The grey PIL image and its class."""
        from PIL import Image

        return Image.fromarray(np.ascontiguousarray(self.images[index])), int(self.labels[index])


def _find(folder: Path, stem: str) -> Path | None:
    candidates = (folder / name for name in (stem, f"{stem}.gz", stem.replace("-idx", ".idx")))
    return next((path for path in candidates if path.is_file()), None)
