"""Few samples: what moving them by the teacher's boundaries is worth (arXiv 1909.13458, figure 9).

``python benchmarks/few_samples.py [--quick]`` trains over-realised two-layer students on the outputs of a
two-layer ReLU teacher and prints one table: evaluation loss by number of training samples, over-realisation
and augmentation. Cells that are in the file of results already are not trained again.

Setting of the paper: d = 100 Gaussian inputs, m = 5 teacher nodes whose fan-out norms fall as 1/j^p with p =
1, students with 1, 2, 5, 10 times as many nodes, SGD, learning rate 0.01, batch 16. N counts all training
samples, those that augmentation made included; they are made once, before the training. ``none`` is N
Gaussian samples (the paper's teacher-agnostic baseline); ``agnostic`` is x, x + eps u and x - eps u of N/3
samples, with random orthonormal u; ``aware`` is the point on a teacher node's boundary and those at either
side of it, 3 standard deviations of the pre-activation away (2 to 4 in the paper), of N/3 samples.
Departures: neither network has biases, nodes are drawn by strength and not in turn, samples are not scaled
back to the norm of the Gaussian ones, and students start small.

All seeds and augmentations of a cell are trained at once, batched; each step draws 16 samples for each
network.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from tsdistill.augmentation import Setting, Strategy, augmented, expansion, opened, prepared
from tsdistill.files import replacing

INPUTS, TEACHER_NODES, OUTPUTS, DECAY = 100, 5, 50, 1.0
RATE, BATCH = 0.01, 16
COUNTS = (30, 60, 120, 270, 510, 1110)
WIDTHS = (1, 2, 5, 10)
EVALUATED = 4096
START = 0.1
STRATEGIES = {
    "none": "none",
    "agnostic": "teacher-agnostic:copies=yes,scale=0.3",
    "aware": "teacher-aware:copies=yes,share=1,scale=3",
}
RESULTS = Path(__file__).parent / ".cache" / "few_samples.json"


@dataclass(frozen=True)
class Result:
    """One cell and augmentation: losses E‖f*(x) − f(x)‖²/2 of each seed, on fresh samples and in training."""

    samples: int
    width: int
    strategy: str
    steps: int
    evaluation: list[float]
    training: list[float]


class Students:
    """S two-layer ReLU networks of n nodes without biases, trained at once.

    Args:
        seeds: of the initial weights, Gaussian; in expectation fan-in and fan-out of a node have norm
            `START`.
        nodes: n.
    """

    def __init__(self, seeds: list[int], nodes: int) -> None:
        drawn = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.fan_in = (
            torch.stack([torch.randn(INPUTS, nodes, generator=g) for g in drawn]) * START / math.sqrt(INPUTS)
        )
        self.fan_out = (
            torch.stack([torch.randn(nodes, OUTPUTS, generator=g) for g in drawn])
            * START
            / math.sqrt(OUTPUTS)
        )

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """E‖y − f(x)‖²/2 ``[S]`` of each network on its own ``x [S, N, INPUTS]``, ``y [S, N, OUTPUTS]``."""
        return (torch.bmm(torch.bmm(x, self.fan_in).relu_(), self.fan_out) - y).square().sum(2).mean(1) / 2

    def step(self, x: Tensor, y: Tensor, rate: float) -> None:
        """One step of SGD, the gradient written out."""
        hidden = torch.bmm(x, self.fan_in).relu_()
        residual = torch.baddbmm(y, hidden, self.fan_out, beta=-1).div_(x.shape[1])
        back = torch.bmm(residual, self.fan_out.transpose(1, 2)).mul_(hidden > 0)
        self.fan_out.baddbmm_(hidden.transpose(1, 2), residual, alpha=-rate)
        self.fan_in.baddbmm_(x.transpose(1, 2), back, alpha=-rate)


def teacher_of(seed: int) -> nn.Sequential:
    """A teacher: unit fan-in weights in random directions, random fan-out directions of norm 1/j^p."""
    generator = torch.Generator().manual_seed(1000 + seed)
    model = nn.Sequential(
        nn.Linear(INPUTS, TEACHER_NODES, bias=False), nn.ReLU(), nn.Linear(TEACHER_NODES, OUTPUTS, bias=False)
    )
    for layer in (model[0], model[2]):
        layer.weight.data.copy_(torch.randn(layer.weight.shape, generator=generator))
    fan_in, fan_out = model[0].weight.data, model[2].weight.data
    fan_in /= fan_in.norm(dim=1, keepdim=True)
    strengths = torch.arange(1, TEACHER_NODES + 1) ** -DECAY
    fan_out *= strengths / fan_out.norm(dim=0)
    return model.eval()


def training_set(teacher: nn.Module, text: str, count: int, seed: int) -> Tensor:
    """``[count, INPUTS]``: base samples x ~ N(0, I), as many as give ``count`` when augmented."""
    generator = torch.Generator().manual_seed(2000 + seed)
    x = torch.randn(count, INPUTS, generator=generator)
    strategy: Strategy = prepared(opened(text), Setting(teacher, lambda: [x], generator))
    x = x[: count // expansion(strategy)]
    return augmented(strategy, x, None, generator)[0]


@torch.no_grad()
def train(
    samples: int, width: int, seeds: Sequence[int], steps: int, strategies: dict[str, str] = STRATEGIES
) -> list[Result]:
    """Every strategy and seed at one N and width, side by side in one batch of networks.

    The rate falls to a tenth for the last three tenths of the steps.
    """
    teachers = [teacher_of(seed) for seed in seeds] * len(strategies)
    texts = [text for text in strategies.values() for _ in seeds]
    x = torch.stack(
        [
            training_set(teacher, text, samples, seed)
            for teacher, text, seed in zip(teachers, texts, [*seeds] * len(strategies), strict=True)
        ]
    )
    y = _outputs(teachers, x)
    students = Students([*seeds] * len(strategies), width * TEACHER_NODES)
    generator = torch.Generator().manual_seed(100 * samples + width)
    network = torch.arange(len(x))[:, None]
    for step in range(steps):
        drawn = torch.randint(samples, (len(x), BATCH), generator=generator)
        students.step(x[network, drawn], y[network, drawn], RATE if step < 0.7 * steps else RATE / 10)
    fresh = [torch.randn(EVALUATED, INPUTS, generator=torch.Generator().manual_seed(3000 + s)) for s in seeds]
    x_fresh = torch.stack(fresh * len(strategies))
    evaluation = students.loss(x_fresh, _outputs(teachers, x_fresh)).view(len(strategies), -1).tolist()
    training = students.loss(x, y).view(len(strategies), -1).tolist()
    return [
        Result(samples, width, name, steps, evaluation[place], training[place])
        for place, name in enumerate(strategies)
    ]


def _outputs(teachers: Sequence[nn.Module], x: Tensor) -> Tensor:
    return torch.stack([teacher(some) for teacher, some in zip(teachers, x, strict=True)])


def geometric_mean(values: Sequence[float]) -> float:
    """exp of the mean logarithm."""
    return math.exp(sum(math.log(value) for value in values) / len(values))


def sweep(
    counts: Sequence[int], widths: Sequence[int], seeds: Sequence[int], steps: int, file: Path
) -> list[Result]:
    """All cells, those in ``file`` taken from there, the others written to it one by one."""
    known = [Result(**each) for each in json.loads(file.read_text())] if file.exists() else []
    wanted = []
    for samples in counts:
        for width in widths:
            here = [
                each
                for each in known
                if (each.samples, each.width, each.steps, len(each.evaluation))
                == (samples, width, steps, len(seeds))
            ]
            if not here:
                start = time.perf_counter()
                here = train(samples, width, seeds, steps)
                known += here
                with replacing(file) as beside:
                    beside.write_text(json.dumps([asdict(each) for each in known]))
                spent = time.perf_counter() - start
                print(f"N {samples}, {width}x: {spent:.0f} s", file=sys.stderr, flush=True)
            wanted += here
    return wanted


def table(results: Sequence[Result]) -> str:
    """Markdown: a row an N and width with the evaluation losses (geometric means over seeds)."""
    names = list(STRATEGIES)
    lines = [
        f"| N | over-realised | {' | '.join(names)} | none / aware | agnostic / aware |",
        "|" + "---:|" * (4 + len(names)),
    ]
    for samples in dict.fromkeys(each.samples for each in results):
        for width in dict.fromkeys(each.width for each in results):
            loss = {
                each.strategy: geometric_mean(each.evaluation)
                for each in results
                if (each.samples, each.width) == (samples, width)
            }
            shown = " | ".join(f"{loss[name]:.2g}" for name in names)
            lines.append(
                f"| {samples} | {width}x | {shown} | {loss['none'] / loss['aware']:.1f} "
                f"| {loss['agnostic'] / loss['aware']:.1f} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(description="Few samples, augmented by the teacher's boundaries or not.")
    parser.add_argument("--quick", action="store_true", help="N = 60 at 1x and 10x, 5,000 steps, 2 seeds")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20_000, help="100,000 in the paper")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file that keeps what was trained")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.results.parent.mkdir(parents=True, exist_ok=True)
    if given.quick:
        results = sweep((60,), (1, 10), range(2), 5000, given.results)
    else:
        results = sweep(COUNTS, WIDTHS, range(given.seeds), given.steps, given.results)
    energy = geometric_mean([teacher_energy(seed) for seed in range(given.seeds)])
    print(f"evaluation loss, geometric mean over seeds (a student that gives 0: {energy:.2g})\n")
    print(table(results))


@torch.no_grad()
def teacher_energy(seed: int) -> float:
    """E‖f*(x)‖²/2 of a teacher: the loss of a student that gives 0."""
    x = torch.randn(EVALUATED, INPUTS, generator=torch.Generator().manual_seed(3000 + seed))
    return float(teacher_of(seed)(x).square().sum(1).mean()) / 2


if __name__ == "__main__":
    main()
