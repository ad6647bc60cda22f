"""The L-shaped curve in every layer of a deep student."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor

from tsdistill.lab import engine
from tsdistill.lab.engine.node_statistics import curve_points, l_curve, rank_correlation, rounded
from tsdistill.lab.experiment import Context, Experiment, StudentSettings
from tsdistill.lab.results import Claim, Outcome, Table
from tsdistill.options.option_fields import option

OBSERVED_DRAW = 0
"""Seed of the samples on which nodes are observed; the training's seeds are step numbers, above 0."""
SEGMENTS = 8
"""About how many parts the training has; weights are kept and nodes observed after each: a stopped
run repeats at most one."""
POINTS = 300
"""Largest number of student nodes that the figure of a layer shows, so that dots can be told apart."""

SMALL_LOSS = 0.02
"""Relative loss below which a student counts as trained, so that its gradient is small; larger than that of
`two-layer`, since deep students converge more slowly."""

Snapshot = dict[str, Any]


@dataclass(frozen=True)
class Deep(StudentSettings):
    """Teacher and student, and the training."""

    widths: tuple[int, ...] = option((50, 75, 100, 125), "Nodes of the teacher's hidden layers", above=0)
    over: int = option(10, "Over-realisation: student nodes for each teacher node, in every layer", above=0)
    inputs: int = option(20, "Dimension d of the Gaussian input", above=0)
    outputs: int = 50
    decay: float = option(0.0, "p: fan-out norms of the teacher's last hidden layer fall as 1/j^p", least=0)
    seeds: int = option(1, "Teachers and students drawn", above=0)
    batch: int = 64
    rate: float = option(0.05, "Learning rate; a tenth of it for the last fifth of the steps", above=0)
    start: float = option(
        0.6, "A student's first weights as a share of those that keep the size of activations", above=0
    )


def run(settings: Deep, context: Context) -> Outcome:
    """Train deep students and measure every hidden layer after each part of the training.

    A student node's strength is sqrt(E[β_kk]) · σ_k, β = V_lᵀ V_l of Lemma 1 of arXiv 1909.13458 (its
    depth-general fan-out norm) and σ_k the standard deviation of its activation. The teacher's boundaries all
    lie within the data (see `deep_teachers`). The weights after each part of the training are stored, so that
    a stopped run resumes.

    Raises:
        TsdistillError: the networks do not fit into memory, or a student diverged.
    """
    wide = tuple(width * settings.over for width in settings.widths)
    where = engine.training_device(
        settings, settings.seeds, settings.inputs, settings.widths, wide,
        samples=engine.OBSERVED_SAMPLES, reduce="--over, --widths, --batch or --seeds",
    )  # fmt: skip
    seeds = [settings.seed * 1000 + seed for seed in range(settings.seeds)]
    d, c = settings.inputs, settings.outputs
    teachers = engine.deep_teachers(seeds, d, settings.widths, c, settings.decay, **where)
    x = engine.GaussianSamples(OBSERVED_DRAW, d, **where).rows(engine.OBSERVED_SAMPLES)
    students = engine.random_students(seeds, d, wide, c, gain=settings.start, **where)
    moments = [_moment(teachers, students, x, 0)]
    stops = engine.observation_steps(settings.steps, SEGMENTS)
    key = settings.key()
    for since, stop in pairwise(stops):

        def make(
            now: engine.Networks = students, since: int = since, stop: int = stop
        ) -> tuple[Any, Snapshot]:
            _go_on(settings, now, teachers, since, stop)
            return _named(now), _moment(teachers, now, x, stop)

        tensors, moment = engine.cached_tensors(context.keep, f"deep-{stop}", {**key, "stops": stops}, make)
        students = _unnamed(tensors, students)
        moments.append(moment)
        context.tell("steps", stop, settings.steps)
    return Outcome(
        "deep",
        {},
        _claims(moments),
        (_table(settings, moments[-1]),),
        {"widths": list(settings.widths), "over": settings.over, "moments": moments},
        (
            "E[β_kk] is estimated from random output directions, exact in the last hidden layer.",
            "The theorems cover the lowest layer; deeper ones are what experiments show.",
        ),
    )


def _go_on(
    settings: Deep, students: engine.Networks, teachers: engine.Networks, since: int, stop: int
) -> None:
    samples = engine.GaussianSamples(
        settings.seed * 1_000_000 + stop, settings.inputs, dtype=students.fan_in.dtype,
        device=students.fan_in.device,
    )  # fmt: skip

    def rate(step: int) -> float:
        return settings.rate if since + step < 0.8 * settings.steps else settings.rate / 10

    engine.train(students, teachers, samples, steps=stop - since, batch=settings.batch, rate=rate)


