"""What pruning and analysis cost: processor time in forward passes over the same images, and what comes out.

    python benchmarks/cost.py [--cells resnet20@0.5/256,...] [--checkout ../other] [--seeds 0,1,2]

Each cell is measured in a process of its own, with one thread, by turns for every checkout, so that a busy
machine troubles all of them alike. A cell ``NETWORK@BUDGET/IMAGES`` prunes, ``NETWORK/IMAGES`` analyses.
Figures are kept in ``benchmarks/cost.jsonl`` by the commit of the checkout: a run goes on where the last one
was stopped. ``--show`` only shows what there is.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import Any

from record import Record, Row
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
CELLS = (
    *(f"resnet20@{budget}/{images}" for images in (256, 2048) for budget in (0.5, 0.3)),
    *(f"{name}/{images}" for images in (256, 2048) for name in ("mobilenet@0.3", "vit@0.2")),
    *(f"{name}@0.5/64" for name in ("resnet18", "resnet50", "mobilenetv3", "vit-small", "convnext-tiny")),
    *("resnet18@0.5/16", "vit-tiny@0.5/32", "lite0@0.75/1024", "resnet18/96"),
)
"""What is measured unless the command line says otherwise."""

FIGURES = ("forward passes", "memory, GB", "error", "accuracy, %", "agreement, %")


def key_of(cell: str, seed: int) -> dict[str, Any]:
    """The network, budget (0 for an analysis), images and seed of a cell."""
    subject, _, images = cell.rpartition("/")
    network, _, budget = subject.partition("@")
    return {"network": network, "budget": float(budget or 0), "images": int(images), "seed": seed}


def commit_of(checkout: Path) -> str:
    """The short hash of a checkout, with a mark where files were changed."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=checkout, capture_output=True, text=True
        ).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + "+" * bool(git("status", "--porcelain", "tsdistill"))


def measure(checkout: Path, key: dict[str, Any]) -> dict[str, Any]:
    """The figures of one cell by the toolkit in ``checkout``; a failure in place of them.

    What the benchmarks of the checkout have of the networks and data is taken from there: it imports that
    checkout's names.
    """
    paths = os.pathsep.join(map(str, (checkout, checkout / "benchmarks", HERE)))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-m", "costs.one", json.dumps(key)]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    if done.returncode:
        return {"failure": (done.stderr.strip().splitlines() or [str(done.returncode)])[-1][:200]}
    return json.loads(done.stdout.splitlines()[-1])


def table(rows: list[Row], cells: list[str], commits: list[str]) -> Table:
    """One line a cell and commit: the means over the seeds that there are."""
    shown = Table("cell", "commit", "seeds", *FIGURES)
    for cell in cells:
        for commit in commits:
            found = [row["figures"] for row in rows if (row["cell"], row["commit"]) == (cell, commit)]
            if found:
                shown.add_row(cell, commit, str(len(found)), *(_mean(found, name) for name in FIGURES))
    return shown


def _mean(figures: list[dict[str, Any]], name: str) -> str:
    values = [each[name] for each in figures if name in each]
    return f"{mean(values):.4g}" if values else ""


def main() -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cells", type=lambda text: text.split(","), default=list(CELLS))
    parser.add_argument("--checkout", type=Path, action="append", default=[], help="another one to measure")
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0])
    parser.add_argument("--show", action="store_true")
    arguments = parser.parse_args()
    record = Record(HERE / "cost.jsonl", lambda row: (row["cell"], row["commit"], str(row["seed"])))
    checkouts = {commit_of(path): path.resolve() for path in (*arguments.checkout, HERE.parent)}
    for cell in () if arguments.show else arguments.cells:
        for seed in arguments.seeds:
            for commit, checkout in checkouts.items():
                if (cell, commit, str(seed)) not in record.read():
                    print(f"{cell} seed {seed} {commit}", file=sys.stderr, flush=True)
                    figures = measure(checkout, key_of(cell, seed))
                    record.add({"cell": cell, "commit": commit, "seed": seed, "figures": figures})
    rows = list(record.read().values())
    commits = list(dict.fromkeys(row["commit"] for row in rows)) if arguments.show else list(checkouts)
    Console().print(table(rows, arguments.cells, commits))


if __name__ == "__main__":
    main()
