"""Shards of webdataset."""

from __future__ import annotations

import json
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image


def webdataset_shards(folder: Path) -> str:
    for shard in range(4):
        with tarfile.open(folder / f"train-{shard:06d}.tar", "w") as tar:
            for number in range(10):
                for suffix, content in (("png", _png(shard)), ("cls", str(shard).encode())):
                    info = tarfile.TarInfo(f"{shard}{number:03d}.{suffix}")
                    info.size = len(content)
                    tar.addfile(info, BytesIO(content))
    return str(folder / "train-{000000..000003}.tar")


def timm_webdataset(folder: Path) -> str:
    """The same with the file that timm reads beside them; its name for ``open_training``."""
    webdataset_shards(folder)
    names = [f"train-{n:06d}.tar" for n in range(4)]
    train = {"name": "train", "num_samples": 40, "filenames": names, "shard_lengths": [10] * 4}
    (folder / "_info.json").write_text(json.dumps({"splits": {"train": train}}))
    return f"wds/small:{folder}"


def _png(shade: int) -> bytes:
    made = BytesIO()
    Image.fromarray(np.full((12, 12, 3), 60 * shade, dtype=np.uint8)).save(made, "PNG")
    return made.getvalue()
