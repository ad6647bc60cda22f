"""Budgets of what is measured (latency, memory): cut, measure, correct, until it is what was asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import log
from statistics import median, stdev
from typing import Any

from torch import nn

from tsdistill.alignment.report import AlignmentReport
from tsdistill.errors import BudgetUnreachable
from tsdistill.options.option_fields import written
from tsdistill.options.pruning_options import SelectionOptions
from tsdistill.pruning.plan_file import PruningPlan
from tsdistill.pruning.selection.budget import Budget, amount
from tsdistill.pruning.selection.cost import Reading, cost_of, measured_cost
from tsdistill.pruning.selection.planner import choose_nodes
from tsdistill.runtime.latency import in_turns
from tsdistill.runtime.nests import repeated
from tsdistill.tracing import cut
from tsdistill.tracing.graph import Frozen, NodeGraph

TOLERANCE = 0.05
"""How far the measured latency may be from the one asked for, as a part of it."""

_CLOSE = 0.02
"""A trial as near as this ends the search."""
TRIALS = 6
"""At most so many plans are cut and measured."""
_TURNS = 12
"""Timed passes of each model in a block, taken alternately."""

_BLOCKS = (5, 25)
"""Blocks of timed passes, at least and at most."""

_SURE = 0.01
"""Relative standard error of the ratio of two latencies at which timing ends."""

_SECONDS = 10.0
"""Seconds of timing after which no further block is started, once there are as many as needed."""


Timer = Callable[..., list[list[float]]]


@dataclass(frozen=True, eq=False)
class LatencyLimit:
    """The limit, in seconds of the price, whose plan gives the latency that was asked for.

    Attributes:
        limit: what ``choose_nodes(limit=...)`` takes.
        plan: the plan at that limit.
        reading: dense and cut model timed in turns.
        asked: part of the dense model's latency that was asked for.
        trials: every ``(limit, measured part)`` that was tried, in order.
        put_back: groups that could not be cut, and why; ``plan`` leaves them whole.
        notes: lines for the user: what was measured, and whether noise makes it meaningless.
    """

    limit: float
    plan: PruningPlan
    reading: Reading
    asked: float
    trials: tuple[tuple[float, float], ...]
    put_back: tuple[Frozen, ...]
    notes: tuple[str, ...]


def read(dense: nn.Module, small: nn.Module, example: Any, *, timer: Timer = in_turns) -> Reading:
    """Time two models in turns, in blocks of a dozen passes, until their ratio is known to one percent.

    Between 5 and 25 blocks; after ten seconds no further one begins. How much the blocks differ tells how
    much noise there is.
    """
    blocks: list[tuple[list[float], list[float]]] = []
    spent, noise = 0.0, 1.0
    least, most = _BLOCKS
    while len(blocks) < least or (len(blocks) < most and spent < _SECONDS and noise > _SURE):
        whole, part = timer([dense, small], example, repeats=_TURNS, max_seconds=_SECONDS / least)
        blocks.append((whole, part))
        spent += sum(whole) + sum(part)
        ratios = [median(part) / median(whole) for whole, part in blocks]
        noise = stdev(ratios) / (median(ratios) * len(ratios) ** 0.5) if len(ratios) > 1 else 1.0
    medians = [median(second for block in blocks for second in block[side]) for side in (0, 1)]
    return Reading(medians[0], medians[1], noise)


def find_limit(
    model: nn.Module,
    graph: NodeGraph,
    example: Any,
    target: Budget,
    plan_for: Callable[[float, Collection[str]], PruningPlan],
    price: Any,
    *,
    dense: nn.Module | None = None,
    batch_size: int = 1,
    trials: int = TRIALS,
    timer: Timer = in_turns,
    measure: Callable[[nn.Module, nn.Module, Any], Reading] | None = None,
) -> LatencyLimit:
    """Find the limit at which the cut model has the latency that ``target`` asks for, on this device.

    The same for any other cost that is measured (`cost.MeasuredCost`). Plans are cut from a copy of ``model``
    without any data, since weights do not change how long a pass takes; the copy and the dense model are
    measured, and the limit is corrected until the two are as asked for, within 5 %.

    Args:
        model: the model that is cut; it is left as it was.
        graph: its node graph.
        example: an input of batch 1.
        target: a latency budget: a part of the dense model's latency, or seconds.
        plan_for: gives the plan at a limit (seconds of the price), with these groups left whole.
        price: what the operations of ``graph`` cost.
        dense: the model that the budget refers to; ``model`` itself by default, another one in later rounds.
        batch_size: samples in the passes that are timed.
        trials: at most so many plans are cut and measured.
        timer: measures models in turns, as `tsdistill.runtime.latency.in_turns` does.
        measure: the cost of two models, in place of their latency.

    Raises:
        BudgetUnreachable: the smallest model that can be had takes longer.
        TsdistillError: the budget is above what the dense model has, or a forward pass fails.
    """
    reference = model if dense is None else dense
    inputs = repeated(example, batch_size)
    measure = measure or partial(read, timer=timer)
    first = measure(reference, model, inputs)
    target.absolute(first.dense)
    points = [(price.value(graph), 1.0 if dense is None else first.ratio)]
    readings = [first]
    plans: list[PruningPlan] = []
    put_back: dict[str, Frozen] = {}
    too_small = 0.0
    for _ in range(trials):
        asked = _part(target, readings)
        limit = next_limit(points, asked)
        if limit <= too_small:
            limit = (too_small + min(points)[0]) / 2
        try:
            cut, small = _cut(model, graph, example, plan_for, limit, put_back)
        except BudgetUnreachable:
            if not plans:
                raise
            too_small = limit
            continue
        readings.append(measure(reference, small, inputs))
        plans.append(cut)
        points.append((limit, readings[-1].ratio))
        if abs(readings[-1].ratio / asked - 1) <= _CLOSE:
            break
    asked = _part(target, readings)
    best = min(range(len(plans)), key=lambda trial: abs(log(readings[trial + 1].ratio / asked)))
    reading = readings[best + 1]
    if too_small and reading.ratio > (1 + TOLERANCE) * asked:
        raise BudgetUnreachable(
            f"a budget of {target} cannot be met: the smallest model measured takes {reading.ratio:.3g} of "
            f"the dense model's {_words(target.kind, reading.dense)}; lower {written('min_nodes')} or "
            "give more"
        )
    noise = median(each.noise for each in readings)
    notes = tuple(_notes(target, asked, reading, noise, len(plans), batch_size))
    return LatencyLimit(
        points[best + 1][0], plans[best], reading, asked, tuple(points[1:]), tuple(put_back.values()), notes
    )


def plan_for_measured(
    model: nn.Module,
    report: AlignmentReport,
    budget: Budget,
    selection: SelectionOptions = SelectionOptions(),
    *,
    example: Any,
) -> LatencyLimit:
    """The plan that meets a budget of what is measured (`find_limit`), from an alignment report.

    Args:
        model: the model that was reported on.
        report: its alignment report, with its statistics.
        budget: what is kept, of latency or another measured cost.
        selection: which nodes may leave, and how they are ordered.
        example: an input of batch 1.
    """
    cost = measured_cost(budget.kind)
    assert cost is not None
    price = cost.estimate(model, report.graph, example)

    def plan_for(limit: float, whole: Collection[str]) -> PruningPlan:
        return choose_nodes(report, budget, selection, limit=limit, price=price, whole=whole)

    return find_limit(model, report.graph, example, budget, plan_for, price, measure=cost.measure)


def next_limit(points: Sequence[tuple[float, float]], asked: float) -> float:
    """The limit to try next, from what was measured: ``(limit, part of the dense latency)``, the whole first.

    On the line through the first point that is nearest to the others, those near ``asked`` counting most:
    noise in single measurements evens out, and where the line bends its near part decides.
    """
    whole, ratio = points[0]
    if ratio <= asked:
        return whole
    last = min((limit for limit, _ in points[1:]), default=whole)
    if len(points) == 1:
        return whole * asked / ratio
    weights = [1 / (0.01 + abs(part - asked)) ** 2 for _, part in points[1:]]
    pairs = [(1 - limit / whole, ratio - part) for limit, part in points[1:]]
    slope = sum(w * x * y for w, (x, y) in zip(weights, pairs, strict=True)) / sum(
        w * x * x for w, (x, _) in zip(weights, pairs, strict=True)
    )
    wanted = whole * (1 - (ratio - asked) / slope) if slope > 0 else 0.0
    return min(max(wanted, 0.5 * last), 0.99 * whole)


def _cut(
    model: nn.Module,
    graph: NodeGraph,
    example: Any,
    plan_for: Callable[[float, Collection[str]], PruningPlan],
    limit: float,
    put_back: dict[str, Frozen],
) -> tuple[PruningPlan, nn.Module]:
    """The plan at ``limit`` and the model cut by it; groups that cannot be cut join ``put_back``."""
    while True:
        plan = plan_for(limit, tuple(put_back))
        done = cut(model, graph, plan.removed, example)
        if not done.put_back:
            return plan, done.model
        put_back.update({item.name: item for item in done.put_back})


def _part(target: Budget, readings: Sequence[Reading]) -> float:
    """The part of the dense model's latency that is asked for, by all that was measured of it so far."""
    if target.limit is None:
        assert target.kept is not None
        return target.kept
    return target.limit / median(reading.dense for reading in readings)


def _notes(
    target: Budget, asked: float, reading: Reading, noise: float, trials: int, batch_size: int
) -> Iterator[str]:
    words = cost_of(target.kind).amounts.words
    turns = ", both models in turns" if target.kind == "latency" else ""
    yield (
        f"{words} at batch {batch_size}{turns}: {_words(target.kind, reading.small)} of "
        f"{_words(target.kind, reading.dense)}, {reading.ratio:.3f} of the dense model's; asked for: "
        f"{target} ({asked:.3f}), noise {100 * noise:.1f} %"
    )
    if noise > TOLERANCE / 2 or 1 - asked < 2 * noise:
        yield (
            f"the {words} budget means little here: noise leaves {100 * noise:.1f} % in doubt of what is "
            f"measured; measure on a quieter machine, or give {written('macs')}"
        )
    elif abs(reading.ratio / asked - 1) > TOLERANCE:
        yield (
            f"the {words} asked for was not reached within {100 * TOLERANCE:.0f} % after {trials} trials; "
            f"{written('min_nodes')} and {written('round_to')} leave few widths to choose from"
        )


def _words(kind: str, value: float) -> str:
    return f"{1e3 * value:.3g} ms" if kind == "latency" else amount(kind, value)
