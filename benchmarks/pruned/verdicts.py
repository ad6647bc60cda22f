"""What the table says of the bars that were set."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from .jobs import PROMISE
from .table import Line, Shown

LOSSES = {
    "resnet20": {0.5: 0.3, 0.3: 1.5, 0.2: 3.0},
    "convnet": {0.5: 1.0},
    "mobilenet": {0.5: 1.0},
    "vit": {0.5: 1.0},
}
"""Points that may be lost, by network and budget."""

FEWER, BEHIND, OFF = 1.0, 0.2, 0.05
"""Points that fewer images may cost; points behind a peer; part by which a latency may miss."""


def verdicts(shown: Sequence[Shown]) -> list[str]:
    """One line for each bar of each network."""
    return [line for each in shown for line in _of(each)]


def _of(shown: Shown) -> Iterator[str]:
    main = shown.ours(shown.images[0])
    seconds = [each for entry in main.entries.values() for each in entry.seconds] if main else []
    if main is None or not seconds:
        yield f"{shown.title}: ours has not been measured"
        return
    longest = max(seconds)
    yield f"{shown.title}: a cut takes {statistics.mean(seconds):.0f} s on average, {longest:.0f} s at most"
    for budget, most in LOSSES.get(shown.name, {}).items():
        if main.entries[budget].scores:
            lost = shown.dense - main.entries[budget].mean
            seeds = len(main.entries[budget].scores)
            yield _say(
                shown, lost <= most, f"loses {lost:.2f} at {budget:g} (at most {most:g}; {seeds} seeds)"
            )
    for images in shown.images[1:]:
        yield from _fewer(shown, main, images)
    yield from _cells(shown, main)
    yield from _means(shown, main)
    yield from _tuned(shown)
    if shown.promise is not None and "failed" in shown.promise:
        yield _say(shown, False, f"latency {PROMISE:g}: {shown.promise['failed']}")
    elif shown.promise is not None:
        reached, lost = shown.promise["reached"], shown.dense - shown.promise["score"]
        yield _say(
            shown,
            abs(reached / PROMISE - 1) <= OFF,
            f"latency {PROMISE:g} asked, {reached:.3f} measured ({shown.promise['dense_ms']:.2f} ms to "
            f"{shown.promise['ms']:.2f} ms), {lost:.2f} points lost",
        )


def _fewer(shown: Shown, main: Line, images: int) -> Iterator[str]:
    fewer = shown.ours(images)
    both = [
        (main.entries[budget].mean - fewer.entries[budget].mean, budget)
        for budget in shown.budgets
        if fewer is not None and fewer.entries[budget].scores and main.entries[budget].scores
    ]
    if both:
        worst, budget = max(both)
        yield _say(
            shown,
            worst <= FEWER,
            f"{images} images instead of {main.images} cost at most {worst:.2f} points, at {budget:g}",
        )


def _cells(shown: Shown, main: Line) -> Iterator[str]:
    """How far ahead of the peer's best cell."""
    ahead = [
        (main.entries[budget].mean - line.entries[budget].mean, budget, line.title)
        for line in shown.rivals(main.images)
        for budget in shown.budgets
        if line.entries[budget].scores and main.entries[budget].scores
    ]
    if ahead:
        worst, budget, title = min(ahead)
        behind = sum(margin < -BEHIND for margin, *_ in ahead)
        yield _say(
            shown,
            not behind,
            f"never more than {BEHIND} behind a cell of the peer: {behind} of {len(ahead)} are; "
            f"smallest margin {worst:+.2f} at {budget:g} ({title})",
        )


def _means(shown: Shown, main: Line) -> Iterator[str]:
    ahead = [
        (main.mean - line.mean, line.title)
        for line in shown.rivals(main.images)
        if main.mean is not None and line.mean is not None
    ]
    if ahead:
        worst, title = min(ahead)
        yield _say(
            shown,
            worst > 0,
            f"ahead on the mean of all {len(ahead)} rows of the peer: smallest margin {worst:+.2f} ({title})",
        )


def _tuned(shown: Shown) -> Iterator[str]:
    mine = next((line for line in shown.tuned if line.row.startswith("ours")), None)
    if mine is None:
        return
    for budget in shown.budgets:
        theirs = [
            (line.entries[budget].mean, line.title)
            for line in shown.tuned
            if line is not mine and line.entries[budget].scores
        ]
        if theirs and mine.entries[budget].scores:
            best, title = max(theirs)
            own = mine.entries[budget].mean
            yield _say(
                shown, own > best, f"after one epoch at {budget:g}: {own:.2f} against {best:.2f} ({title})"
            )


def _say(shown: Shown, met: bool, words: str) -> str:
    return f"{shown.title}: {'met' if met else 'NOT met'}: {words}"
