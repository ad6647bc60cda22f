"""Over-realised students of a pruned ConvNet: are wider ones better aligned, and do they generalise better?

``python examples/cifar10/experiment.py [OUT]`` is ``tsdistill lab cifar10`` from Python: a teacher, its
strong nodes, students of 1, 2, 5 and 10 times their width, then the table and two figures in OUT.
Killed at any moment and called again, it goes on where it was. README.md says what it does.
"""

import sys
from pathlib import Path

from rich.console import Console

import tsdistill as tsd
from tsdistill.lab.figures import claims_table, outcome_table, save_outcome


def main(out: Path) -> None:
    """Run what is not done yet, show it and write it to ``out``."""
    outcome = tsd.lab.run("cifar10", keep=out / "cells", tell=tell, settings={"data": "fashion-mnist"})
    console = Console(highlight=False)
    for table in outcome.tables:
        console.print(outcome_table(table))
    console.print(claims_table(outcome.claims))
    print(*outcome.notes, sep="\n")
    print("written:", *save_outcome(outcome, out).pictures)


def tell(phase: str, done: int, total: int | None) -> None:
    """A line for each epoch."""
    print(f"{phase}: {done} of {total}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out/cifar10"))
