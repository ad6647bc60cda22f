"""Moments of matched groups: the teacher's samples of a batch wait until the student's come by."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

import numpy as np
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from tsdistill.alignment.hooks import Hooks
from tsdistill.alignment.moments import Moments, RunningMoments
from tsdistill.alignment.sites import Positions, Site, Sites, channels_first, spread, widen
from tsdistill.errors import TsdistillError

Size = tuple[int, ...]


class Pairing:
    """Hooks for both models of a pair of groups each, and what they have collected.

    Feature maps of different sizes are averaged down to the coarser one.
    """

    def __init__(
        self,
        student: nn.Module,
        student_sites: Sites,
        teacher: nn.Module,
        teacher_sites: Sites,
        pairs: Mapping[str, str],
        positions: Positions,
    ) -> None:
        self._positions = positions
        self._running = {name: RunningMoments() for name in pairs}
        self._sizes: dict[str, list[Size]] = {name: [] for name in pairs}
        self._calls = dict.fromkeys(pairs, 0)
        self._waiting: dict[str, deque[tuple[Tensor, Size]]] = {name: deque() for name in pairs}
        measure: dict[str, list[Callable[[Tensor], None]]] = {}
        left: dict[str, list[Callable[[Tensor], None]]] = {}
        right: dict[str, list[Callable[[Tensor], None]]] = {}
        for name, other in pairs.items():
            mine, theirs = student_sites.primary(name), teacher_sites.primary(other)
            if mine is None or theirs is None:
                continue
            site_s, site_t = student_sites.sites[mine.site], teacher_sites.sites[theirs.site]
            width = max(mine.reader.coords.size, theirs.reader.coords.size)
            measure.setdefault(site_s.module, []).append(self._measure(name, site_s))
            right.setdefault(site_t.module, []).append(self._keep(name, site_t, theirs.reader.coords, width))
            left.setdefault(site_s.module, []).append(self._meet(name, site_s, mine.reader.coords, width))
        self.measuring = Hooks(student, measure)
        self._student = Hooks(student, left)
        self._teacher = Hooks(teacher, right)

    def student(self) -> Hooks:
        """Hooks to be entered around the student's forward."""
        return self._student

    def teacher(self) -> Hooks:
        """Hooks to be entered around the teacher's forward, which comes first; begins a batch."""
        for name, queue in self._waiting.items():
            queue.clear()
            self._calls[name] = 0
        return self._teacher

    def _measure(self, name: str, site: Site) -> Callable[[Tensor], None]:
        def measure(x: Tensor) -> None:
            self._sizes[name].append(tuple(channels_first(x, site.channel_dim).shape[2:]))

        return measure

    def _keep(self, name: str, site: Site, coords: np.ndarray, width: int) -> Callable[[Tensor], None]:
        def keep(x: Tensor) -> None:
            call = self._calls[name]
            self._calls[name] += 1
            if call >= len(self._sizes[name]):
                return
            channels = channels_first(x.detach(), site.channel_dim)
            mine, theirs = self._sizes[name][call], tuple(channels.shape[2:])
            if len(mine) != len(theirs) or (mine != theirs and len(mine) != 2):
                raise TsdistillError(
                    f"group {name!r}: the student's map {list(mine)} and the teacher's {list(theirs)} "
                    "cannot be compared; give models that see the same positions"
                )
            size = tuple(min(pair) for pair in zip(mine, theirs, strict=True))
            self._waiting[name].append((self._nodes(channels, size, coords, width), size))

        return keep

    def _meet(self, name: str, site: Site, coords: np.ndarray, width: int) -> Callable[[Tensor], None]:
        def meet(x: Tensor) -> None:
            if not self._waiting[name]:
                raise TsdistillError(
                    f"group {name!r} is read more often in the student than in the teacher; "
                    "they cannot be compared"
                )
            teacher, size = self._waiting[name].popleft()
            student = self._nodes(channels_first(x.detach(), site.channel_dim), size, coords, width)
            if student.shape[0] != teacher.shape[0]:
                raise TsdistillError(
                    f"group {name!r} has {student.shape[0]} samples a batch in the student and "
                    f"{teacher.shape[0]} in the teacher; they cannot be compared"
                )
            self._running[name].update(student, teacher)

        return meet

    def _nodes(self, channels: Tensor, size: Size, coords: np.ndarray, width: int) -> Tensor:
        """``[N, C, positions...]`` to ``[samples·m, nodes]`` at the common resolution."""
        if tuple(channels.shape[2:]) != size:
            channels = adaptive_avg_pool2d(channels, (size[0], size[1]))
        channels = channels.flatten(2) if channels.ndim > 2 else channels[:, :, None]
        total = channels.shape[2]
        subset = self._positions.subset(total, self._positions.wanted(width, total))
        if subset is not None:
            channels = channels.index_select(2, subset.to(channels.device))
        return widen(spread(channels.transpose(1, 2).reshape(-1, channels.shape[1]), coords))

    def finish(self) -> dict[str, Moments]:
        """The moments of every pair that was seen."""
        return {name: running.finish() for name, running in self._running.items() if running.seen}
