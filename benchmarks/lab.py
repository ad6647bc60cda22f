"""The lab's engine against a plain loop: networks times steps a second, and how far their results agree.

``python benchmarks/lab.py [--quick]`` prints two tables. The plain loop trains one two-layer student after
the other in float64, as a script for one network does: every step draws a batch, runs teacher and student,
and applies the gradient, which is written out (autograd and an optimiser would cost it more). It has as many
processes as there are cores, each with networks of its own. The engine trains all networks at once on as
many threads, in float32. Both do the same update.

``ratio`` is what counts. Two stricter ones take away what makes it large beside the batching: ``own
samples`` has the engine draw samples for every network (and not one batch that all networks share), ``given
samples`` is the engine against a plain loop whose samples are drawn for it beforehand and at no cost.

``share of GEMM`` is the engine's floating-point operations a second (products of matrices only, teacher's
included) over what a product of two 1024 x 1024 float32 matrices reaches on all cores in the same run.

Agreement: both train the same starts on the same samples; what differs is precision and order of summation.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from tsdistill.lab.engine import (
    GaussianSamples,
    Networks,
    best_correlations,
    decaying_teachers,
    losses,
    random_students,
    stacked,
    train,
)

INPUTS, NODES, OUTPUTS, BATCH, RATE, START = 100, 5, 50, 16, 0.01, 0.1
DECAYS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5)
SEEDS = range(32)
WIDTHS = (1, 2, 5, 10)
CORES = len(os.sched_getaffinity(0))


class Plain:
    """One teacher and one student in float64, trained step by step."""

    def __init__(self, teachers: Networks, students: Networks, place: int) -> None:
        def own(each: Tensor) -> Tensor:
            return each[place].double().clone()

        self.w, self.v, self.b = own(students.fan_in), own(students.fan_out), own(students.biases[0])
        self.w_star, self.v_star = own(teachers.fan_in), own(teachers.fan_out)
        self.b_star = own(teachers.biases[0])

    def step(self, x: Tensor) -> None:
        """One update on samples ``x [B, d]``."""
        y = (x @ self.w_star.T + self.b_star).relu() @ self.v_star
        h = (x @ self.w.T + self.b).relu()
        residual = (y - h @ self.v) / len(x)
        back = (residual @ self.v.T) * (h > 0)
        self.v += RATE * (h.T @ residual)
        self.w += RATE * (back.T @ x)
        self.b += RATE * back.sum(0)

    def student(self) -> Networks:
        """The student as a stack of one."""
        return Networks((self.w[None], self.v[None]), (self.b[None],))


@dataclass(frozen=True)
class Speeds:
    """Networks times steps a second of each way in one round."""

    plain: float
    plain_given: float
    engine: float
    engine_own: float
    gemm: float


def pair(width: int, seeds: range | list[int], decay: float) -> tuple[Networks, Networks]:
    """Teachers and students of one decay, in float32."""
    teachers = decaying_teachers(seeds, INPUTS, NODES, OUTPUTS, decay)
    return teachers, random_students(seeds, INPUTS, (width * NODES,), OUTPUTS, scale=START)


def plain_seconds(width: int, seed: int, steps: int, given: bool) -> float:
    """How long the plain loop takes for one network, set-up not counted."""
    torch.set_num_threads(1)
    loop = Plain(*pair(width, [seed], 1.0), 0)
    generator = torch.Generator().manual_seed(seed)
    known = torch.randn(64, BATCH, INPUTS, dtype=torch.float64, generator=generator)
    start = time.perf_counter()
    for step in range(steps):
        loop.step(
            known[step % 64]
            if given
            else torch.randn(BATCH, INPUTS, dtype=torch.float64, generator=generator)
        )
    return time.perf_counter() - start


def plain_rate(pool: ProcessPoolExecutor, width: int, steps: int, given: bool) -> float:
    """Networks times steps a second of the plain loop in one process a core."""
    spent = list(pool.map(plain_seconds, [width] * CORES, range(CORES), [steps] * CORES, [given] * CORES))
    return sum(steps / each for each in spent)


def engine_rate(width: int, steps: int, own: bool) -> float:
    """Networks times steps a second of the engine on all cores: every decay and seed at once."""
    pairs = [pair(width, SEEDS, decay) for decay in DECAYS]
    teachers, students = (stacked([each[side] for each in pairs]) for side in (0, 1))
    samples = GaussianSamples(0, INPUTS, networks=students.count if own else None)
    start = time.perf_counter()
    train(students, teachers, samples, steps=steps, batch=BATCH, rate=RATE)
    return students.count * steps / (time.perf_counter() - start)


def gemm_rate() -> float:
    """Floating-point operations a second of large float32 products, one thread a core."""

    def run(_: int) -> float:
        torch.set_num_threads(1)
        a, b, out = (torch.ones(1024, 1024) for _ in range(3))
        start = time.perf_counter()
        for _ in range(20):
            torch.mm(a, b, out=out)
        return 20 * 2 * 1024**3 / (time.perf_counter() - start)

    with ThreadPoolExecutor(CORES) as pool:
        return sum(pool.map(run, range(CORES)))


def operations(width: int) -> int:
    """Floating-point operations of a step of one network: products of matrices, the teacher's included."""
    n = width * NODES
    return 2 * BATCH * (n * (2 * INPUTS + 3 * OUTPUTS) + NODES * (INPUTS + OUTPUTS))


