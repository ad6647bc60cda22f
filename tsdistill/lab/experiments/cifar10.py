"""Over-realised students of a pruned ConvNet, on images: alignment and loss by width."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from tsdistill.lab.experiment import Context, Experiment, Settings
from tsdistill.lab.images.image_sets import SETS, image_set
from tsdistill.lab.images.image_trainings import Trainings
from tsdistill.lab.results import Claim, Outcome, Table
from tsdistill.options.option_fields import option

PAPER = "arXiv 1909.13458, section 6"
LOSS, ALIGNMENT = "output_mse", "alignment"
THIRDS = ("strong", "middle", "weak")
CORRELATION_TOLERANCE, LOSS_TOLERANCE = 0.01, 0.05
"""What a step in width may lose, in correlation and relatively in loss, without failing a claim:
steps as small as this are not told from the spread of a few seeds."""

Runs = Mapping[float, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class Cifar10(Settings):
    """The settings of cifar10."""

    dtype: str = option("float32", "Precision of the networks", choices=("float32",))
    data: str = option("fashion-mnist", "The data set; cifar10 is downloaded", choices=tuple(SETS))
    data_dir: str | None = option(None, "Where the data set is, or is put")
    network: str = option(
        "plain", "plain, as the authors', or strided, a tenth of the work", choices=("plain", "strided")
    )
    teacher_epochs: int = option(4, "Epochs of the teacher before it is pruned", above=0)
    kept: int = option(6, "Strong nodes that stay in each layer, of 64", above=0)
    rounds: int = option(4, "Rounds of pruning in which the other nodes are removed", above=0)
    calibrated: int = option(2048, "Training images for pruning, without their labels", above=0)
    widths: tuple[float, ...] = option((1.0, 2.0, 5.0, 10.0), "How many times as wide students are", above=0)
    seeds: tuple[int, ...] = option(
        (0, 1, 2), "Of the students of each width; seed is the teacher's", least=0
    )
    epochs: int = option(4, "Epochs of a student", above=0)
    batch_size: int = option(128, "Of every training", above=0)
    samples: int = option(0, "How many training and evaluation images; 0: all", least=0)


def run(settings: Cifar10, context: Context) -> Outcome:
    """Train a teacher, prune it to its strong nodes, train students on its outputs, and compare them."""
    images = image_set(settings.data, settings.data_dir)
    with nullcontext(context.keep) if context.keep else tempfile.TemporaryDirectory() as place:
        folder = Path(place) / _name(settings)
        trainings = Trainings(
            images, settings.network, folder, settings.samples, settings.batch_size, settings.device
        )
        context.tell("teacher", 0, settings.teacher_epochs)
        dense = trainings.dense(
            settings.teacher_epochs,
            settings.seed,
            lambda epoch: context.tell("teacher", epoch, settings.teacher_epochs),
        )
        context.tell("pruning the teacher", 0, 1)
        teacher = trainings.strong(dense, settings.kept, settings.rounds, settings.calibrated)
        jobs = [(width, seed) for seed in settings.seeds for width in sorted(settings.widths)]
        runs: dict[float, list[dict[str, Any]]] = {width: [] for width in sorted(settings.widths)}
        for done, (width, seed) in enumerate(jobs):

            def report_epoch(epoch: int, done: int = done) -> None:
                context.tell(
                    "epochs of students", done * settings.epochs + epoch, len(jobs) * settings.epochs
                )

            runs[width].append(trainings.student(teacher, width, seed, settings.epochs, report_epoch))
        judged = {"dense": trainings.judged(dense, dense), "teacher": trainings.judged(teacher, dense)}
        nodes = trainings.nodes(teacher)
    return Outcome(
        name="cifar10",
        settings={},
        claims=claims(runs),
        tables=(table(runs, list(nodes)),),
        data={"nodes": nodes, **judged, "runs": [each for some in runs.values() for each in some]},
        notes=(
            f"{settings.data}, {settings.network} ConvNet 64-64-64-64 ({judged['dense']['top1']:.2f} %), "
            f"pruned to its strong nodes {'-'.join(map(str, nodes.values()))} "
            f"({judged['teacher']['top1']:.2f} %): the teacher",
            "evaluation loss: squared error of the outputs over the variance of the teacher's; correlation: "
            "mean over the teacher's nodes of the best with a student node; both on evaluation images",
        ),
    )


def claims(runs: Runs) -> tuple[Claim, ...]:
    """The claims of the talk on over-realisation, from the last epochs.

    Args:
        runs: for each width the results of `Trainings.student` for each seed.
    """
    aligned = {width: last(some, ALIGNMENT) for width, some in runs.items()}
    lost = {width: last(some, LOSS) for width, some in runs.items()}
    every = [run for some in runs.values() for run in some]
    strong, weak = (fmean(last(every, f"{ALIGNMENT}/{third}")) for third in ("strong", "weak"))
    better = [fmean(wide) - fmean(narrow) for narrow, wide in pairwise(aligned.values())]
    lower = [1 - fmean(wide) / fmean(narrow) for narrow, wide in pairwise(lost.values())]
    return (
        Claim(
            "The more a student is over-realised, the better its nodes correlate with the teacher's.",
            PAPER,
            f"mean best correlation {_by_width(aligned, '.3f')}; each step may lose {CORRELATION_TOLERANCE}",
            _rises(better, CORRELATION_TOLERANCE),
        ),
        Claim(
            "The more a student is over-realised, the lower its evaluation loss.",
            PAPER,
            f"evaluation loss {_by_width(lost, '.3g')}; each step may lose {LOSS_TOLERANCE:.0%}",
            _rises(lower, LOSS_TOLERANCE),
        ),
        Claim(
            "Strong teacher nodes are learnt better than weak ones.",
            f"{PAPER}; Theorem 5",
            f"mean best correlation {strong:.3f} of the strongest third, {weak:.3f} of the weakest",
            strong > weak,
        ),
    )


def table(runs: Runs, layers: Sequence[str]) -> Table:
    """A row for each width: mean ± standard deviation over seeds after the last epoch."""
    rows: list[tuple[str | int | float | None, ...]] = []
    for width, some in runs.items():
        cells = [_cell(some, LOSS, 4), _cell(some, "agreement", 2), _cell(some, "top1", 2)]
        cells += [_cell(some, f"{ALIGNMENT}/{name}", 3) for name in layers]
        rows.append((f"{width:g}x", len(some), *cells, _cell(some, ALIGNMENT, 3)))
    return Table(
        "Students of the strong nodes",
        (
            "over-realised", "seeds", "evaluation loss", "agreement", "accuracy",
            *(f"correlation, layer {place}" for place in range(1, len(layers) + 1)), "all layers",
        ),
        tuple(rows),
    )  # fmt: skip


def last(runs: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """The figure ``name`` after the last epoch, for each run that has it."""
    return [run["epochs"][-1][name] for run in runs if name in run["epochs"][-1]]


def _rises(steps: Sequence[float], tolerance: float) -> bool | None:
    """Whether no step falls by more than ``tolerance`` and their sum is positive; ``None`` without steps."""
    return min(steps) > -tolerance and sum(steps) > 0 if steps else None


def _by_width(by_width: Mapping[float, Sequence[float]], form: str) -> str:
    return ", ".join(f"{fmean(values):{form}} at {width:g}x" for width, values in by_width.items())


def _cell(runs: Sequence[Mapping[str, Any]], name: str, digits: int) -> str:
    values = last(runs, name)
    if not values:
        return ""
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{fmean(values):.{digits}f}{spread}"


def _name(settings: Cifar10) -> str:
    """The name of the folder for the trainings of one teacher."""
    parts = (
        settings.data,
        settings.network,
        settings.samples or "all",
        f"epochs-{settings.teacher_epochs}",
        f"batch-{settings.batch_size}",
        f"kept-{settings.kept}-{settings.rounds}-{settings.calibrated}",
        f"seed-{settings.seed}",
    )
    return "-".join(map(str, parts))


EXPERIMENT = Experiment(
    settings=Cifar10,
    quick={
        "network": "strided",
        "samples": 2048,
        "teacher_epochs": 3,
        "rounds": 2,
        "calibrated": 384,
        "widths": (1.0, 2.0, 5.0),
        "seeds": (0,),
        "epochs": 2,
    },
    run=run,
)
