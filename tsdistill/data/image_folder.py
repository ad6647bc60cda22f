"""Folders of images, with or without a folder per class."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from tsdistill.errors import TsdistillError
from tsdistill.untrusted import check_regular, read_guard

# fmt: off
_SUFFIXES = frozenset({
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".avif",
})
# fmt: on
MAX_PIXELS = 89_478_485
"""Pixels of a picture: those of 256 MiB as RGB, Pillow's own limit for a warning."""

_HELD_OUT_FOLDERS = ("validation", "val", "valid", "test")


def _natural(text: str) -> list[tuple[int, int | str]]:
    """A sort key under which ``img10`` follows ``img9``."""
    return [
        (0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", text.lower()) if part
    ]


def _list_images(root: Path) -> list[Path]:
    paths, seen = [], set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [
            Path(folder, name)
            for name in files
            if Path(name).suffix.lower() in _SUFFIXES and not name.startswith(".")
        ]
    return sorted(paths, key=lambda path: _natural(str(path.relative_to(root))))


def _with_split(root: Path) -> Path:
    """The validation part of a folder that is divided into ``train`` and ``val``, else the folder itself."""
    if not (root / "train").is_dir():
        return root
    return next((root / name for name in _HELD_OUT_FOLDERS if (root / name).is_dir()), root)


class ImageFolder(Dataset):
    """The images below a folder, in natural order of their paths.

    When every image lies in a sub-folder and these are two or more, the name of the folder that holds an
    image is its class, and classes are numbered in natural order of their names (as timm does). Otherwise
    there are no labels. Of a folder with ``train`` beside ``validation``, ``val``, ``valid`` or ``test``, the
    latter is read.

    Raises:
        TsdistillError: the folder is missing, cannot be read or holds no image; a file cannot be decoded.
    """

    synthetic = False

    def __init__(self, folder: str | Path) -> None:
        root = Path(folder).expanduser()
        if not root.is_dir():
            raise TsdistillError(f"there is no folder {root}; give a folder of images")
        self.root = _with_split(root)
        self.paths = _list_images(self.root)
        if not self.paths:
            raise TsdistillError(
                f"no images in the folder {self.root}; give one with files of {', '.join(sorted(_SUFFIXES))}"
            )
        flat = any(path.parent == self.root for path in self.paths)
        names = sorted({path.parent.name for path in self.paths}, key=_natural)
        self.classes = [] if flat or len(names) < 2 else names
        self._number = {name: number for number, name in enumerate(self.classes)}
        self.labelled = bool(self.classes)
        labels = f"{len(self.classes)} class folders numbered by name" if self.classes else "no class folders"
        self.description = f"images in {self.root} ({labels})"

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Any, int | None]:
        """The decoded PIL image and its class, ``None`` without class folders."""
        path = self.paths[index]
        return open_image(path), self._number.get(path.parent.name)


def open_image(path: str | Path) -> Any:
    """The decoded PIL image in a file.

    Raises:
        TsdistillError: the file is missing, truncated, not an image, or a picture of too many pixels.
    """
    from PIL import Image

    path = Path(path)
    check_regular(path)
    with read_guard(f"the image {path}", "repair or remove the file", Image.DecompressionBombError):
        with warnings.catch_warnings(action="ignore"):
            image = Image.open(path)
        with image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ValueError(
                    f"{width} by {height} pixels are more than the {MAX_PIXELS} that are decoded"
                )
            image.load()
            return image.copy() if image.format == "GIF" else image
