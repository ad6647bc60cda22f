"""Strong teacher nodes are learnt first and gather more student nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tsdistill.lab import engine
from tsdistill.lab.engine.node_statistics import mean, rank_correlation, rounded
from tsdistill.lab.experiment import Context, Experiment
from tsdistill.lab.experiments.two_layer import DecaySettings, checked_device, trained_stack
from tsdistill.lab.results import Claim, Outcome, Table
from tsdistill.options.option_fields import option

CLEAR_ORDER = 0.5
"""Rank correlation from which on a claim on an order counts as held: clearly above
the 0 of no order."""

Decay = dict[str, Any]


@dataclass(frozen=True)
class StrongFirst(DecaySettings):
    """The settings of strong-first: teachers of decaying strength, and the training."""

    nodes: int = option(10, "Nodes m of the teachers", above=0)
    over: int = option(10, "Over-realisation: student nodes for each teacher node", above=0)
    decay: tuple[float, ...] = option(
        (0.0, 0.5, 1.0, 1.5), "Strength decays p: fan-out norms fall as 1/j^p; 0 is the control", least=0
    )
    start: float = 0.3


def run(settings: StrongFirst, context: Context) -> Outcome:
    """Record the best correlation of each teacher node, and count its student nodes at the end.

    Theorem 5 of arXiv 1909.13458 allows a larger gradient for a stronger teacher node, so that it is
    recovered earlier. A student node is counted for the teacher node with which it correlates best, if by
    0.9 or more.

    Raises:
        TsdistillError: the stack does not fit into memory.
    """
    where = checked_device(settings, settings.nodes, settings.over)
    at = engine.observation_steps(settings.steps, 32)

    def tell(step: int) -> None:
        context.tell("students", at.index(step) + 1, len(at))

    key = settings.key() | {"at": at}
    decays: list[Decay] = engine.cached(
        context.keep, "strong-first", key, lambda: _trained(settings, at, tell, where)
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
    settings: StrongFirst, at: Sequence[int], tell: Callable[[int], None], where: Mapping[str, Any]
) -> list[Decay]:
    m = settings.nodes
    stack = trained_stack(settings, m, settings.over, at, tell, where)
    every = engine.correlations(stack.teachers, stack.students, stack.x).cpu()
    best, which = every.max(1)
    counts = torch.stack([((which == j) & (best >= engine.ALIGNED)).sum(1) for j in range(m)], 1)
    shape = (len(settings.decay), settings.seeds, m)
    matched, owned = stack.record.correlations.unflatten(1, shape[:2]), counts.view(shape)
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
        "found": rounded((matched[-1] >= engine.ALIGNED).double().mean(0)),
        "order": rounded(mean([rank_correlation(index, (-row).tolist()) for row in reached])),
        "gathering": rounded(mean([rank_correlation(index, row.tolist()) for row in owned])),
    }


def _reached(at: Sequence[int], matched: Tensor) -> Tensor:
    """The first of the steps ``at`` after which each teacher node has an aligned student, ``[S, m]``.

    If there is none: after the last step, by one step for each hundredth that its best correlation lacks to
    0.9.
    """
    aligned = matched >= engine.ALIGNED
    steps = torch.tensor(at, dtype=torch.float64)
    first = steps[aligned.int().argmax(0)]
    return torch.where(aligned.any(0), first, steps[-1] + 1 + 100 * (engine.ALIGNED - matched[-1]).double())


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
