"""The cut model beside the trace of the whole one, operator by operator: which sizes are stale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from tsdistill.errors import TsdistillError
from tsdistill.runtime.modes import (
    BY_SIZES,
    Inputs,
    OwnFault,
    factor,
    first_line,
    operator_name,
    plain_evaluation,
)
from tsdistill.runtime.module_names import attributes_read, module_names
from tsdistill.runtime.nests import tensors
from tsdistill.tracing.sibling_modules import run_all
from tsdistill.tracing.trace_aligner import TraceAligner
from tsdistill.tracing.trace_record import Record, Step

_VIEWS = ("aten.view.default", "aten._unsafe_view.default")


@dataclass(frozen=True)
class StaleSize:
    """A size argument ``computed`` that should be ``wanted``, the number of ``labels`` that are kept."""

    step: Step
    computed: int
    wanted: int
    labels: np.ndarray


@dataclass(frozen=True)
class StaleRow:
    """Size arguments ``computed`` that should be ``wanted``: how many of each of ``labels`` are kept."""

    step: Step
    computed: tuple[int, ...]
    wanted: tuple[int, ...]
    labels: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class ReplayResult:
    """What a replay found.

    Attributes:
        stale: sizes that no longer fit.
        rows: rows of sizes, all of them labelled, some of which no longer fit.
        broken: the module in which it broke off (None if it went through).
        cause: why it broke off.
        output: the tensors that came out; those of the plain cut model where nothing was stale.
            Where the model chooses by values, those behind them that are judged, too.
        scaled: steps that multiply by another number than in the trace, and by how many times that.
        reached: how many steps of the trace had run at the end.
        place: where in the code it broke off: an instruction of every function that was running.
        read: ``(module, attribute)`` of the numbers that the code had read off modules when it broke off,
            the last one first (only of a replay that watches).
        seen: sizes of the tensors whose shape the code had asked for (only of a replay that watches).
    """

    stale: tuple[StaleSize, ...]
    broken: str | None
    cause: str = ""
    output: tuple[torch.Tensor, ...] = ()
    scaled: tuple[tuple[Step, float], ...] = ()
    rows: tuple[StaleRow, ...] = ()
    reached: int = 0
    place: tuple[tuple[str, int], ...] = ()
    read: tuple[tuple[str, str], ...] = ()
    seen: frozenset[int] = frozenset()

    @property
    def clean(self) -> bool:
        """Whether the model went through by itself."""
        return not self.stale and self.broken is None


@dataclass(frozen=True, eq=False)
class CutRun:
    """A run of a cut model, and the same run of the whole model.

    Attributes:
        model: the cut model.
        inputs: what it is run on.
        record: of the run of the whole model on ``inputs``.
        gone: bool [nodes], the removed nodes.
    """

    model: nn.Module
    inputs: Inputs
    record: Record
    gone: np.ndarray

    def replay(self, *, watch: bool = False) -> ReplayResult:
        """See `replay`."""
        return replay(self.model, self.inputs, self.record, self.gone, watch=watch)

    def count(self, labels: np.ndarray) -> int:
        """How many of ``labels`` are kept."""
        return int(self.record.keeps(labels, self.gone).sum())


class _Replay(TraceAligner):
    """Runs the cut model operator by operator beside the trace, putting stale sizes right on the fly."""

    def __init__(self, record: Record, gone: np.ndarray) -> None:
        super().__init__(record, gone)
        self.stale: list[StaleSize] = []
        self.rows: list[StaleRow] = []
        self.scaled: list[tuple[Step, float]] = []
        self.within = False
        self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        step = None if self.within else self.next(operator_name(func))
        if step is not None:
            args = self._resize(step, list(args)) if step.sizes else args
            if step.factor is not None:
                now = factor(step.op, args)
                if now is not None and now != step.factor:
                    self.scaled.append((step, now / step.factor))
            repeated = self.repeated(func, args, kwargs or {}, step, whole=False)
            if repeated is not None:
                return repeated
        try:
            out = func(*args, **(kwargs or {}))
        except RuntimeError:
            if not self.stale or operator_name(func) not in _VIEWS:
                raise
            out = args[0].reshape(args[1])  # whether it copies was decided by sizes that were stale
        if step is not None and self.record.judges(step):
            self.compared += tensors(out)
        return out

    @contextmanager
    def call(self) -> Iterator[None]:
        """A call of a function that picks its operators by sizes, which other sizes run by other operators:
        none of them is looked for in the trace, which goes on behind its own."""
        self.calls += 1
        self.within = True
        try:
            yield
        finally:
            self.within = False
        self.position, self.mismatches = self.record.behind.get(self.calls, self.position), 0

    def _resize(self, step: Step, args: list[Any]) -> list[Any]:
        asked, known = list(args), len(self.stale)
        if any(index is not None and index >= len(args[place]) for place, index, _ in step.sizes):
            return args  # a view of another rank than in the trace: torch folds dimensions of size 1 away
        for place, index, labels in step.sizes:
            size = args[place] if index is None else args[place][index]
            if size == -1:
                continue
            wanted = self.count(step, size, labels)
            if index is None:
                args[place] = wanted
            else:
                args[place] = [*args[place][:index], wanted, *args[place][index + 1 :]]
        if step.shape and not _fits(args[1], args[0].numel()):
            labelled = {index for _, index, _ in step.sizes}
            args[1] = [n if d in labelled else step.shape[d] for d, n in enumerate(args[1])]
        if len(self.stale) > known and "split_with_sizes" in step.op and len(step.sizes) == len(args[1]):
            each = tuple(labels for _, _, labels in step.sizes)
            self.rows.append(StaleRow(step, tuple(asked[1]), tuple(args[1]), each))
            self.count(step, sum(asked[1]), np.concatenate(each))
        return args

    def count(self, step: Step, size: int, labels: np.ndarray) -> int:
        """How many of ``labels`` are kept (negative where ``size`` counts from the end); another
        ``size`` is recorded as stale."""
        wanted = int(self.record.keeps(labels, self.gone).sum()) * (-1 if size < 0 else 1)
        if size != wanted:
            self.stale.append(StaleSize(step, int(size), wanted, labels))
        return wanted


class _Composite(TorchFunctionMode):
    """Puts stale sizes right in functions that check their arguments before any operator runs."""

    def __init__(self, replay: _Replay) -> None:
        super().__init__()
        self.replay = replay

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if func in BY_SIZES:
            with self.replay.call():
                return func(*args, **kwargs)
        if name == "__getitem__":
            return func(args[0], self._sliced(args[1]))
        if name not in ("reshape", "unflatten", "group_norm"):
            return func(*args, **kwargs)
        position, known = self.replay.position, len(self.replay.stale)
        try:
            return func(*args, **kwargs)
        except (RuntimeError, ValueError):
            if self.replay.position != position or len(self.replay.stale) != known:
                raise
            return func(*self._resize(name, list(args)), **kwargs)

    def _sliced(self, index: Any) -> Any:
        """``index`` with the ends of its slices corrected (one that reaches too far runs no operator)."""
        steps = self.replay.record.trace.steps
        items = list(index) if isinstance(index, tuple) else [index]
        position = self.replay.position
        while position < len(steps) and "slice" in steps[position].op:
            for place, _, labels in steps[position].sizes:
                for i, item in enumerate(items):
                    if not isinstance(item, slice) or len(labels) != (
                        item.stop if place == 3 else item.start
                    ):
                        continue
                    wanted = self.replay.count(steps[position], len(labels), labels)
                    start, stop = (item.start, wanted) if place == 3 else (wanted, item.stop)
                    items[i] = slice(start, stop, item.step)
            position += 1
        return tuple(items) if isinstance(index, tuple) else items[0]

    def _resize(self, name: str, args: list[Any]) -> list[Any]:
        """The arguments that the coming operator of the trace asks for."""
        replay = self.replay
        if name == "group_norm":
            coming = replay.record.trace.steps[replay.position : replay.position + 3]
            step = next((step for step in coming if "group_norm" in step.op), None)
            groups = [labels for place, _, labels in step.sizes if place == 6] if step else []
            if step and groups:
                args[1] = replay.count(step, args[1], groups[0])
            return args
        first = 2 if name == "unflatten" else 1
        sizes = list(args[first]) if isinstance(args[first], tuple | list) else list(args[first:])
        offset = args[1] % args[0].ndim if name == "unflatten" else 0
        extent = args[0].shape[offset] if name == "unflatten" else args[0].numel()
        for step in replay.upcoming():
            if "view" not in step.op:
                continue
            places = {
                (index or 0) - offset: labels
                for _, index, labels in step.sizes
                if 0 <= (index or 0) - offset < len(sizes) and sizes[(index or 0) - offset] != -1
            }
            resized = [
                int(replay.record.keeps(places[i], replay.gone).sum()) if i in places else value
                for i, value in enumerate(sizes)
            ]
            if _fits(resized, extent):
                return [
                    *args[:first],
                    [replay.count(step, v, places[i]) if i in places else v for i, v in enumerate(sizes)],
                ]
        return args


def _fits(shape: Sequence[int], extent: int) -> bool:
    """Whether ``extent`` elements can have this shape."""
    known = prod(size for size in shape if size != -1)
    return known == extent or (-1 in shape and known > 0 and extent % known == 0)


class _Shapes(TorchFunctionMode):
    """Notes the sizes of every tensor whose shape the code asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[int] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Size):
            self.seen.update(out)
        elif type(out) is int:
            self.seen.add(out)
        return out


