"""Pruning without labels or gradient steps, beside Torch-Pruning: one table.

    python benchmarks/pruning.py [--networks resnet20,vit] [--rows ours,peer/l2] [--budgets 0.5,0.3]

The four networks of ``fashion.py`` (trained first, where that has not been done) and EfficientNet-Lite0 with
its ImageNet weights are cut to parts of their MACs. Rows: this toolkit from calibration images alone, and
Torch-Pruning (``pip install torch-pruning``) with each of its criteria, as cut and with batch norms'
statistics renewed on the same images. Then one epoch of the same fine-tuning for ours and for its two best
rows, and what ``latency`` promises. Every cell is kept in ``benchmarks/pruning.jsonl`` and its network in
``benchmarks/.cache``: a run goes on where the last one was stopped, and two runs may work on different cells
at once. All of it takes hours; ``--show`` only shows what there is. Parts: ``cut`` (prune and judge),
``speed`` (throughput; for a quiet machine), ``latency`` and ``tuned``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from fnmatch import fnmatch
from functools import partial
from itertools import product
from pathlib import Path

import torch
from pruned import cases
from pruned.cells import Cells
from pruned.jobs import Work, our_rows, peer_rows, say
from pruned.table import Shown, document, show

HERE = Path(__file__).parent
PARTS = ("cut", "speed", "latency", "tuned")


def wanted(row: str, patterns: list[str]) -> bool:
    """Whether a row meets a pattern or begins with it."""
    return any(fnmatch(row, pattern) or row.startswith(f"{pattern}/") for pattern in patterns)


def rows(case: cases.Case, patterns: list[str]) -> list[str]:
    """Rows of a network that are wanted: the usual ones that a pattern meets, and others that it names."""
    usual = [row for row in (*our_rows(case.attends), *peer_rows(case.attends)) if wanted(row, patterns)]
    return usual + [row for row in peer_rows(case.attends, True) if row in patterns and row not in usual]


def cuts(work: Work, options: argparse.Namespace) -> list[tuple[Callable[[], None], float]]:
    """What is still to be pruned, in order of interest, and about how many seconds it takes."""
    case, found = work.case, []
    judging = work.test_pass()
    for images in options.images or case.images:
        for row in rows(case, options.rows):
            if row.startswith("peer"):
                job = partial(work.peers, row, case.budgets, 0, images)
                keys = [work.key(row, budget, 0, images) for budget in case.budgets]
                seconds = sum(work.cells.get(key) is None for key in keys) * (1.5 * judging + 5)
                found.append((job, seconds))
                continue
            for seed in options.seeds:
                for budget in case.budgets:
                    one = partial(work.ours, row, budget, seed, images)
                    done = work.cells.get(work.key(row, budget, seed, images)) is not None
                    found.append((one, 0 if done else (1 + images / 500) * judging + 15))
    return [(job, seconds) for job, seconds in found if seconds]


def run(works: list[Work], options: argparse.Namespace) -> None:
    """Compute the cells that are missing."""
    parts = options.parts
    todo = [each for work in works for each in cuts(work, options)] if "cut" in parts else []
    minutes = sum(seconds for _, seconds in todo) / 60
    say(f"{len(todo)} rows to prune, about {minutes:.0f} minutes; parts: {', '.join(parts)}")
    for work in works:
        work.dense()
    for job, _ in todo:
        job()
    for work in works:
        chosen = rows(work.case, options.rows)
        if "speed" in parts:
            for row, budget in product(chosen, work.case.budgets):
                work.timed(row, budget)
        if "latency" in parts and "ours/realigned" in chosen:
            work.promised()
    for work in works:
        if "tuned" in parts and work.case.trainable:
            shown = Shown.of(work)
            for budget in work.case.budgets:
                for row in ("ours/realigned", *shown.best_peers(budget)):
                    if wanted(row, options.rows):
                        work.fine_tuned(row, budget)


def numbers(kind: type) -> Callable[[str], list]:
    """A parser of numbers with commas between them."""
    return lambda text: [kind(part) for part in text.split(",")]


def main() -> None:
    """Compute what is missing and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words = numbers(str)
    parser.add_argument("--networks", type=words, default=list(cases.NAMES), metavar="NAME,…")
    parser.add_argument(
        "--rows", type=words, default=["ours", "peer"], metavar="ROW,…", help="or their beginning"
    )
    parser.add_argument(
        "--budgets", type=numbers(float), metavar="PART,…", help="of the MACs; each network has its own"
    )
    parser.add_argument("--seeds", type=numbers(int), default=[0, 1, 2], metavar="SEED,…", help="of our rows")
    parser.add_argument("--images", type=numbers(int), metavar="COUNT,…", help="for calibration")
    parser.add_argument("--parts", type=words, default=list(PARTS), metavar="PART,…", help=", ".join(PARTS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--fresh", action="store_true", help="compute the chosen parts anew")
    parser.add_argument("--show", action="store_true", help="compute nothing")
    parser.add_argument(
        "--stale", action="store_true", help="with --show: our cells by whatever code made them"
    )
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--docs", action="store_true", help="write the table into docs/pruning.md")
    options = parser.parse_args()
    for given, known in ((options.networks, cases.NAMES), (options.parts, PARTS)):
        if unknown := set(given) - set(known):
            parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    torch.set_num_threads(options.threads)
    cells = Cells(HERE / "pruning.jsonl", HERE / ".cache" / "cells", options.parts if options.fresh else ())
    chosen = [cases.case(name) for name in options.networks]
    for case in chosen:
        case.budgets = tuple(options.budgets or case.budgets)
    works = [Work(case, cells) for case in chosen if case.ready or not options.show]
    if not options.show:
        run(works, options)
    shown = [Shown.of(work, options.stale) for work in works]
    if options.docs:
        document(shown, HERE.parent / "docs" / "pruning.md")
    show(shown, options.markdown)


if __name__ == "__main__":
    main()
