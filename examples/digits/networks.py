"""The demo's two networks, as factories: ``examples/digits/networks.py:student``."""

from torch import nn

PIXELS = 64
CLASSES = 10
TEACHER_NODES = 20
STUDENT_NODES = 200


def teacher() -> nn.Sequential:
    """A small ReLU network, ``[N, 64] -> [N, 10]``."""
    return _network(TEACHER_NODES)


def student() -> nn.Sequential:
    """The same with ten times as many hidden nodes."""
    return _network(STUDENT_NODES)


def _network(hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(PIXELS, hidden), nn.ReLU(), nn.Linear(hidden, CLASSES))