def replay(
    model: nn.Module, inputs: Inputs, record: Record, gone: np.ndarray, *, watch: bool = False
) -> ReplayResult:
    """Run the cut ``model`` beside the trace of the whole one; ``watch`` also which numbers are read."""
    mode = _Replay(record, gone)
    broken, cause = None, ""
    place: tuple[tuple[str, int], ...] = ()
    read: dict[tuple[str, str], None] = {}
    shapes = _Shapes()

    def note(module: str, attribute: str) -> None:
        read.pop((module, attribute), None)
        read[module, attribute] = None

    output: Sequence[torch.Tensor] = ()
    with plain_evaluation(model):
        try:
            with ExitStack() as stack:
                stack.enter_context(module_names(model, mode.stack))
                stack.enter_context(mode)
                stack.enter_context(_Composite(mode))
                if watch:
                    stack.enter_context(attributes_read(model, note))
                    stack.enter_context(shapes)
                output = run_all(model, inputs, record.companions)
        except TsdistillError as error:
            steps = record.trace.steps
            broken = _failing_module(model, error)
            if broken is None:
                broken = steps[min(mode.position, len(steps)) - 1].module
            raised = error.__cause__
            cause = str(error) if raised is None or isinstance(error, OwnFault) else first_line(raised)
            place = tuple((at.tb_frame.f_code.co_qualname, at.tb_lasti) for at in _trail(error))
    output = (*mode.compared, *output)
    return ReplayResult(
        tuple(mode.stale),
        broken,
        cause,
        output,
        tuple(mode.scaled),
        tuple(mode.rows),
        mode.position,
        place,
        tuple(reversed(read)),
        frozenset(shapes.seen),
    )


def _trail(error: BaseException) -> Iterator[TracebackType]:
    """Every function that was running when the cause of ``error`` came up, from the outermost one on."""
    at = (error.__cause__ or error).__traceback__
    while at is not None:
        yield at
        at = at.tb_next


def _failing_module(model: nn.Module, error: BaseException) -> str | None:
    """The innermost module whose code was running when ``error`` came up."""
    names = {id(module): name for name, module in model.named_modules()}
    failing = None
    for at in _trail(error):
        own = at.tb_frame.f_locals.get("self")
        failing = names.get(id(own), failing) if isinstance(own, nn.Module) else failing
    return failing


def related(path: str, broken: str | None) -> bool:
    """Whether a module broke off, is above one that did, or below."""
    return broken is not None and (within(broken, path) or within(path, broken))


def within(path: str, owner: str) -> bool:
    """Whether ``path`` is the module ``owner`` or one in it, by name (nothing is in the nameless model)."""
    return path == owner or path.startswith(f"{owner}.")
