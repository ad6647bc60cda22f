"""The steps of a run that reach the rest of it through one summand of a sum only."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tsdistill.tracing.data_flow import SUMS, DataFlow
from tsdistill.tracing.trace_aligner import operator_kind

_ADDITIVE = frozenset(("add", "add_", "sub", "sub_", "cat", "addcmul", "addcmul_"))
"""Operators that hand on each operand as it is; others hand on a stream only where all operands are it."""

_SHORTCUT_DEPTH = 1
"""Layers one behind the other in a projection beside a branch: one convolution or one linear layer."""


@dataclass(frozen=True)
class Region:
    """One summand of a sum.

    Attributes:
        sums: the sums, one for each time that the same code has run.
        roots: the steps that gave the summand.
        steps: the steps on which nothing but this summand depends.
    """

    sums: tuple[int, ...]
    roots: tuple[int, ...]
    steps: frozenset[int]


def regions(flow: DataFlow) -> list[Region]:
    """The summands that are residual branches, in the order of their sums.

    Such a summand is computed with weights, on every way from the stream, which is another summand of the
    same sum or what that one is computed from.
    """
    finder = _Finder(flow)
    sites: dict[tuple[str, int], list[int]] = defaultdict(list)
    for number, key in finder.sites():
        sites[key].append(number)
    return [region for sums in sites.values() for region in finder.branches(sums)]


class _Finder:
    """Looks for branches in one run."""

    def __init__(self, flow: DataFlow) -> None:
        self._flow = flow

    def sites(self) -> list[tuple[int, tuple[str, int]]]:
        """Every sum of data, with the module that it is in and its number among the sums of one call."""
        starts: dict[str, list[int]] = defaultdict(list)
        for call in self._flow.calls:
            starts[call.module].append(call.first)
        sums: list[tuple[int, tuple[str, int]]] = []
        counts: dict[tuple[str, int], int] = defaultdict(int)
        for number, step in enumerate(self._flow.steps):
            if step.op not in SUMS or not step.sides or not self._flow.live[number]:
                continue
            start = max((first for first in starts[step.module] if first <= number), default=0)
            counts[step.module, start] += 1
            sums.append((number, (step.module, counts[step.module, start])))
        return sums

    def branches(self, sums: Sequence[int]) -> list[Region]:
        """The summands of a sum that are branches."""
        sides = [self._region(sums, place) for place in (0, 1)]
        candidates = []
        for place, region in enumerate(sides):
            if region.steps and self._weighted(region) and self._parallel(region, sums, 1 - place):
                candidates.append(region)
        if len(candidates) == len(sides):
            depths = [self._depth(region) for region in sides]
            if min(depths) <= _SHORTCUT_DEPTH and min(depths) < max(depths):
                return [sides[depths.index(max(depths))]]
        return candidates

    def _region(self, sums: Sequence[int], side: int) -> Region:
        steps: set[int] = set()
        roots: list[int] = []
        for number in sums:
            other = self._flow.steps[number].sides[1 - side]
            own = self._flow.steps[number].sides[side]
            roots += own
            allowed, ends = {number}, [-place for place in own]
            heapq.heapify(ends)
            while ends:
                place = -heapq.heappop(ends)
                step = self._flow.steps[place]
                if place in allowed or place in other or place < self._flow.inputs:
                    continue
                if all(reader in allowed for reader in self._flow.consumers[place]):
                    allowed.add(place)
                    for source in step.sources:
                        heapq.heappush(ends, -source)
            steps |= allowed - {number}
        return Region(tuple(sums), tuple(roots), frozenset(steps))

    def _weighted(self, region: Region) -> bool:
        """Whether every root is computed from the stream with weights on every way."""
        carried: dict[int, bool] = {}
        for number in sorted(region.steps):
            step = self._flow.steps[number]
            data = [source for source in step.sources if self._flow.steps[source].data]
            kept = [carried.get(source, self._flow.steps[source].floating) for source in data]
            through = any(kept) if operator_kind(step.op) in _ADDITIVE else bool(kept) and all(kept)
            carried[number] = through and not step.weighted
        return all(not carried.get(root, True) for root in region.roots) and any(
            self._flow.steps[number].weighted for number in region.steps
        )

    def _parallel(self, region: Region, sums: Sequence[int], side: int) -> bool:
        """Whether the summand on ``side`` is what the region is computed from, or hangs on it."""
        steps = self._flow.steps
        read = {source for place in region.steps for source in steps[place].sources} - region.steps
        streams = {source for source in read if steps[source].data and steps[source].floating}
        behind = self._flow.ancestors(streams)
        for number in sums:
            stream = set(steps[number].sides[side])
            if not (streams & self._flow.ancestors(stream) or stream & behind):
                return False
        return True

    def _depth(self, region: Region) -> int:
        """Layers one behind the other in the region."""
        depth: dict[int, int] = {}
        for number in sorted(region.steps):
            step = self._flow.steps[number]
            depth[number] = step.weighted + max((depth.get(source, 0) for source in step.sources), default=0)
        return max(depth.values(), default=0)
