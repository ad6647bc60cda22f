"""The experiment's network as factories: ``tsdistill.lab.images.networks:plain_rgb`` and its like."""

from torch import nn

NODES = 64
"""Nodes of each convolution, as in the paper."""

CLASSES = 10
"""Classes of both data sets."""


def plain_rgb() -> nn.Sequential:
    """The authors' ConvNet 64-64-64-64 for CIFAR-10, ``[N, 3, 32, 32] -> [N, 10]``: no stride, no padding."""
    return plain(3, 32)


def plain_gray() -> nn.Sequential:
    """The same for Fashion-MNIST, ``[N, 1, 28, 28] -> [N, 10]``."""
    return plain(1, 28)


def strided_rgb() -> nn.Sequential:
    """A ConvNet 64-64-64-64 for CIFAR-10 that halves the sides twice and averages: a tenth of the work."""
    return strided(3)


def strided_gray() -> nn.Sequential:
    """The same for Fashion-MNIST."""
    return strided(1)


def plain(channels: int, side: int) -> nn.Sequential:
    """Four 3x3 convolutions without stride or padding, each with batch norm and ReLU, and a linear layer."""
    layers: list[nn.Module] = []
    for inputs in (channels, NODES, NODES, NODES):
        layers += [nn.Conv2d(inputs, NODES, 3), nn.BatchNorm2d(NODES), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(NODES * (side - 8) ** 2, CLASSES))


def strided(channels: int) -> nn.Sequential:
    """Four padded 3x3 convolutions, the second and third with stride 2, and a linear layer on the means."""
    layers: list[nn.Module] = []
    for inputs, stride in ((channels, 1), (NODES, 2), (NODES, 2), (NODES, 1)):
        convolution = nn.Conv2d(inputs, NODES, 3, stride, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(NODES), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(NODES, CLASSES))