def _moment(teachers: engine.Networks, students: engine.Networks, x: Tensor, step: int) -> Snapshot:
    layers = []
    for layer, (beta, deviation) in enumerate(
        zip(engine.modulations(students, x), engine.deviations(students, x), strict=True)
    ):
        every = engine.correlations(teachers, students, x, layer).cpu()
        best, matched = every.amax(1), every.amax(2)
        strength = (beta * deviation).cpu()
        layers.append(
            {
                "matched": rounded(matched.mean()),
                "found": rounded((matched >= engine.ALIGNED).double().mean()),
                "aligned": rounded((best >= engine.ALIGNED).double().mean()),
                "order": rounded(rank_correlation(best.flatten().numpy(), strength.flatten().numpy())),
                "curve": l_curve(best, strength),
                "points": curve_points(best, strength, POINTS),
            }
        )
    loss = engine.relative_losses(teachers, students, x)
    return {"step": step, "loss": rounded(loss.cpu()), "layers": layers}


def _named(networks: engine.Networks) -> dict[str, Tensor]:
    named = {f"weights.{k}": weight.cpu() for k, weight in enumerate(networks.weights)}
    return named | {f"biases.{k}": bias.cpu() for k, bias in enumerate(networks.biases)}


def _unnamed(tensors: dict[str, Tensor], like: engine.Networks) -> engine.Networks:
    return engine.Networks(
        tuple(tensors[f"weights.{k}"].to(device=like.fan_in.device) for k in range(len(like.weights))),
        tuple(tensors[f"biases.{k}"].to(device=like.fan_in.device) for k in range(len(like.biases))),
    )


def _claims(moments: Sequence[Snapshot]) -> tuple[Claim, ...]:
    first, last = moments[0]["layers"], moments[-1]["layers"]
    loss = moments[-1]["loss"]
    aligned_share, orders = last[0]["found"], [layer["order"] for layer in last]
    ratios = [layer["curve"]["ratio"] for layer in last]
    ratio_text = ", ".join("none to compare" if ratio is None else f"{ratio:.3f}" for ratio in ratios)
    rises = [(a["matched"], b["matched"]) for a, b in zip(first, last, strict=True)]
    reached = f"relative loss {max(loss):.2g}"
    return (
        Claim(
            "every teacher node of the lowest layer has an aligned student node",
            "arXiv 1909.13458, Theorem 2 (which asks for a gradient of zero)",
            f"{aligned_share:.1%} at {reached}; held from 99 % on, and not to be said above a "
            f"loss of {SMALL_LOSS:g}",
            aligned_share >= 0.99 if aligned_share >= 0.99 or max(loss) <= SMALL_LOSS else None,
        ),
        Claim(
            "the L-shaped curve appears in every layer: weakly correlated student nodes have little strength",
            "arXiv 1909.13458, experiments; the talk",
            "median strength of nodes with correlation below 0.5 over that of aligned ones, by layer: "
            f"{ratio_text}; rank correlation of strength with correlation: "
            f"{', '.join(f'{order:.2f}' for order in orders)}; held if the ratio is below 0.2 in every layer",
            None if None in ratios else max(ratios) < 0.2,
        ),
        Claim(
            "specialisation grows over training, in every layer",
            "arXiv 1909.13458, experiments",
            "mean best correlation of teacher nodes, start and end, by layer: "
            + ", ".join(f"{a:.2f} to {b:.2f}" for a, b in rises)
            + "; held if it rises by 0.2 or more in every layer",
            all(b >= a + 0.2 for a, b in rises),
        ),
    )


def _table(settings: Deep, moment: Snapshot) -> Table:
    rows = [
        (
            number + 1, settings.widths[number], settings.widths[number] * settings.over,
            round(layer["matched"], 3), f"{layer['found']:.0%}", f"{layer['aligned']:.0%}",
            layer["curve"]["ratio"], f"{layer['curve']['unaligned']:.1%}",
        )
        for number, layer in enumerate(moment["layers"])
    ]  # fmt: skip
    columns = (
        "layer", "teacher nodes", "student nodes", "mean best correlation", "teacher nodes aligned",
        "student nodes aligned", "strength below 0.5 / aligned", "squared strength of unaligned nodes",
    )  # fmt: skip
    return Table(f"Layers after {settings.steps:,} steps", columns, tuple(rows))


EXPERIMENT = Experiment(Deep, {"widths": (10, 15, 20, 25), "over": 5, "steps": 15_000, "rate": 0.1}, run)
