"""Data sets by name: torchvision's small ones and whatever timm reads."""

from __future__ import annotations

import contextlib
import gzip
import io
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from tsdistill.errors import TsdistillError, cause_of
from tsdistill.models.info import InputSpec
from tsdistill.untrusted import check_regular, read_guard

_MNIST = {
    "fashion-mnist": (
        "FashionMNIST",
        " (Debian's package dataset-fashion-mnist puts them in /usr/share/datasets)",
    ),
    "mnist": ("MNIST", ""),
    "kmnist": ("KMNIST", ""),
}
_CIFAR = {"cifar10": ("CIFAR10", "cifar-10-batches-py"), "cifar100": ("CIFAR100", "cifar-100-python")}
NAMES = (*_MNIST, *_CIFAR)
TIMM_NAMES = ("torch", "hfds", "hfids", "tfds", "wds")
_SPLITS = {
    "train": "train", "training": "train",
    "test": "test", "validation": "test", "val": "test", "valid": "test", "eval": "test",
}  # fmt: skip


def split_options(argument: str) -> tuple[str, dict[str, str]]:
    """``"DIR,split=train"`` as ``("DIR", {"split": "train"})``: trailing ``,key=value`` are options."""
    options: dict[str, str] = {}
    while match := re.fullmatch(r"(.*),([A-Za-z_]\w*)=([^,]*)", argument, re.DOTALL):
        argument = match[1]
        options.setdefault(match[2], match[3])
    return argument, options


def for_training(data: Any) -> Any:
    """A specification that names a data set with splits, with the one that models are trained on unless it
    says one; anything else as it is."""
    if not isinstance(data, str) or Path(data).expanduser().exists():
        return data
    known = re.match(r"([\w-]+)[:/]", data)
    if known is None or known[1] not in (*NAMES, *TIMM_NAMES) or "split" in split_options(data)[1]:
        return data
    return f"{data},split=train"


def torchvision_dataset(name: str, argument: str) -> Dataset:
    """``DIR[,split=train]`` of one of ``NAMES``: PIL images and their classes, the test part unless ``split``
    says otherwise.

    Nothing is downloaded.

    Raises:
        TsdistillError: the data are not where they were looked for, or the split is unknown.
    """
    folder, options = split_options(argument)
    wanted = options.pop("split", "test")
    split = _SPLITS.get(wanted)
    if options or split is None:
        wrong = f"option {next(iter(options))!r}" if options else f"split {wanted!r}"
        raise TsdistillError(f"{name} has no {wrong}; write {name}:DIR[,split=train|test]")
    if not folder:
        raise TsdistillError(f"{name} needs its folder: {name}:DIR")
    if name in _MNIST:
        class_name, hint = _MNIST[name]
        return IdxImages(folder, class_name, split, hint)
    return _cifar(name, Path(folder).expanduser(), split)


def _cifar(name: str, folder: Path, split: str) -> Dataset:
    import torchvision

    class_name, inside = _CIFAR[name]
    root = folder.parent if folder.name == inside else folder
    try:
        dataset = getattr(torchvision.datasets, class_name)(
            root=str(root), train=split == "train", download=False
        )
    except (RuntimeError, OSError) as error:
        raise TsdistillError(
            f"no intact {class_name} in {root / inside}; give the folder that holds torchvision's {inside}"
        ) from error
    dataset.description = f"{class_name} {split} images in {root / inside}"
    dataset.labelled = True
    return dataset


def timm_dataset(name: str, spec: InputSpec) -> Dataset:
    """What ``timm.data.create_dataset`` makes of ``NAME[:ROOT][,split=...,key=value...]``.

    The split is ``validation`` unless ``split`` says otherwise. Nothing is downloaded for ``torch/`` names
    without ``download=true``; Hugging Face's and TensorFlow's names are found or fetched by their libraries.

    Raises:
        TsdistillError: the data are not there, the name is unknown or a library is missing.
    """
    from timm.data import create_dataset

    rest, options = split_options(name)
    bare, _, root = rest.partition(":")
    keywords: dict[str, Any] = {key: _value(text) for key, text in options.items()}
    keywords.setdefault("split", "validation")
    mode = "L" if len(spec.size) == 3 and spec.size[0] == 1 else "RGB"
    place = str(Path(root).expanduser()) if root else None
    known = "torch/cifar10:DIR, hfds/OWNER/NAME, wds/NAME:DIR"
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            dataset = create_dataset(bare, root=place, input_img_mode=mode, **keywords)
    except ImportError as error:
        cause = printed.getvalue().strip() or error
        raise TsdistillError(f"the data {bare} need another package: {cause}") from error
    except AssertionError as error:
        raise TsdistillError(
            f"timm does not read the data {bare}: {cause_of(error)}; names look like {known}"
        ) from error
    except Exception as error:  # timm's readers raise whatever their libraries do
        where = f" in {place}" if place else ""
        raise TsdistillError(
            f"cannot open the data {bare}{where}: {cause_of(error)}; names look like {known}"
        ) from error
    described: Any = dataset
    described.description = f"{bare} {keywords['split']} images" + (f" in {place}" if place else "")
    return dataset


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    return int(text) if re.fullmatch(r"-?\d+", text) else text


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
