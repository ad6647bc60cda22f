"""Shape constants that modules keep: found by replaying the forward, mended as plain data."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from tsdistill.models.info import Attribute
from tsdistill.models.widths import sync_widths
from tsdistill.tracing.record import Record
from tsdistill.tracing.replay import Replayed, Stale, related, replay
from tsdistill.tracing.runtime import Inputs

_ATTEMPTS = 8
_STANDARD = (nn.modules.conv._ConvNd, nn.Linear, nn.GroupNorm, nn.modules.batchnorm._NormBase)
_DERIVED = {"in_channels", "out_channels", "in_features", "out_features", "num_features", "num_channels"}


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
