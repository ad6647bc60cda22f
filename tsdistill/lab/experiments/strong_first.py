"""Strong teacher nodes are learnt first and gather more student nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from tsdistill.lab.engine import (
    GaussianSamples,
    cached,
    check_memory,
    correlations,
    decaying_teachers,
    device_and_dtype,
    observation_steps,
    random_students,
    stacked,
    train_and_record,
    training_bytes,
)
from tsdistill.lab.engine.node_statistics import ALIGNED, OBSERVED_SAMPLES, mean, rank_correlation, rounded
from tsdistill.lab.experiment import Context, Experiment, Settings, not_negative, option, positive
from tsdistill.lab.results import Claim, Outcome, Table

TRAINING_DRAW, OBSERVED_DRAW = 0, 1
"""What is added to twice the seed for the samples of the training and of the observation."""
CLEAR_ORDER = 0.5
"""Rank correlation from which on a claim on an order counts as held."""

Decay = dict[str, Any]


@dataclass(frozen=True)
class StrongFirst(Settings):
    """The settings of strong-first: teachers of decaying strength, and the training."""

    nodes: int = option(10, "nodes m of the teachers")
    over: int = option(10, "over-realisation: student nodes for each teacher node")
    decay: tuple[float, ...] = option(
        (0.0, 0.5, 1.0, 1.5), "p: fan-out norms fall as 1/j^p; 0 is the control"
    )
    seeds: int = option(32, "teachers and students drawn for each p")
    inputs: int = option(100, "dimension d of the Gaussian input")
    outputs: int = option(50, "dimension c of the output")
    steps: int = option(50_000, "steps of SGD")
    batch: int = option(16, "samples a step")
    rate: float = option(0.01, "learning rate")
    start: float = option(0.3, "norm of fan-in and fan-out weights of a student node at its start")
    biases: bool = option(True, "whether nodes have biases")

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "nodes", "over", "seeds", "inputs", "outputs", "steps", "batch", "rate", "start")
        not_negative(self, "decay")


def run(settings: StrongFirst, context: Context) -> Outcome:
    """Record the best correlation of each teacher node, and count its student nodes at the end.

    Theorem 5 of arXiv 1909.13458 allows a larger gradient for a stronger teacher node, so that it is
    recovered earlier. A student node is counted for the teacher node with which it correlates best, if by
    0.9 or more.

    Raises:
        TsdistillError: the stack does not fit into memory.
    """
    device, dtype = device_and_dtype(settings.device, settings.dtype)
    count = len(settings.decay) * settings.seeds
    m, n = settings.nodes, settings.nodes * settings.over
    needed = training_bytes(
        count,
        settings.inputs,
        (m,),
        (n,),
        settings.outputs,
        settings.batch,
        samples=OBSERVED_SAMPLES,
        dtype=dtype,
    )
    check_memory(needed, device, "--seeds, --decay, --nodes, --over or --inputs")
    at = observation_steps(settings.steps, 32)

    def tell(step: int) -> None:
        context.tell("students", at.index(step) + 1, len(at))

    key = {name: value for name, value in asdict(settings).items() if name != "device"} | {"at": at}
    decays: list[Decay] = cached(
        context.keep, "strong-first", key, lambda: _trained(settings, at, tell, device, dtype)
    )
    return Outcome(
        "strong-first",
        {},
        _claims(decays),
        (_table(decays),),
        {"at": list(at), "decays": decays},
        ("All networks draw the same samples, every one of them once.",),
    )


def _trained(
    settings: StrongFirst, at: Sequence[int], tell: Any, device: torch.device, dtype: torch.dtype
) -> list[Decay]:
    seeds = [settings.seed * 1000 + seed for seed in range(settings.seeds)]
    m, d, c = settings.nodes, settings.inputs, settings.outputs
    teachers = stacked(
        [decaying_teachers(seeds, d, m, c, p, biases=settings.biases, dtype=dtype) for p in settings.decay]
    ).to(device=device)
    start = random_students(
        seeds, d, (m * settings.over,), c, scale=settings.start, biases=settings.biases, dtype=dtype
    )
    students = stacked([start] * len(settings.decay)).to(device=device)
    x = GaussianSamples(2 * settings.seed + OBSERVED_DRAW, d, dtype=dtype, device=device).rows(
        OBSERVED_SAMPLES
    )
    samples = GaussianSamples(2 * settings.seed + TRAINING_DRAW, d, dtype=dtype, device=device)
    seen = train_and_record(
        students, teachers, samples, x,
        steps=settings.steps, batch=settings.batch, rate=settings.rate, at=at, tell=tell,
    )  # fmt: skip
    every = correlations(teachers, students, x).cpu()
    best, which = every.max(1)
    counts = torch.stack([((which == j) & (best >= ALIGNED)).sum(1) for j in range(m)], 1)
    shape = (len(settings.decay), settings.seeds, m)
    matched, owned = seen.correlations.unflatten(1, shape[:2]), counts.view(shape)
    return [_decay(p, m, at, matched[:, k], owned[k]) for k, p in enumerate(settings.decay)]


def _decay(p: float, m: int, at: Sequence[int], matched: Tensor, owned: Tensor) -> Decay:
    """The figures of one decay over all seeds, from ``matched [R, S, m]`` and ``owned [S, m]``."""
    strength = torch.arange(1, m + 1, dtype=torch.float64) ** -p
    index = list(range(m, 0, -1))
    reached = _reached(at, matched)
    return {
        "decay": p,
        "strength": rounded(strength),
        "correlation": rounded(matched.mean(1).T),
        "reached": [int(step) if step <= at[-1] else None for step in reached.median(0).values.tolist()],
        "owned": rounded(owned.double().mean(0)),
        "spread": rounded(owned.double().std(0) if len(owned) > 1 else torch.zeros(m)),
        "found": rounded((matched[-1] >= ALIGNED).double().mean(0)),
        "order": rounded(mean([rank_correlation(index, (-row).tolist()) for row in reached])),
        "gathering": rounded(mean([rank_correlation(index, row.tolist()) for row in owned])),
    }


def _reached(at: Sequence[int], matched: Tensor) -> Tensor:
    """The first of the steps ``at`` after which each teacher node has an aligned student, ``[S, m]``.

    If there is none: after the last step, by one step for each hundredth that its best correlation lacks to
    0.9.
    """
    aligned = matched >= ALIGNED
    steps = torch.tensor(at, dtype=torch.float64)
    first = steps[aligned.int().argmax(0)]
    return torch.where(aligned.any(0), first, steps[-1] + 1 + 100 * (ALIGNED - matched[-1]).double())


def _claims(decays: Sequence[Decay]) -> tuple[Claim, ...]:
    decaying = [each for each in decays if each["decay"] > 0]
    even = [each for each in decays if each["decay"] == 0]

    def values_text(name: str) -> str:
        known = [f"p = {each['decay']:g}: {each[name]:.2f}" for each in decaying if each[name] is not None]
        return ", ".join(known) or "none, since there are not several strengths"

    def held(name: str) -> bool | None:
        known = [each[name] for each in decaying if each[name] is not None]
        return min(known) >= CLEAR_ORDER if known else None

    control = even[0]["order"] if even else None
    return (
        Claim(
            "strong teacher nodes are learnt first",
            "arXiv 1909.13458, Theorem 5; the talk",
            "rank correlation of strength with how early a teacher node has an aligned student node, mean "
            f"over students: {values_text('order')}; held from {CLEAR_ORDER} on for every p",
            held("order"),
        ),
        Claim(
            "strong teacher nodes gather more student nodes",
            "the talk",
            "rank correlation of strength with the number of aligned student nodes at the end, mean over "
            f"students: {values_text('gathering')}; held from {CLEAR_ORDER} on for every p",
            held("gathering"),
        ),
        Claim(
            "it is strength that orders them: without decay there is no order",
            "control",
            "p = 0 is not among the decays, or there is one node only"
            if control is None
            else f"rank correlation of the index with how early: {control:.2f} at p = 0; held below 0.25",
            None if control is None else abs(control) < 0.25,
        ),
    )


def _table(decays: Sequence[Decay]) -> Table:
    rows = [
        (
            f"{each['decay']:g}", j + 1, round(each["strength"][j], 3), each["reached"][j],
            f"{each['found'][j]:.0%}", round(each["owned"][j], 1),
        )
        for each in decays
        for j in range(len(each["strength"]))
    ]  # fmt: skip
    columns = (
        "p",
        "teacher node",
        "strength",
        "steps until aligned (median)",
        "aligned",
        "student nodes at the end",
    )
    return Table("Teacher nodes by strength", columns, tuple(rows))


EXPERIMENT = Experiment(
    StrongFirst, {"nodes": 5, "decay": (0.0, 1.0, 1.5), "seeds": 16, "steps": 15_000}, run
)
