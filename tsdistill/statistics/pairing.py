"""Moments of matched groups: the teacher's samples of a batch wait until the student's come by."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor, nn

from tsdistill.errors import TsdistillError
from tsdistill.options.option_fields import written
from tsdistill.runtime.hooks import Clock, InputHooks
from tsdistill.statistics import distributed
from tsdistill.statistics.centred_sums import CentredSums, PendingSamples
from tsdistill.statistics.common_grid import CommonGrid, common_grid, nodes
from tsdistill.statistics.moments import Moments, moments_of
from tsdistill.statistics.sample_blocks import PositionSampler, channels_first, widen
from tsdistill.statistics.sites import GroupSite, ModelSites, ReaderInput

Listener = Callable[[Tensor, Tensor], None]
"""Is handed the rows ``[samples, S]`` and ``[samples, T]`` of a pair of groups as they come."""


@dataclass(eq=False)
class _PairState:
    """One pair of groups: how it is read, what waits, what has been summed."""

    name: str
    student: GroupSite
    site: ReaderInput
    teacher: GroupSite
    teacher_site: ReaderInput
    sums: CentredSums
    listeners: Sequence[Listener]
    pending: PendingSamples = field(default_factory=PendingSamples)
    student_shapes: list[tuple[int, ...]] = field(default_factory=list)
    teacher_shapes: list[tuple[int, ...]] = field(default_factory=list)
    meetings: list[CommonGrid] = field(default_factory=list)
    waiting: deque[Tensor] = field(default_factory=deque)
    teacher_calls: int = 0
    student_calls: int = 0

    @property
    def average(self) -> bool:
        return self.student.reader.coords.shape[1] != self.teacher.reader.coords.shape[1]

    @property
    def width(self) -> int:
        return max(len(self.student.reader.coords), len(self.teacher.reader.coords))

    def meet(self) -> None:
        """Settle where the calls of this pair meet; the later ones count where there are more in one
        model."""
        calls = min(len(self.student_shapes), len(self.teacher_shapes))
        for student_shape, teacher_shape in zip(
            self.student_shapes[-calls:], self.teacher_shapes[-calls:], strict=True
        ):
            self.meetings.append(
                common_grid(
                    student_shape[1:], teacher_shape[1:], windows=student_shape[0] != teacher_shape[0]
                )
            )

    def take(self, left: Tensor, right: Tensor) -> None:
        for student, teacher in self.pending.add(left, right):
            self.account(student, teacher)

    def account(self, student: Tensor, teacher: Tensor) -> None:
        self.sums.add(student, teacher)
        if self.listeners:
            rows = [block.transpose(1, 2).reshape(-1, block.shape[1]) for block in (student, teacher)]
            for listener in self.listeners:
                listener(*rows)


class PairedMoments:
    """Hooks for both models of a pair of groups each, and what they have collected.

    Args:
        student: the student.
        student_sites: its sites.
        teacher: the teacher; the student itself when it stands beside itself.
        teacher_sites: its sites.
        pairs: student group -> teacher group, read at their primary readings.
        positions: which positions are looked at.
        full: keep each side's covariances too.
        listeners: by student group, who else wants the rows.
        clock: counts the time under ``moments``.
    """

    def __init__(
        self,
        student: nn.Module,
        student_sites: ModelSites,
        teacher: nn.Module,
        teacher_sites: ModelSites,
        pairs: Mapping[str, str],
        positions: PositionSampler,
        *,
        full: bool = False,
        listeners: Mapping[str, Sequence[Listener]] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock
        self._positions = positions
        self._alone = teacher is student
        self._pairs: dict[str, _PairState] = {}
        for name, other in pairs.items():
            student_input, teacher_input = student_sites.primary(name), teacher_sites.primary(other)
            if student_input is None or teacher_input is None:
                continue
            self._pairs[name] = _PairState(
                name,
                student_input,
                student_sites.sites[student_input.site],
                teacher_input,
                teacher_sites.sites[teacher_input.site],
                CentredSums(full=full),
                (listeners or {}).get(name, ()),
            )
        self._batch = 0
        self._student = self._hooks(student, self._meet, lambda pair: pair.site.module)
        self._teacher = self._hooks(teacher, self._keep, lambda pair: pair.teacher_site.module)
        self._measures = (
            self._hooks(student, self._measure_student, lambda pair: pair.site.module),
            self._hooks(teacher, self._measure_teacher, lambda pair: pair.teacher_site.module),
        )

    def _hooks(
        self,
        model: nn.Module,
        look: Callable[[_PairState, Tensor], None],
        module: Callable[[_PairState], str],
    ) -> InputHooks:
        hooks: dict[str, list[Callable[[Tensor], None]]] = {}
        for pair in self._pairs.values():
            hooks.setdefault(module(pair), []).append(partial(look, pair))
        return InputHooks(model, hooks, self._clock, "moments")

    def measure(self, student: Callable[[], object], teacher: Callable[[], object]) -> None:
        """Run both models on one sample to see where their positions meet."""
        with self._measures[0]:
            student()
        with self._measures[1]:
            teacher()
        for pair in self._pairs.values():
            pair.meet()

    def begin(self, samples: int) -> None:
        """A batch of so many samples begins."""
        self._batch = samples
        for pair in self._pairs.values():
            pair.waiting.clear()
            pair.teacher_calls = pair.student_calls = 0

    def student(self) -> InputHooks:
        """Hooks to be entered around the student's forward, which comes second."""
        return self._student

    def teacher(self) -> InputHooks:
        """Hooks to be entered around the teacher's forward."""
        return self._teacher

    def _measure_student(self, pair: _PairState, x: Tensor) -> None:
        channels = channels_first(x, pair.site.channel_dim)
        pair.student_shapes.append((channels.shape[0], *channels.shape[2:]))

    def _measure_teacher(self, pair: _PairState, x: Tensor) -> None:
        channels = channels_first(x, pair.teacher_site.channel_dim)
        pair.teacher_shapes.append((channels.shape[0], *channels.shape[2:]))

    def _keep(self, pair: _PairState, x: Tensor) -> None:
        call = pair.teacher_calls - (len(pair.teacher_shapes) - len(pair.meetings))
        pair.teacher_calls += 1
        if call >= 0:
            block = self._block(pair, call, x, pair.teacher_site, pair.teacher)
            shared = block.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
            pair.waiting.append(block.clone() if shared else block)

    def _meet(self, pair: _PairState, x: Tensor) -> None:
        call = pair.student_calls - (len(pair.student_shapes) - len(pair.meetings))
        pair.student_calls += 1
        if call < 0:
            return
        block = self._block(pair, call, x, pair.site, pair.student)
        if self._alone:
            pair.take(block, block)
        elif pair.waiting:
            teacher_block = pair.waiting.popleft()
            if block.shape[0] != teacher_block.shape[0] or block.shape[2] != teacher_block.shape[2]:
                raise TsdistillError(
                    f"group {pair.name!r} ({block.shape[0]}x{block.shape[2]} samples) and its partner "
                    f"{pair.teacher.group!r} ({teacher_block.shape[0]}x{teacher_block.shape[2]}) do not "
                    f"see the same; pair it with another group ({written('pairs')})"
                )
            pair.take(block, teacher_block.to(block.device))

    def _block(self, pair: _PairState, call: int, x: Tensor, site: ReaderInput, reading: GroupSite) -> Tensor:
        grid = pair.meetings[call]
        block = grid.resample(channels_first(x.detach(), site.channel_dim), self._batch)
        wanted = self._positions.for_pairs(pair.width, block.shape[2])
        chosen = self._positions.take(block, wanted)
        return widen(nodes(chosen, reading.reader.coords, average=pair.average))

    @property
    def sums(self) -> dict[str, CentredSums]:
        """What has been summed of every pair, nothing waiting any more."""
        for pair in self._pairs.values():
            for student, teacher in pair.pending.rest():
                pair.account(student, teacher)
        return {name: pair.sums for name, pair in self._pairs.items()}

    @property
    def words(self) -> dict[str, str]:
        """How the positions of every pair were brought together, in whichever process has seen some."""
        words = {name: pair.meetings[-1].words for name, pair in self._pairs.items() if pair.meetings}
        return {name: words for part in distributed.gather(words) for name, words in part.items()}

    def finish(self) -> dict[str, Moments]:
        """The moments of every pair that was seen, those of all processes together."""
        sums = self.sums
        distributed.combine(sums)
        return {name: moments_of(each) for name, each in sums.items() if each.n}
