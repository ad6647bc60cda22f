"""Shape constants that modules keep: found by replaying the forward, and set."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from torch import nn

from tsdistill.models.info import Attribute
from tsdistill.models.widths import sync_widths
from tsdistill.tracing.replay import CutRun, ReplayResult, related, within
from tsdistill.tracing.shape_attributes import (
    STANDARD,
    ancestor_paths,
    is_suspect,
    is_width_name,
    resized,
    set_tracked,
)
from tsdistill.tracing.trace_record import Record
from tsdistill.tracing.width_assertions import satisfy_assertions

Change = tuple[str, str, str, Any, list[np.ndarray]]
"""``(module that computes a stale number, owner of the attribute, attribute, its old value, labels that are
counted)``."""

_ATTEMPTS = 8
"""Most rounds of changing attributes and checks; each costs at least one forward of the cut model."""

_DERIVED = {"in_channels", "out_channels", "in_features", "out_features", "num_features", "num_channels"}
"""Attributes of PyTorch's own modules that `sync_widths` derives from their parameters."""


def repair(
    run: CutRun, done: Mapping[tuple[str, str], Any] | None = None
) -> tuple[list[Attribute], ReplayResult]:
    """Set the attributes of a cut model that make its operators ask for the sizes they now have.

    Where several attributes of a module could be the one, they are tried in turn.

    Args:
        run: of the cut model.
        done: ``(module, attribute)`` of what has been set for another run, with the value that it had.

    Returns:
        The attributes that were set, and the replay after that (nothing is stale if all could be set).
    """
    model, tracked, predicted = run.model, run.record.trace.tracked, run.record.trace.predicted
    done = done or {}
    first = set_tracked(run, done)
    result = run.replay()
    wrong = [key for key in first if is_suspect(model, key, key in predicted, result)]
    if wrong:
        for owner, name in wrong:
            setattr(model.get_submodule(owner), name, first.pop((owner, name)))
        result = run.replay()
    changes = {key: _attribute(model, *key) for key in first}
    learnt: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)
    for _ in range(_ATTEMPTS):
        result = _repair_sizes(run, result, first, changes, learnt, done)
        passed, result = satisfy_assertions(run, result)
        if not passed:
            break
        for owner, name, old, labels in passed:
            first.setdefault((owner, name), old)
            changes[owner, name] = _attribute(model, owner, name)
            learnt[owner, name] += labels
    if changes:
        sync_widths(model)
    unsolved = {result.broken, *(item.step.module for item in result.stale)}
    sure = {key for key in learnt if not any(related(key[0], module) for module in unsolved)}
    tracked.update({key: learnt[key] for key in sure})
    predicted -= sure
    return list(changes.values()), result


def _repair_sizes(
    run: CutRun,
    result: ReplayResult,
    first: dict[tuple[str, str], Any],
    changes: dict[tuple[str, str], Attribute],
    learnt: dict[tuple[str, str], list[np.ndarray]],
    done: Mapping[tuple[str, str], Any],
) -> ReplayResult:
    """Set attributes for the stale sizes of ``result`` as long as that helps; the replay after that.

    What was set is added to ``changes``, with the values before in ``first`` and what is counted in
    ``learnt``; what is ``done`` stays.
    """
    model, failures = run.model, Counter[str]()
    for _ in range(_ATTEMPTS):
        settled = {**done, **{key: first[key] for key in changes}}
        tried = _attempt(model, result, failures, settled, run.record)
        if not tried:
            break
        after = run.replay()
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
            result = run.replay()
    return result


def _attribute(model: nn.Module, owner: str, name: str) -> Attribute:
    return Attribute(owner, name, getattr(model.get_submodule(owner), name))


def _count(result: ReplayResult) -> Counter[str]:
    return Counter(item.step.module for item in result.stale)


