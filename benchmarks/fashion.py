"""The seeded recipe that trains the four networks of ``networks.py`` on Fashion-MNIST.

``python benchmarks/fashion.py [NAME ...]`` trains those that are not in ``benchmarks/trained`` yet. They are
kept there because no two kinds of processor train to the same bits, and the figures of one table belong to
one network. The images are those of Debian's package ``dataset-fashion-mnist``, padded with nothing: one
channel, 28x28.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from networks import NETWORKS
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from tsdistill.data.named_datasets import read_idx
from tsdistill.files import atomic_file

IMAGES = Path("/usr/share/datasets/fashion-mnist")
TRAINED = Path(__file__).parent / "trained"
MEAN, STD = 0.2860, 0.3530
EPOCHS = {"resnet20": 7, "convnet": 7, "mobilenet": 9, "vit": 11}


@cache
def images(part: str) -> tuple[Tensor, Tensor]:
    """All of ``"train"`` or ``"t10k"``: normalised ``[n, 1, 28, 28]`` and labels ``[n]``."""
    x = read_idx(IMAGES / f"{part}-images-idx3-ubyte.gz")
    y = read_idx(IMAGES / f"{part}-labels-idx1-ubyte.gz")
    values = torch.from_numpy(x.copy()).float().div_(255).sub_(MEAN).div_(STD)
    return values[:, None], torch.from_numpy(y.copy()).long()


def batches(generator: torch.Generator, size: int = 128) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of training images, mirrored and shifted by up to two pixels at random."""
    x, y = images("train")
    order = torch.randperm(len(x), generator=generator)
    for start in range(0, len(order) - size + 1, size):
        index = order[start : start + size]
        flips = torch.rand(size, generator=generator) < 0.5
        dx, dy = torch.randint(0, 5, (2, size), generator=generator)
        part = F.pad(x[index], (2, 2, 2, 2), value=-MEAN / STD)
        rows = dy[:, None] + torch.arange(28)
        columns = dx[:, None] + torch.arange(28)
        columns = torch.where(flips[:, None], columns.flip(1), columns)
        each = torch.arange(size)[:, None, None]
        yield part[each, 0, rows[:, :, None], columns[:, None, :]][:, None], y[index]


def train(
    model: nn.Module, epochs: int, *, seed: int = 0, rate: float | None = None, quiet: bool = False
) -> nn.Module:
    """Cross-entropy with one cycle of learning rate: SGD (AdamW for a transformer); in place."""
    generator = torch.Generator().manual_seed(seed)
    steps = epochs * (60000 // 128)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    attends = isinstance(model, VisionTransformer)
    decay = 0.05 if attends else 5e-4
    groups = [{"params": decayed, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    rate = rate or (1.5e-3 if attends else 0.2)
    optimizer: torch.optim.Optimizer
    if attends:
        optimizer = torch.optim.AdamW(groups, lr=rate)
    else:
        optimizer = torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.2)
    model.train().to(memory_format=torch.channels_last)
    for epoch in range(epochs):
        start, total = time.perf_counter(), 0.0
        for x, y in batches(generator):
            x = x.contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(model(x), y, label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        if not quiet:
            spent = time.perf_counter() - start
            print(
                f"  epoch {epoch + 1}/{epochs}: loss {total / (60000 // 128):.4f} ({spent:.0f} s)",
                file=sys.stderr,
            )
    return model.eval().to(memory_format=torch.contiguous_format)


def accuracy(model: nn.Module) -> float:
    """Percent of the 10,000 test images that are classified as labelled."""
    x, y = images("t10k")
    model.eval()
    parts = zip(x.split(500), y.split(500), strict=True)
    with torch.no_grad():
        right = sum(int((model(some).argmax(1) == labels).sum()) for some, labels in parts)
    return 100 * right / len(x)


def kept(name: str) -> Path:
    """Where the weights of the network ``name`` are once it is trained."""
    return TRAINED / f"{name}.safetensors"


def trained(name: str) -> nn.Module:
    """The network ``name``, trained; from the file when it has been trained before."""
    torch.manual_seed(0)
    model = NETWORKS[name]()
    if kept(name).exists():
        model.load_state_dict(load_file(kept(name)))
        return model.eval()
    print(f"training {name}", file=sys.stderr)
    train(model, EPOCHS[name])
    TRAINED.mkdir(exist_ok=True)
    with atomic_file(kept(name)) as path:
        save_file(model.state_dict(), path)
    print(f"  test accuracy {accuracy(model):.2f} %", file=sys.stderr)
    return model


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train the networks of the pruning benchmark.")
    parser.add_argument("names", nargs="*", default=list(NETWORKS), metavar="NAME")
    for chosen in parser.parse_args().names:
        print(f"{chosen}: {accuracy(trained(chosen)):.2f} %")
