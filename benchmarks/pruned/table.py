"""The table: one line a row, one column a budget; and what it says of the bars that were set."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tsdistill.files import atomic_file

from . import peer
from .jobs import PROMISE, Work

SEEDS = range(10)
BEGIN, END = "<!-- benchmarks/pruning.py -->", "<!-- end of benchmarks/pruning.py -->"
_TITLES = {
    "ours/realigned": "tsdistill",
    "ours/cut-only": "tsdistill, not re-aligned",
    "ours/whole-heads": "tsdistill, not re-aligned, whole heads",
}
_STATES = {"score": "as cut", "renewed": "batch norms renewed", "tuned": "one epoch"}


@dataclass
class Entry:
    """One line's figures at one budget: a score for each calibration seed."""

    scores: list[float] = field(default_factory=list)
    macs: list[float] = field(default_factory=list)
    speed: float | None = None
    seconds: list[float] = field(default_factory=list)
    failed: str = ""

    @property
    def mean(self) -> float:
        """Mean score."""
        return statistics.mean(self.scores)

    def text(self, budget: float) -> str:
        """The mean, its spread (standard deviation), throughput, and the MACs where they are off."""
        if not self.scores:
            return "fails" if self.failed else ""
        words = f"{self.mean:.2f}"
        if len(self.scores) > 1:
            words += f" ±{statistics.stdev(self.scores):.2f}"
        if self.speed is not None:
            words += f" · {self.speed:.2f}x"
        if self.macs and abs(statistics.mean(self.macs) - budget) > 0.01:
            words += f" (at {statistics.mean(self.macs):.2f})"
        return words


@dataclass
class Line:
    """One line of the table.

    Attributes:
        row: ``ours/…`` or ``peer/CRITERION/SCOPE``.
        images: calibration images.
        state: ``score`` (as cut), ``renewed`` or ``tuned``.
        entries: by budget.
    """

    row: str
    images: int
    state: str
    entries: dict[float, Entry]

    @property
    def title(self) -> str:
        """What the row is called."""
        if self.row in _TITLES:
            return _TITLES[self.row]
        _, criterion, scope = self.row.split("/")
        return f"Torch-Pruning {peer.CRITERIA[criterion].title}, {scope}, {_STATES[self.state]}"

    @property
    def mean(self) -> float | None:
        """Mean over the budgets, when all of them are there."""
        means = [entry.mean for entry in self.entries.values() if entry.scores]
        return statistics.mean(means) if means and len(means) == len(self.entries) else None


@dataclass
class Shown:
    """A network's part of the table.

    Attributes:
        name: of the network on the command line.
        title: in the table.
        figure: what the scores are.
        labels: where labels come from for criteria that use gradients.
        dense: the dense network's score.
        budgets: the columns.
        images: calibration sizes, the main one first.
        lines: all but the fine-tuned ones.
        tuned: after an epoch.
        promise: figures of the latency row.
    """

    name: str
    title: str
    figure: str
    labels: str
    dense: float
    budgets: tuple[float, ...]
    images: tuple[int, ...]
    lines: list[Line]
    tuned: list[Line]
    promise: dict[str, Any] | None

    @classmethod
    def of(cls, work: Work, stale: bool = False) -> Shown:
        """What has been computed of a network; with ``stale``, by whatever code."""
        case = work.case

        def cell(row: str, budget: float, seed: int, images: int, kind: str = "cut") -> dict[str, Any] | None:
            key = work.key(row, budget, seed, images, kind)
            return work.cells.get(key) or (work.cells.latest(key) if stale else None)

        def line(row: str, images: int, state: str) -> Line:
            entries: dict[float, Entry] = {}
            for budget in case.budgets:
                entry = entries[budget] = Entry()
                kind, figure = ("tuned", "score") if state == "tuned" else ("cut", state)
                for seed in SEEDS:
                    found = cell(row, budget, seed, images, kind)
                    if found is None:
                        continue
                    entry.failed = entry.failed or found.get("failed", "")
                    if found.get(figure) is not None:
                        entry.scores.append(found[figure])
                        entry.macs += [found["macs"]] if "macs" in found else []
                        entry.seconds.append(found["seconds"])
                if state != "tuned" and (timed := cell(row, budget, 0, 0, "speed")) is not None:
                    entry.speed = timed["speed"]
            return Line(row, images, state, entries)

        scopes = tuple(peer.SCOPES)
        rivals = [f"peer/{criterion}/{scope}" for criterion in peer.CRITERIA for scope in scopes]
        lines = [line(row, images, "score") for images in case.images for row in _TITLES]
        for state in ("renewed", "score"):
            for images in case.images if state == "renewed" else case.images[:1]:
                lines += [line(row, images, state) for row in rivals]
        tuned = [line(row, case.images[0], "tuned") for row in ("ours/realigned", *rivals)]
        return cls(
            name=case.name,
            title=case.title,
            figure=case.figure,
            labels=case.labels,
            dense=work.dense(),
            budgets=case.budgets,
            images=case.images,
            lines=[each for each in lines if _any(each)],
            tuned=[each for each in tuned if _any(each)],
            promise=cell("ours/realigned", PROMISE, 0, 0, "latency"),
        )

    def ours(self, images: int, row: str = "ours/realigned") -> Line | None:
        """This toolkit's line."""
        return next((each for each in self.lines if (each.row, each.images) == (row, images)), None)

    def rivals(self, images: int) -> Iterator[Line]:
        """Torch-Pruning's lines that saw so many images (those as cut saw none or are in the main part)."""
        for each in self.lines:
            if each.row.startswith("peer") and each.images == images:
                yield each

    def best_peers(self, budget: float, count: int = 2) -> list[str]:
        """The peer's best rows at a budget, as cut or renewed."""
        scores: dict[str, float] = {}
        for each in self.rivals(self.images[0]):
            if each.entries[budget].scores:
                scores[each.row] = max(scores.get(each.row, 0.0), each.entries[budget].mean)
        return sorted(scores, key=lambda row: -scores[row])[:count]


