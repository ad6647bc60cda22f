"""Shape constants that modules keep: found by replaying the forward, mended as plain data."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from torch import nn

from tsdistill.models.info import Attribute
from tsdistill.models.widths import sync_widths
from tsdistill.tracing.record import Record, Trace
from tsdistill.tracing.replay import Replayed, Stale, related, replay, within
from tsdistill.tracing.runtime import Inputs

_ATTEMPTS = 8
_STANDARD = (nn.modules.conv._ConvNd, nn.Linear, nn.GroupNorm, nn.modules.batchnorm._NormBase)
_GROUPS = {"convolution": 8, "native_group_norm": 6}
_COUNTED = ("groups", "heads", "all_head", "attn_dim")
_DERIVED = {"in_channels", "out_channels", "in_features", "out_features", "num_features", "num_channels"}


def repair(
    model: nn.Module, inputs: Inputs, record: Record, gone: np.ndarray
) -> tuple[list[Attribute], Replayed]:
    """Set the attributes of ``model`` that make its operators ask for the sizes they now have.

    Where several attributes of a module could be the one, they are tried in turn.

    Returns:
        The attributes that were set, and the replay after that (nothing stale if all could be mended).
    """
    first = _follow(model, record, gone)
    result = replay(model, inputs, record, gone)
    wrong = [key for key in first if _doubted(model, key, key in record.trace.foreseen, result)]
    if wrong:
        for owner, name in wrong:
            setattr(model.get_submodule(owner), name, first.pop((owner, name)))
        result = replay(model, inputs, record, gone)
    changes = {key: _attribute(model, *key) for key in first}
    failures: Counter[str] = Counter()
    learnt: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)
    for _ in range(_ATTEMPTS):
        tried = _attempt(model, result.stale, failures, {key: first[key] for key in changes}, record)
        if not tried:
            break
        after = replay(model, inputs, record, gone)
        before, left = _count(result), _count(after)
        reverted, failed = 0, set()
        for asked, owner, name, old, labels in tried:
            module = model.get_submodule(owner)
            first.setdefault((owner, name), old)
            worked = left[asked] < before[asked] and owner != after.broken
            if after.broken is not None and after.broken != result.broken:
                worked = worked and owner != "" and not within(after.broken, owner)
            if worked and not related(asked, after.broken):
                changes[owner, name] = _attribute(model, owner, name)
                learnt[owner, name] += labels
                if changes[owner, name].value == first[owner, name]:
                    del changes[owner, name], learnt[owner, name]
            else:
                setattr(module, name, old)
                failed.add(asked)
                reverted += 1
        failures.update(failed)
        if not reverted:
            result = after
        elif reverted < len(tried):
            result = replay(model, inputs, record, gone)
    if changes:
        sync_widths(model)
    record.trace.followed.update(learnt)
    record.trace.foreseen -= learnt.keys()
    return list(changes.values()), result


def foresee(model: nn.Module, trace: Trace) -> None:
    """Write down in ``trace.followed`` what needs no cut to be learnt: the numbers of groups that PyTorch's
    own convolutions and group norms of ``model`` keep, and those of groups and heads that other modules keep
    under such a name, or those of all heads together, and give to a view."""
    counted: dict[str, list[str]] = defaultdict(list)
    for owner, name in trace.read:
        if any(part in name for part in _COUNTED):
            counted[owner].append(name)
    for step in trace.steps:
        if not step.sizes or step.module not in counted:
            continue
        module = model.get_submodule(step.module)
        place = next((place for op, place in _GROUPS.items() if op in step.op), None)
        if (place is not None) != isinstance(module, _STANDARD):
            continue
        for name in counted[step.module]:
            for argument, _, labels in step.sizes:
                if place in (None, argument) and getattr(module, name) == len(labels):
                    trace.followed.setdefault((step.module, name), []).append(labels)
    trace.foreseen |= trace.followed.keys()


def _attribute(model: nn.Module, owner: str, name: str) -> Attribute:
    return Attribute(owner, name, getattr(model.get_submodule(owner), name))


def _follow(model: nn.Module, record: Record, gone: np.ndarray) -> dict[tuple[str, str], Any]:
    """Set the attributes that an earlier cut had to change; what they were before."""
    before: dict[tuple[str, str], Any] = {}
    for (owner, name), counted in record.trace.followed.items():
        module = model.get_submodule(owner)
        kept = [(len(labels), int(record.keeps(labels, gone).sum())) for labels in counted]
        numbers = {given: wanted for given, wanted in kept if given != wanted}
        renewed = _renewed(getattr(module, name), next(iter(numbers)), numbers) if numbers else None
        if renewed is not None:
            before[owner, name] = getattr(module, name)
            setattr(module, name, renewed[0])
    return before


def _doubted(model: nn.Module, key: tuple[str, str], foreseen: bool, result: Replayed) -> bool:
    """Whether an attribute may be behind what went wrong in a replay.

    PyTorch's own modules keep their numbers for themselves; one that was only foreseen is taken back where
    its new value is what does not fit.
    """
    owner, name = key
    module = model.get_submodule(owner)
    if isinstance(module, _STANDARD):
        return owner in {result.broken, *(item.step.module for item in result.stale)}
    stale = [item.given for item in result.stale if related(owner, item.step.module)]
    if foreseen:
        return getattr(module, name) in stale
    return bool(stale) or related(owner, result.broken)


def _count(result: Replayed) -> Counter[str]:
    return Counter(item.step.module for item in result.stale)


def _attempt(
    model: nn.Module,
    stale: Sequence[Stale],
    failures: Mapping[str, int],
    settled: Mapping[tuple[str, str], Any],
    record: Record,
) -> list[tuple[str, str, str, Any, list[np.ndarray]]]:
    """Change an attribute for every stale number of every module.

    While there are attributes that hold such a number as it is, those that would hold a multiple or a part of
    one wait: a module often computes one number from another. Of the ``settled`` attributes (with the values
    they had at first) those are changed only that get back what they had: two of the same value may have been
    taken for one. A module whose candidates have all been tried is left alone.

    Returns:
        ``(module that computes a stale number, owner of the attribute, attribute, its old value, labels that
        are counted)``.
    """
    wanted: dict[str, dict[int, dict[int, np.ndarray]]] = defaultdict(lambda: defaultdict(dict))
    last: dict[str, int] = {}
    for item in stale:
        path = item.step.module
        wanted[path][item.given].setdefault(item.wanted, item.labels)
        last[path] = max(last.get(path, 0), record.places[id(item.step)])
    changed = []
    taken = set(settled)
    for path, numbers in wanted.items():
        turn = failures.get(path, 0)
        known = {given: next(iter(targets)) for given, targets in numbers.items() if len(targets) == 1}
        counted = {given: next(iter(numbers[given].values())) for given in known}
        read = {key for key, when in record.trace.read.items() if when <= last[path]}
        options = {given: list(_candidates(model, path, given, known, read)) for given in known}
        if turn > max(map(len, options.values()), default=0):
            continue
        most = max((sum(c[3] for c in found) for found in options.values()), default=0)
        certain = turn <= most and most > 0
        done: set[int] = set()
        for given, found in options.items():
            candidates = [
                c
                for c in found
                if (c[:2] not in taken or (c[:2] in settled and settled[c[:2]] == c[2]))
                and (c[3] or not certain)
            ]
            if given in done or not candidates:
                continue
            first = candidates[max(turn - 1, 0) % len(candidates)]
            chosen = [first]
            if turn == 0 and first[3]:
                chosen = [
                    c
                    for c in candidates
                    if c is first or (c[3] and _likely(c[1]) and _near(model, c[0], first[0]))
                ]
            for owner, name, value, _ in chosen:
                module = model.get_submodule(owner)
                old = getattr(module, name)
                within = [given] if isinstance(old, int) else [v for v in dict.fromkeys(old) if v in known]
                done.update(within)
                changed.append((path, owner, name, old, [counted[number] for number in within]))
                taken.add((owner, name))
                setattr(module, name, value)
    return changed


def _near(model: nn.Module, place: str, owner: str) -> bool:
    """Whether ``place`` is ``owner`` or a module right below it that keeps widths of its own."""
    if place == owner:
        return True
    return place.rpartition(".")[0] == owner and not isinstance(model.get_submodule(place), _STANDARD)


def _candidates(
    model: nn.Module,
    path: str,
    given: int,
    numbers: Mapping[int, int],
    read: Collection[tuple[str, str]],
) -> Any:
    """``(owner, attribute, new value, exact)`` of attributes that may be behind the stale number ``given``;
    ``numbers`` are all stale numbers of the module, with what the cut asks for in their place. Only what the
    forward had ``read`` by then may be. A number that lies further up than in the module above, under a name
    that says nothing of widths, is taken for one that only happens to be the same."""
    places = [path]
    while places[-1]:
        places.append(places[-1].rpartition(".")[0])
    below = [name for name, _ in model.get_submodule(path).named_children()]
    places[1:1] = [f"{path}.{name}" if path else name for name in below]
    near = places[: 2 + len(below)]
    later = []
    for place in places:
        module = model.get_submodule(place)
        plain = [item for item in vars(module).items() if type(item[1]) in (int, tuple, list)]
        named = sorted(plain, key=lambda item: not _likely(item[0]))
        for name, value in named:
            if (place, name) not in read or (name in _DERIVED and isinstance(module, _STANDARD)):
                continue
            renewed = _renewed(value, given, numbers)
            if renewed is None:
                continue
            if renewed[1] and (_likely(name) or place in near):
                yield place, name, *renewed
            else:
                later.append((place, name, renewed[0], False))
    yield from later


def _renewed(value: Any, given: int, numbers: Mapping[int, int]) -> tuple[Any, bool] | None:
    """``value`` when ``given`` becomes what ``numbers`` says, and whether it is that very number; None for a
    value that has nothing to do with it."""
    exact = _swapped(value, given, numbers)
    if exact is not None:
        return exact, True
    wanted = numbers[given]
    if isinstance(value, int) and not isinstance(value, bool) and value > 0 and given > 1:
        if value % given == 0 and value // given <= 64:
            return value // given * wanted, False
        if given % value == 0 and wanted % (given // value) == 0 and value > 1:
            return wanted // (given // value), False
    return None


@cache
def _likely(name: str) -> bool:
    return any(
        part in name
        for part in ("head", "group", "dim", "chan", "chs", "width", "feat", "planes", "_c", "shape")
    )


def _swapped(value: Any, given: int, numbers: Mapping[int, int]) -> Any:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return numbers[given] if value == given else None
    if isinstance(value, tuple | list) and value and all(type(v) is int for v in value) and given in value:
        swapped = [numbers.get(v, v) for v in value]
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
