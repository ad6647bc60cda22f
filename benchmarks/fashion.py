"""Four small networks and the seeded recipe that trains them on Fashion-MNIST.

``python benchmarks/fashion.py [NAME ...]`` trains those that are not in ``benchmarks/trained`` yet. They are
kept there because no two kinds of processor train to the same bits, and the figures of one table belong to
one network. The images are those of Debian's package ``dataset-fashion-mnist``, padded with nothing: one
channel, 28x28.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from tsdistill.data.idx import read_idx
from tsdistill.files import replacing

IMAGES = Path("/usr/share/datasets/fashion-mnist")
TRAINED = Path(__file__).parent / "trained"
MEAN, STD = 0.2860, 0.3530


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution that keeps the size (or halves it), and its batch norm."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(outputs)]


class Basic(nn.Module):
    """The basic residual block (He et al., 2016), its shortcut a 1x1 convolution where the width changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_bn(inputs, outputs, 3, stride)
        self.conv2, self.bn2 = conv_bn(outputs, outputs, 3)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(*conv_bn(inputs, outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        """``relu(F(x) + shortcut(x))``."""
        branch = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(branch + self.shortcut(x))


class Inverted(nn.Module):
    """The inverted bottleneck (Sandler et al., 2018)."""

    def __init__(self, inputs: int, outputs: int, stride: int, expand: int = 4) -> None:
        super().__init__()
        wide = inputs * expand
        self.branch = nn.Sequential(
            *(*conv_bn(inputs, wide, 1), nn.ReLU6()),
            *(*conv_bn(wide, wide, 3, stride, groups=wide), nn.ReLU6()),
            *conv_bn(wide, outputs, 1),
        )
        self.skips = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """The branch, added to its input where they have one shape."""
        return x + self.branch(x) if self.skips else self.branch(x)


def resnet20() -> nn.Module:
    """ResNet-20 (He et al., 2016) for one input channel."""
    blocks, width = [], 16
    for stage in range(3):
        for place in range(3):
            stride = 2 if stage and not place else 1
            blocks.append(Basic(width, 16 * 2**stage, stride))
            width = 16 * 2**stage
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    return nn.Sequential(*conv_bn(1, 16, 3), nn.ReLU(), *blocks, *head)


def convnet() -> nn.Module:
    """The plain ConvNet 64-64-64-64: 3x3 convolutions, batch norm, ReLU."""
    layers: list[nn.Module] = []
    for inputs, stride in ((1, 1), (64, 2), (64, 2), (64, 1)):
        layers += [*conv_bn(inputs, 64, 3, stride), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def mobilenet() -> nn.Module:
    """A small MobileNetV2: inverted bottlenecks with depthwise convolutions."""
    shape = ((16, 16, 1), (16, 24, 1), (24, 24, 1), (24, 40, 2), (40, 40, 1), (40, 40, 1))
    blocks = [Inverted(*each) for each in shape]
    top = [*conv_bn(40, 160, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(160, 10)]
    return nn.Sequential(*conv_bn(1, 16, 3, 2), nn.ReLU6(), *blocks, *top)


def vit() -> nn.Module:
    """A small vision transformer: 49 patches of 4x4, width 64, 4 blocks of 4 heads."""
    return VisionTransformer(
        img_size=28, patch_size=4, in_chans=1, num_classes=10, embed_dim=64, depth=4, num_heads=4
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet20": resnet20,
    "convnet": convnet,
    "mobilenet": mobilenet,
    "vit": vit,
}
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
    with replacing(kept(name)) as path:
        save_file(model.state_dict(), path)
    print(f"  test accuracy {accuracy(model):.2f} %", file=sys.stderr)
    return model


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train the networks of the pruning benchmark.")
    parser.add_argument("names", nargs="*", default=list(NETWORKS), metavar="NAME")
    for chosen in parser.parse_args().names:
        print(f"{chosen}: {accuracy(trained(chosen)):.2f} %")
