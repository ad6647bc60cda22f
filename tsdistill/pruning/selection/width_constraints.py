"""How far each group may shrink, and in which steps."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from math import ceil, gcd, lcm

import numpy as np

from tsdistill.errors import TsdistillError
from tsdistill.tracing.graph import Group, NodeGraph

_ADAPTERS = frozenset(("lora_A", "lora_embedding_A", "lora_down"))
"""What peft, loralib and diffusers call the first of the two matrices of a low-rank adapter."""


@dataclass(frozen=True)
class WidthConstraints:
    """What may stay of each group.

    Attributes:
        sizes: group -> its nodes.
        floors: group -> the least number of nodes that stays, one that ``steps`` allows.
        steps: group -> its width is a multiple of this, or whole.
    """

    sizes: Mapping[str, int]
    floors: Mapping[str, int]
    steps: Mapping[str, int]

    def below(self, name: str, kept: int) -> int:
        """The largest allowed width of a group that is not above ``kept`` (at least its floor)."""
        if kept >= self.sizes[name]:
            return self.sizes[name]
        return max(self.floors[name], kept // self.steps[name] * self.steps[name])

    def above(self, name: str, kept: int) -> int:
        """The smallest allowed width of a group that is above ``kept``."""
        step = self.steps[name]
        return min(self.sizes[name], max(self.floors[name], (kept // step + 1) * step))


def constraints_of(
    graph: NodeGraph,
    *,
    min_nodes: int | None = None,
    round_to: int | None = None,
    only: Sequence[str] | str = (),
    exclude: Sequence[str] | str = (),
    whole: Collection[str] = (),
    share: float = 0.1,
    dense: Mapping[str, int] | None = None,
) -> WidthConstraints:
    """The limits of every group.

    Args:
        graph: the network.
        min_nodes: nodes that stay in every group (all of them in a smaller one). By default ``share`` of the
            group and at least one.
        round_to: a group that loses nodes ends at a width that is a multiple of this; one in which no such
            width is left is not pruned.
        only: patterns (``*``, ``?``, ``[ab]``) of names of groups; others are not pruned. Without any, the
            ranks of LoRA adapters are not pruned: they were chosen, and cost next to nothing.
        exclude: patterns of names of groups that are not pruned.
        whole: names of groups that are not pruned.
        share: see ``min_nodes``.
        dense: group -> nodes that it had before earlier cuts, which ``share`` is a part of.

    Raises:
        TsdistillError: a pattern that meets no group, or nothing left to cut.
    """
    kept_whole = {*whole, *_left_out(graph, _listed(only), _listed(exclude))}
    floors, steps = {}, {}
    for group in graph.groups:
        step = lcm(group.step, 1 if round_to is None else step_of(group, round_to))
        size = (dense or {}).get(group.name, group.size)
        least = min_nodes if min_nodes is not None else max(1, ceil(size * share))
        floor = ceil(least / step) * step
        steps[group.name] = step
        floors[group.name] = group.size if group.name in kept_whole else min(group.size, floor)
    return WidthConstraints(graph.widths, floors, steps)


def step_of(group: Group, round_to: int) -> int:
    """How many nodes go at a time so that every width that a layer has of the group is a multiple.

    A node that holds a run of neighbouring channels everywhere (a head, a block of a grouped convolution)
    counts as that many; one that holds the same place in several blocks counts as one, which is what the
    width of each block goes by.
    """
    runs = 0
    for slot in group.slots:
        rows = slot.coords.reshape(group.size, -1)
        breaks = np.ones((group.size, rows.shape[1] + 1), dtype=bool)
        breaks[:, 1:-1] = np.diff(rows, axis=1) != 1
        places = np.flatnonzero(breaks[:, :-1]) % rows.shape[1]
        runs = gcd(runs, *np.unique(places).tolist(), rows.shape[1])
        if runs == 1:
            break
    return round_to // gcd(round_to, runs or 1)


def _listed(patterns: Sequence[str] | str) -> list[str]:
    return [patterns] if isinstance(patterns, str) else list(patterns)


def _left_out(graph: NodeGraph, only: Sequence[str], exclude: Sequence[str]) -> set[str]:
    """Names of groups that are not pruned because of the patterns."""
    names = list(graph.widths)
    wanted = _met("only", only, names) if only else {g.name for g in graph.groups if not _is_rank(g)}
    wanted -= _met("exclude", exclude, names)
    if not wanted and (only or exclude):
        raise TsdistillError("only and exclude leave no group that could be cut; exclude less")
    return set(names) - wanted


def _is_rank(group: Group) -> bool:
    """Whether the nodes of a group are the rank of a low-rank adapter."""
    named = [any(part in _ADAPTERS for part in writer.split(".")) for writer in group.writers]
    return bool(named) and all(named)


def _met(what: str, patterns: Sequence[str], names: Sequence[str]) -> set[str]:
    matches: set[str] = set()
    for pattern in patterns:
        met = {name for name in names if fnmatchcase(name, pattern)}
        if not met:
            near = get_close_matches(pattern, names, n=5, cutoff=0.4) or names[:5]
            more = f" (of {len(names)})" if len(near) < len(names) else ""
            raise TsdistillError(f"{what} {pattern!r} meets no group; near are {', '.join(near)}{more}")
        matches |= met
    return matches