def agreement(width: int, steps: int, count: int = 4) -> tuple[float, float, float, float]:
    """How results differ after ``steps`` of both on the same samples.

    Returns:
        largest relative difference of the weights, of the loss; largest difference of a teacher node's best
        correlation; the loss.
    """
    seeds = list(range(count))
    teachers, students = pair(width, seeds, 1.0)
    loops = [Plain(teachers, students, place) for place in seeds]
    samples = GaussianSamples(1, INPUTS)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for _ in range(steps // 50):
        x = samples.rows(50 * BATCH).double()
        for loop in loops:
            for k in range(50):
                loop.step(x[k * BATCH : (k + 1) * BATCH])
    torch.set_num_threads(threads)
    train(students, teachers, GaussianSamples(1, INPUTS), steps=steps, batch=BATCH, rate=RATE)
    plain, exact = stacked([loop.student() for loop in loops]), teachers.to(dtype=torch.float64)
    ours = students.to(dtype=torch.float64)
    apart = max(
        float((a - b).flatten(1).norm(dim=1).div(b.flatten(1).norm(dim=1)).max())
        for a, b in zip(ours.weights, plain.weights, strict=True)
    )
    x = GaussianSamples(2, INPUTS, dtype=torch.float64).rows(4096)
    loss, reference = losses(exact, ours, x), losses(exact, plain, x)
    matched = best_correlations(exact, ours, x)[0] - best_correlations(exact, plain, x)[0]
    return (
        apart,
        float((loss / reference - 1).abs().max()),
        float(matched.abs().max()),
        float(reference.mean()),
    )


def measured(pool: ProcessPoolExecutor, width: int, rounds: int, seconds: float) -> list[Speeds]:
    """Every way in turn, ``rounds`` times over, each for about so many seconds."""
    plain_steps, engine_steps, own_steps = (
        max(64, int(seconds * rate))
        for rate in (
            plain_rate(pool, width, 300, False) / CORES,
            engine_rate(width, 64, False) / 192,
            engine_rate(width, 16, True) / 192,
        )
    )
    return [
        Speeds(
            plain_rate(pool, width, plain_steps, False),
            plain_rate(pool, width, plain_steps, True),
            engine_rate(width, engine_steps, False),
            engine_rate(width, own_steps, True),
            gemm_rate(),
        )
        for _ in range(rounds)
    ]


def geometric_mean(values: list[float]) -> float:
    """exp of the mean logarithm."""
    return math.exp(sum(math.log(value) for value in values) / len(values))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="The lab's engine against a plain float64 loop.")
    parser.add_argument("--quick", action="store_true", help="one short round")
    given = parser.parse_args()
    rounds, seconds = (1, 0.5) if given.quick else (5, 2.0)
    with ProcessPoolExecutor(CORES, multiprocessing.get_context("spawn")) as pool:
        speeds = {width: measured(pool, width, rounds, seconds) for width in WIDTHS}
    print(
        f"d = {INPUTS}, m = {NODES}, c = {OUTPUTS}, batch {BATCH}; {CORES} cores; 192 networks at once; "
        f"median of {rounds} rounds\n"
    )
    print("| over-realised | plain / s | engine / s | ratio | own samples | given samples | share of GEMM |")
    print("|" + "---:|" * 7)
    ratios: list[list[float]] = []
    for width, every in speeds.items():
        plain, engine = (median(getattr(each, name) for each in every) for name in ("plain", "engine"))
        row = [
            median(each.engine / each.plain for each in every),
            median(each.engine_own / each.plain for each in every),
            median(each.engine / each.plain_given for each in every),
            median(each.engine * operations(width) / each.gemm for each in every),
        ]
        ratios.append(row)
        shown = " | ".join(f"{value:.1f}x" for value in row[:3])
        print(f"| {width}x | {plain:,.0f} | {engine:,.0f} | {shown} | {row[3]:.0%} |")
    means = [geometric_mean([row[column] for row in ratios]) for column in range(4)]
    shown = " | ".join(f"{value:.1f}x" for value in means[:3])
    print(f"| geometric mean | | | {shown} | {means[3]:.0%} |")
    gemm = median(each.gemm for every in speeds.values() for each in every)
    print(f"\nproducts of matrices: {gemm / 1e9:.0f} GFLOP/s in float32\n")
    steps = 500 if given.quick else 2000
    print(f"agreement after {steps} steps on the same samples (4 networks)\n")
    print("| over-realised | weights | loss | best correlation | loss itself |")
    print("|" + "---:|" * 5)
    for width in WIDTHS:
        apart, loss, matched, size = agreement(width, steps)
        print(f"| {width}x | {apart:.1e} | {loss:.1e} | {matched:.1e} | {size:.2e} |")


if __name__ == "__main__":
    main()
