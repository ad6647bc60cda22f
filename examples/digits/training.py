"""How the demo trains: a teacher on the labels, a student on nothing but the teacher's outputs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

BATCH = 256
NOISE = 1.0
STEPS = 15_000


class Samples:
    """Batches of pictures drawn at random, with Gaussian noise: never the same sample twice.

    Args:
        x: pictures ``[N, 64]``.
        noise: standard deviation of the noise, in units of the pictures' own.
        seed: of the draws and the noise.
    """

    def __init__(self, x: Tensor, noise: float, seed: int) -> None:
        self.x, self.noise = x, noise
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self, size: int) -> tuple[Tensor, Tensor]:
        """Noisy pictures ``[size, 64]`` and the numbers of the pictures they were made from."""
        index = torch.randint(len(self.x), (size,), generator=self.generator)
        noise = torch.randn(size, self.x.shape[1], generator=self.generator)
        return self.x[index] + self.noise * noise, index


def train_teacher(model: nn.Module, x: Tensor, y: Tensor, steps: int = 2000) -> None:
    """Train ``model`` on the labels, in place."""
    samples = Samples(x, noise=0.3, seed=1)

    def loss() -> Tensor:
        batch, index = samples.draw(BATCH // 2)
        return functional.cross_entropy(model(batch), y[index])

    _descend(model, loss, steps, rate=3e-3, weight_decay=1e-2)


def train_student(
    model: nn.Module, teacher: nn.Module, x: Tensor, tell: Callable[[int, float], None], steps: int = STEPS
) -> None:
    """Train ``model`` on the teacher's outputs only, J = ½ E‖f*(x) − f(x)‖², in place, without weight decay.

    The weights start small, so that every node is free to turn towards a teacher node.
    """
    samples = Samples(x, NOISE, seed=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.3)

    def loss() -> Tensor:
        batch, _ = samples.draw(BATCH)
        with torch.no_grad():
            wanted = teacher(batch)
        return 0.5 * (model(batch) - wanted).pow(2).sum(1).mean()

    _descend(model, loss, steps, rate=2e-2, weight_decay=0.0, tell=tell)


def _descend(
    model: nn.Module,
    loss: Callable[[], Tensor],
    steps: int,
    *,
    rate: float,
    weight_decay: float,
    tell: Callable[[int, float], None] | None = None,
) -> None:
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.3)
    for step in range(1, steps + 1):
        value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        if tell and step % max(1, steps // 5) == 0:
            tell(step, value.item())
    model.eval()
