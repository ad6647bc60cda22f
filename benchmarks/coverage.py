"""Which architectures of timm, torchvision and others are cut to half of their MACs, and what fails.

    python benchmarks/coverage.py --sample | --all | NAME ... [--library torchvision] [--peer] [--jobs 2]

``--library transformers`` tries all of its types of models, made small (``covered/families.py``); ``--library
others`` networks of other libraries, of those that are installed (``covered/others.py``).

Every architecture runs in a process of its own with random weights, at its default input: recognised from a
bare state dict, traced, analysed against itself, pruned to 0.5 of the MACs, run, held against the original
with the removed nodes zeroed, saved, reloaded in another process bit for bit, and trained for a step.

Results are kept in ``benchmarks/coverage.jsonl``, so that a run goes on where the last one was stopped;
``--again failed`` or ``--again NAME`` does them once more. ``--quick`` draws the nodes that leave at random
and lets nothing absorb them, which is all that tracing, cut and files need. ``--show`` only shows what there
is, ``--docs`` writes it into ``docs/coverage.md``. ``--peer`` cuts half of every width with Torch-Pruning
(``pip install torch-pruning``) instead.
"""

from __future__ import annotations

import argparse
import os
import warnings
from fnmatch import fnmatch
from pathlib import Path

import torch
from covered.architectures import Architecture, every, others, standing, within
from covered.running import Limits, rows, shares, tried
from covered.table import document, show
from record import Name, Record, Row

HERE = Path(__file__).parent
SIZES = HERE / "covered"
LIBRARIES = ("timm", "torchvision", "transformers", "others")


def chosen(options: argparse.Namespace, library: str) -> list[Architecture]:
    """The architectures of a library that are asked for."""
    if library == "others":
        return others(options.names or ["*"])
    if options.names:
        return every(library, SIZES, options.names)
    known = every(library, SIZES)
    return standing(known) if library == "timm" and not options.all else within(known)


def missing(
    options: argparse.Namespace, wanted: list[Architecture], tried_before: dict[Name, Row]
) -> list[Architecture]:
    """Those that have not been tried yet, or are to be tried again."""

    def due(each: Architecture) -> bool:
        row = tried_before.get((kind_of(options), each.spec))
        if row is None:
            return True
        patterns = options.again or []
        return ("failed" in patterns and not row["passed"]) or any(fnmatch(each.name, p) for p in patterns)

    return [each for each in wanted if due(each)]


def kind_of(options: argparse.Namespace) -> str:
    """What is done with an architecture."""
    return "peer" if options.peer else "quick" if options.quick else "full"


def work(todo: list[Architecture], kind: str, record: Record, limits: Limits) -> None:
    """Try some architectures one after the other."""
    for each in todo:
        row = tried(each, kind, limits)
        record.add(row)
        figures = " ".join(f"{key} {row[key]}" for key in ("macs", "forwards", "took") if key in row)
        print(f"{each.name}: {row['cause'] or 'passes'} ({figures})", flush=True)


def main() -> None:
    """Try what is missing and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="or a pattern")
    parser.add_argument("--sample", action="store_true", help="two architectures of every family of timm")
    parser.add_argument("--all", action="store_true", help="all of timm up to 100 M parameters")
    parser.add_argument("--library", choices=LIBRARIES, default="timm")
    parser.add_argument("--peer", action="store_true", help="Torch-Pruning in place of this toolkit")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="nodes drawn at random, none absorbed, in place of analysis and planning",
    )
    parser.add_argument("--again", nargs="+", metavar="NAME", help="or 'failed'")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=600, help="for one architecture")
    parser.add_argument("--memory", type=float, default=10.0, help="gigabytes for one architecture")
    parser.add_argument("--results", type=Path, default=HERE / "coverage.jsonl")
    parser.add_argument("--show", action="store_true", help="try nothing")
    parser.add_argument("--docs", action="store_true", help="write the table into docs/coverage.md")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    record = rows(options.results)
    if not options.show:
        todo = missing(options, chosen(options, options.library), record.read())
        print(f"{len(todo)} architectures to try", flush=True)
        limits = Limits(options.seconds, options.memory)
        children = []
        for share in shares(todo, options.jobs):
            child = os.fork()
            if not child:
                work(share, kind_of(options), record, limits)
                os._exit(0)
            children.append(child)
        for child in children:
            os.waitpid(child, 0)
        record.tidy()
    sample = {each.spec for each in standing(every("timm", SIZES))}
    if options.docs:
        document(record.read(), sample, HERE.parent / "docs" / "coverage.md")
    show(record.read(), sample)


if __name__ == "__main__":
    main()
