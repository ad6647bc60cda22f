"""Shape constants that modules keep: found by replaying the forward, mended as plain data."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from math import prod
from typing import Any

import numpy as np
from torch import nn
from torch.overrides import TorchFunctionMode

from tsdistill.errors import TsdistillError
from tsdistill.models.info import Attribute
from tsdistill.models.widths import sync_widths
from tsdistill.tracing.record import Record, Step
from tsdistill.tracing.runtime import Inputs, OperatorMode, plain_evaluation, run

_ATTEMPTS = 8
_AHEAD, _ASTRAY = 12, 12
_STANDARD = (nn.modules.conv._ConvNd, nn.Linear, nn.GroupNorm, nn.modules.batchnorm._NormBase)
_DERIVED = {"in_channels", "out_channels", "in_features", "out_features", "num_features", "num_channels"}


@dataclass(frozen=True)
class Stale:
    """An operator got ``given`` where the cut asks for ``wanted``."""

    step: Step
    given: int
    wanted: int


@dataclass(frozen=True)
class Replayed:
    """What a replay found: stale sizes, and the module in which it broke off (None if it went through)."""

    stale: tuple[Stale, ...]
    broken: str | None
    cause: str = ""


class _Replay(OperatorMode):
    """Runs the cut model operator by operator beside the trace, putting stale sizes right on the fly."""

    def __init__(self, record: Record, gone: np.ndarray) -> None:
        super().__init__()
        self.record, self.gone = record, gone
        self.position = 0
        self.astray = 0
        self.stale: list[Stale] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        step = self._next(str(func))
        if step is not None and step.sizes:
            args = self._mend(step, list(args))
        return func(*args, **(kwargs or {}))

    def _next(self, op: str) -> Step | None:
        """The step of the trace that operator ``op`` repeats; None for one that only the cut model needs.

        Whether a reshape copies, and how a product is computed, depends on strides and so on widths: steps
        that are left out, and others in their place, are passed over while the module stays the same.
        """
        kind = _kind(op)
        for number, step in enumerate(self.coming()):
            if _kind(step.op) == kind:
                self.position, self.astray = self.position + number + 1, 0
                return step
            if _kind(step.op) != "clone" and kind == "clone":
                return None
        self.astray += kind != "clone"
        if self.astray > _ASTRAY:
            raise TsdistillError("the cut model takes another path through its code")
        return None

    def coming(self) -> Sequence[Step]:
        """The next steps, as far as they belong to the module whose turn it is."""
        steps = self.record.trace.steps[self.position : self.position + _AHEAD]
        return list(takewhile(lambda s: s.module == steps[0].module or _kind(s.op) == "clone", steps))

    def _mend(self, step: Step, args: list[Any]) -> list[Any]:
        for place, index, labels in step.sizes:
            given = args[place] if index is None else args[place][index]
            if given == -1:
                continue
            wanted = self.count(step, given, labels)
            if index is None:
                args[place] = wanted
            else:
                args[place] = [*args[place][:index], wanted, *args[place][index + 1 :]]
        return args

    def count(self, step: Step, given: int, labels: np.ndarray) -> int:
        """How many of ``labels`` stay; another number than ``given`` is noted as stale."""
        wanted = int(self.record.keeps(labels, self.gone).sum())
        if given != wanted:
            self.stale.append(Stale(step, int(given), wanted))
        return wanted


def _kind(op: str) -> str:
    name = op.removeprefix("aten.").partition(".")[0]
    return "view" if name in ("view", "_unsafe_view", "_reshape_alias") else name


class _Composite(TorchFunctionMode):
    """Puts stale sizes right in functions that check their arguments before any operator runs."""

    def __init__(self, replay: _Replay) -> None:
        super().__init__()
        self.replay = replay

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "__getitem__":
            return func(args[0], self._sliced(args[1]))
        if name not in ("reshape", "unflatten", "group_norm"):
            return func(*args, **kwargs)
        position, found = self.replay.position, len(self.replay.stale)
        try:
            return func(*args, **kwargs)
        except (RuntimeError, ValueError):
            if self.replay.position != position or len(self.replay.stale) != found:
                raise
            return func(*self._mend(name, list(args)), **kwargs)

    def _sliced(self, index: Any) -> Any:
        """``index`` with the ends of its slices put right (one that reaches too far runs no operator)."""
        steps = self.replay.record.trace.steps
        items = list(index) if isinstance(index, tuple) else [index]
        position = self.replay.position
        while position < len(steps) and "slice" in steps[position].op:
            for _, _, labels in steps[position].sizes:
                for i, item in enumerate(items):
                    if not isinstance(item, slice) or len(labels) not in (item.start, item.stop):
                        continue
                    wanted = self.replay.count(steps[position], len(labels), labels)
                    start = wanted if item.start == len(labels) else item.start
                    stop = wanted if item.stop == len(labels) else item.stop
                    items[i] = slice(start, stop, item.step)
            position += 1
        return tuple(items) if isinstance(index, tuple) else items[0]

    def _mend(self, name: str, args: list[Any]) -> list[Any]:
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
        given = list(args[first]) if isinstance(args[first], tuple | list) else list(args[first:])
        offset = args[1] % args[0].ndim if name == "unflatten" else 0
        extent = args[0].shape[offset] if name == "unflatten" else args[0].numel()
        for step in replay.coming():
            if "view" not in step.op:
                continue
            places = {
                (index or 0) - offset: labels
                for _, index, labels in step.sizes
                if 0 <= (index or 0) - offset < len(given) and given[(index or 0) - offset] != -1
            }
            mended = [
                int(replay.record.keeps(places[i], replay.gone).sum()) if i in places else value
                for i, value in enumerate(given)
            ]
            if _fits(mended, extent):
                return [
                    *args[:first],
                    [replay.count(step, v, places[i]) if i in places else v for i, v in enumerate(given)],
                ]
        return args


def _fits(shape: Sequence[int], extent: int) -> bool:
    """Whether ``extent`` elements can have this shape."""
    known = prod(size for size in shape if size != -1)
    return known == extent or (-1 in shape and known > 0 and extent % known == 0)


def replay(model: nn.Module, inputs: Inputs, record: Record, gone: np.ndarray) -> Replayed:
    """Run the cut ``model`` beside the trace of the whole one."""
    mode = _Replay(record, gone)
    broken, cause = None, ""
    with plain_evaluation(model):
        try:
            with mode, _Composite(mode):
                run(model, inputs)
        except TsdistillError as error:
            steps = record.trace.steps
            broken = _raising(model, error)
            if broken is None:
                broken = steps[min(mode.position, len(steps)) - 1].module
            cause = str(error)
    return Replayed(tuple(mode.stale), broken, cause)


def _raising(model: nn.Module, error: BaseException) -> str | None:
    """The innermost module whose code was running when ``error`` came up."""
    names = {id(module): name for name, module in model.named_modules()}
    found, cause = None, error.__cause__ or error
    at = cause.__traceback__
    while at is not None:
        own = at.tb_frame.f_locals.get("self")
        found = names.get(id(own), found) if isinstance(own, nn.Module) else found
        at = at.tb_next
    return found


def repair(
    model: nn.Module, inputs: Inputs, record: Record, gone: np.ndarray
) -> tuple[list[Attribute], Replayed]:
    """Set the attributes of ``model`` that make its operators ask for the sizes they now have.

    Where several attributes of a module could be the one, they are tried in turn.

    Returns:
        The attributes that were set, and the replay after that (nothing stale if all could be mended).
    """
    result = replay(model, inputs, record, gone)
    changes: dict[tuple[str, str], Attribute] = {}
    first: dict[tuple[str, str], Any] = {}
    failures: Counter[str] = Counter()
    for _ in range(_ATTEMPTS):
        tried = _attempt(model, result.stale, failures, {key: first[key] for key in changes})
        if not tried:
            break
        after = replay(model, inputs, record, gone)
        before, left = _count(result), _count(after)
        reverted = False
        for asked, owner, name, old in tried:
            module = model.get_submodule(owner)
            first.setdefault((owner, name), old)
            if left[asked] < before[asked] and not related(asked, after.broken):
                changes[owner, name] = Attribute(owner, name, getattr(module, name))
            else:
                setattr(module, name, old)
                failures[asked] += 1
                reverted = True
        result = replay(model, inputs, record, gone) if reverted else after
    if changes:
        sync_widths(model)
    return list(changes.values()), result


def _count(result: Replayed) -> Counter[str]:
    return Counter(item.step.module for item in result.stale)


def related(path: str, broken: str | None) -> bool:
    """Whether a module broke off, is above one that did, or below."""
    return broken is not None and (
        path == broken or broken.startswith(f"{path}.") or path.startswith(f"{broken}.")
    )


def _attempt(
    model: nn.Module,
    stale: Sequence[Stale],
    failures: Mapping[str, int],
    settled: Mapping[tuple[str, str], Any],
) -> list[tuple[str, str, str, Any]]:
    """Change an attribute for every stale number of every module.

    Of the ``settled`` attributes (with the values they had at first) those are changed only that get back
    what they had: two of the same value may have been taken for one.

    Returns:
        ``(module that computes a stale number, owner of the attribute, attribute, its old value)``.
    """
    wanted: dict[str, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    for item in stale:
        wanted[item.step.module][item.given].add(item.wanted)
    changed = []
    taken = set(settled)
    for path, numbers in wanted.items():
        turn = failures.get(path, 0)
        for given, targets in numbers.items():
            if len(targets) != 1:
                continue
            candidates = [
                c
                for c in _candidates(model, path, given, *targets)
                if c[:2] not in taken or (c[:2] in settled and settled[c[:2]] == c[2])
            ]
            if not candidates:
                continue
            first = candidates[max(turn - 1, 0) % len(candidates)]
            chosen = [first]
            if turn == 0 and first[3]:
                chosen = [
                    c for c in candidates if c[0] == first[0] and c[3] and (c is first or _likely(c[1]))
                ]
            for owner, name, value, _ in chosen:
                module = model.get_submodule(owner)
                changed.append((path, owner, name, getattr(module, name)))
                taken.add((owner, name))
                setattr(module, name, value)
    return changed


def _candidates(model: nn.Module, path: str, given: int, wanted: int) -> Any:
    """``(owner, attribute, new value, exact)`` of attributes that may be behind a stale number."""
    places = [path]
    while places[-1]:
        places.append(places[-1].rpartition(".")[0])
    own = model.get_submodule(path)
    places[1:1] = [f"{path}.{name}" if path else name for name, _ in own.named_children()]
    later = []
    for place in places:
        module = model.get_submodule(place)
        named = sorted(vars(module).items(), key=lambda item: not _likely(item[0]))
        for name, value in named:
            if name == "training" or (name in _DERIVED and isinstance(module, _STANDARD)):
                continue
            exact = _swapped(value, given, wanted)
            if exact is not None:
                yield place, name, exact, True
            elif isinstance(value, int) and not isinstance(value, bool) and value > 0 and given > 1:
                if value % given == 0 and value // given <= 64:
                    later.append((place, name, value // given * wanted, False))
                elif given % value == 0 and wanted % (given // value) == 0 and value > 1:
                    later.append((place, name, wanted // (given // value), False))
    yield from later


def _likely(name: str) -> bool:
    return any(
        part in name for part in ("head", "group", "dim", "chan", "chs", "width", "feat", "planes", "_c")
    )


def _swapped(value: Any, given: int, wanted: int) -> Any:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return wanted if value == given else None
    if isinstance(value, tuple | list) and value and all(type(v) is int for v in value) and given in value:
        swapped = [wanted if v == given else v for v in value]
        return tuple(swapped) if isinstance(value, tuple) else swapped
    return None


def groups_at(module: str, record: Record, gone: np.ndarray, owner: Mapping[int, str]) -> set[str]:
    """Names of the groups that lose nodes and are touched by operators of ``module`` or below it."""
    found: set[str] = set()
    for step in record.trace.steps:
        if step.module == module or not module or step.module.startswith(f"{module}."):
            for labels in step.touched:
                nodes = record.node_of[labels]
                nodes = nodes[nodes >= 0]
                found.update(owner[int(node)] for node in np.unique(nodes[gone[nodes]]))
    return found
