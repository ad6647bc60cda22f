"""The four small networks of Fashion-MNIST (one channel, 28x28, ten classes), without weights.

They are specifications on the command line (``networks.py:resnet20``), so nothing of the toolkit is imported.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn


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