def _attempt(
    model: nn.Module,
    result: ReplayResult,
    failures: Mapping[str, int],
    settled: Mapping[tuple[str, str], Any],
    record: Record,
) -> list[Change]:
    """Change an attribute for every stale number of every module.

    While there are attributes that hold such a number as it is, those that would hold a multiple or a part of
    one wait: a module often computes one number from another. Of the ``settled`` attributes (with the values
    they had at first) those are changed only that get back what they had: two of the same value may have been
    taken for one. A module whose candidates have all been tried is left alone.
    """
    wanted: dict[str, dict[int, dict[int, np.ndarray]]] = defaultdict(lambda: defaultdict(dict))
    last: dict[str, int] = {}
    for item in result.stale:
        path = item.step.module
        wanted[path][item.computed].setdefault(item.wanted, item.labels)
        last[path] = max(last.get(path, 0), record.places[id(item.step)])
    changed = list(_whole_rows(model, result, failures, settled, record))
    taken = {*settled, *(change[1:3] for change in changed)}
    by_row: dict[str, set[int]] = defaultdict(set)
    for path, _, _, old, _ in changed:
        by_row[path] |= {*old, sum(old)}
    for path, numbers in wanted.items():
        turn = failures.get(path, 0)
        known = {size: next(iter(targets)) for size, targets in numbers.items() if len(targets) == 1}
        counted = {size: next(iter(numbers[size].values())) for size in known}
        read = {key for key, when in record.trace.read.items() if when <= last[path]}
        options = {size: list(_candidates(model, path, size, known, read)) for size in known}
        if turn > max(map(len, options.values()), default=0):
            continue
        most = max((sum(c[3] for c in group) for group in options.values()), default=0)
        certain = turn <= most and most > 0
        done = by_row[path]
        for size, candidates_of in options.items():
            candidates = [
                c
                for c in candidates_of
                if (c[:2] not in taken or (c[:2] in settled and settled[c[:2]] == c[2]))
                and (c[3] or not certain)
            ]
            if size in done or not candidates:
                continue
            first = candidates[max(turn - 1, 0) % len(candidates)]
            chosen = [first]
            if turn == 0 and first[3]:
                chosen = [
                    c
                    for c in candidates
                    if c is first or (c[3] and is_width_name(c[1]) and _near(model, c[0], first[0]))
                ]
            for owner, name, value, _ in chosen:
                module = model.get_submodule(owner)
                old = getattr(module, name)
                within = [size] if isinstance(old, int) else [v for v in dict.fromkeys(old) if v in known]
                done.update(within)
                changed.append((path, owner, name, old, [counted[number] for number in within]))
                taken.add((owner, name))
                setattr(module, name, value)
    return changed


def _whole_rows(
    model: nn.Module,
    result: ReplayResult,
    failures: Mapping[str, int],
    settled: Mapping[tuple[str, str], Any],
    record: Record,
) -> Iterator[Change]:
    """Change attributes that hold a row of sizes as an operator got it: place by place, for what was the same
    in two places need not be now."""
    done: set[tuple[str, str]] = set(settled)
    for row in result.rows:
        path = row.step.module
        if failures.get(path, 0):
            continue
        for owner in ancestor_paths(path):
            module = model.get_submodule(owner)
            for name, value in list(vars(module).items()):
                alike = type(value) in (tuple, list) and tuple(value) == row.computed
                if alike and (owner, name) in record.trace.read and (owner, name) not in done:
                    done.add((owner, name))
                    setattr(module, name, type(value)(row.wanted))
                    yield path, owner, name, value, list(row.labels)


def _near(model: nn.Module, place: str, owner: str) -> bool:
    """Whether ``place`` is ``owner`` or a module right below it that keeps widths of its own."""
    if place == owner:
        return True
    return place.rpartition(".")[0] == owner and not isinstance(model.get_submodule(place), STANDARD)


def _candidates(
    model: nn.Module,
    path: str,
    stale: int,
    numbers: Mapping[int, int],
    read: Collection[tuple[str, str]],
) -> Any:
    """``(owner, attribute, new value, exact)`` of attributes that may be behind the stale number ``stale``;
    ``numbers`` are all stale numbers of the module, with what the cut asks for in their place. Only what the
    forward had ``read`` by then may be. A number that lies further up than in the module above, under a name
    that says nothing of widths, is taken for one that only happens to be the same."""
    places = ancestor_paths(path)
    below = [name for name, _ in model.get_submodule(path).named_children()]
    places[1:1] = [f"{path}.{name}" if path else name for name in below]
    near = places[: 2 + len(below)]
    later = []
    for place in places:
        module = model.get_submodule(place)
        plain = [item for item in vars(module).items() if type(item[1]) in (int, tuple, list)]
        named = sorted(plain, key=lambda item: not is_width_name(item[0]))
        for name, value in named:
            if (place, name) not in read or (name in _DERIVED and isinstance(module, STANDARD)):
                continue
            result = resized(value, stale, numbers)
            if result is None:
                continue
            if result[1] and (is_width_name(name) or place in near):
                yield place, name, *result
            else:
                later.append((place, name, result[0], False))
    yield from later