def _any(line: Line) -> bool:
    return any(entry.scores or entry.failed for entry in line.entries.values())


def body(shown: Shown) -> tuple[list[str], list[list[str]], list[str]]:
    """Header, rows and footnotes of a network's part."""
    header = ["", "images", *(f"{budget:g} of the MACs" for budget in shown.budgets), "mean"]
    rows, notes = [], []
    for line in (*shown.lines, *shown.tuned):
        title = f"{line.title}, one epoch" if line.state == "tuned" and line.row in _TITLES else line.title
        blind = line.row.startswith("peer") and line.state == "score" and not _labelled(line.row)
        mean = "" if line.mean is None else f"{line.mean:.2f}"
        figures = [entry.text(budget) for budget, entry in line.entries.items()]
        if any(figures) and not (line.state == "renewed" and set(figures) <= {"", "fails"}):
            seen = "none" if blind else f"{line.images}{', with labels' if _labelled(line.row) else ''}"
            rows.append([title, seen, *figures, mean])
        for budget, entry in line.entries.items():
            if entry.failed and line.state == "score":
                notes.append(f"{line.title} at {budget:g}: {entry.failed}")
    return header, rows, notes


def _labelled(row: str) -> bool:
    return row.startswith("peer") and bool(peer.CRITERIA[row.split("/")[1]].gradients)


def markdown(shown: Sequence[Shown]) -> str:
    """The whole as Markdown."""
    from .verdicts import verdicts

    parts = []
    for each in shown:
        header, rows, notes = body(each)
        parts.append(f"### {each.title}: dense {each.dense:.2f}\n\n{_caption(each)}\n")
        parts.append(_pipes(header))
        parts.append(_pipes(["---"] * 2 + ["---:"] * (len(header) - 2)))
        parts += [_pipes(row) for row in rows]
        parts.append("")
        parts += [*(f"- fails: {note}" for note in notes), ""] if notes else []
    parts += ["### What was asked for", "", *(f"- {line}" for line in verdicts(shown)), ""]
    return "\n".join(parts)


def show(shown: Sequence[Shown], as_markdown: bool = False) -> None:
    """Print the whole."""
    from .verdicts import verdicts

    if as_markdown:
        print(markdown(shown))
        return
    console = Console(width=170, highlight=False)
    for each in shown:
        header, rows, notes = body(each)
        table = Table(*header, title=f"{each.title}: dense {each.dense:.2f}", caption=_caption(each))
        for row in rows:
            table.add_row(*row)
        console.print(table)
        for note in notes:
            console.print(f"fails: {note}", markup=False)
    for line in verdicts(shown):
        console.print(line, markup=False)


def document(shown: Sequence[Shown], path: Path) -> None:
    """Put the whole between two markers of a page, at its end where there are none."""
    page = path.read_text() if path.exists() else "# Pruning\n"
    if BEGIN not in page:
        page = f"{page.rstrip()}\n\n{BEGIN}\n{END}\n"
    before, _, rest = page.partition(BEGIN)
    with atomic_file(path) as beside:
        beside.write_text(f"{before}{BEGIN}\n{markdown(shown)}{END}{rest.partition(END)[2]}")


def _pipes(values: Sequence[str]) -> str:
    return f"| {' | '.join(values)} |"


def _caption(shown: Shown) -> str:
    return (
        f"{shown.figure[0].upper()}{shown.figure[1:]}; ± standard deviation over calibration seeds; "
        "times the dense network's throughput at batch 32 on one CPU thread. "
        f"Taylor and Hessian also see labels: {shown.labels}."
    )
