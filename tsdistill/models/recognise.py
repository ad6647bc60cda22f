"""Which architecture bare weights belong to, from their names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.models import catalog, evidence, twins
from tsdistill.models.checkpoint import variants
from tsdistill.models.index import Entry, shipped
from tsdistill.models.info import ModelInfo
from tsdistill.models.specs import Built
from tsdistill.models.weights import check_finite, difference, place, shapes_of, state

Tensors = Mapping[str, torch.Tensor]

_NOMINATED = 4
_ALIKE = 0.5
_CONFIRMED = 0.03


def fit(model: nn.Module, tensors: Tensors, path: Path, arch: str) -> None:
    """Put the weights of a file into ``model``, names with or without what wrappers put before them.

    Raises:
        TsdistillError: the weights are not those of this architecture; says what differs.
    """
    expected = shapes_of(state(model))
    tried = [(difference(shapes_of(names), expected, arch), names) for names in variants(tensors)]
    off, best = min(tried, key=lambda item: item[0].count)
    if off.count:
        raise TsdistillError(f"{path} does not fit {arch}: {off.text}; give another --arch (arch=)")
    place(model, {name: tensor.clone() for name, tensor in best.items()})


def recognise(tensors: Tensors, path: Path) -> tuple[nn.Module, ModelInfo]:
    """Build the architecture of timm or torchvision whose names and shapes these are, and fill it.

    When the names are nobody's, but order and shapes are, that counts if the batch norms of the filled model
    confirm it.

    Raises:
        TsdistillError: no architecture fits (the message names the nearest and what differs), or several do
            and nothing tells them apart.
    """
    for names in variants(tensors):
        shapes = shapes_of(names)
        found = [_specify(entry, classes) for entry, classes in shipped().matches(shapes)]
        candidates = _fill(found, names)
        if candidates:
            check_finite(candidates[0].model, str(path))
            choice = twins.choose(candidates, path)
            how = f"recognised as {choice.built.arch} by the names and shapes of its {len(shapes)} tensors"
            return _finish(choice, how)
    by_order = _by_order(tensors, path)
    if by_order is not None:
        return by_order
    raise TsdistillError(
        f"{path} fits no architecture that is known: {_nearest(tensors)}; give --arch (arch=)"
    )


def _specify(entry: Entry, classes: int) -> str:
    """The specification of an entry with this number of classes."""
    if entry.classes is None or classes == entry.classes:
        return entry.spec
    return f"{entry.spec},num_classes={classes}"


def _fill(specs: list[str], tensors: Tensors) -> list[Built]:
    """The architectures that the installed libraries build with exactly these tensors, filled."""
    owned = {name: tensor.clone() for name, tensor in tensors.items()} if specs else {}
    filled = []
    for spec in sorted(set(specs), key=twins.rank):
        try:
            built = catalog.build(spec, weights=False)
        except TsdistillError:
            continue
        if not difference(shapes_of(owned), shapes_of(state(built.model)), spec).count:
            place(built.model, owned)
            filled.append(built)
    return filled


def _finish(choice: twins.Choice, how: str) -> tuple[nn.Module, ModelInfo]:
    built = choice.built
    return built.model, ModelInfo(arch=built.arch, input=built.input, notes=(how, *choice.notes))


def _by_order(tensors: Tensors, path: Path) -> tuple[nn.Module, ModelInfo] | None:
    """Names aside: the architectures with the same shapes in the same order, if batch norms confirm one."""
    for names in variants(tensors):
        shapes = shapes_of(names)
        candidates: list[Built] = []
        for score, entry in shipped().nearest(shapes, 2 * _NOMINATED, named=False):
            renamed = _renamed(names, entry) if score >= _ALIKE else None
            if renamed is not None:
                spec, tensors_by_name = renamed
                candidates += _fill([spec], tensors_by_name)
        confirmed = [built for built in candidates if _confirmed(built)]
        if confirmed:
            choice = twins.choose(confirmed, path)
            how = (
                f"recognised as {choice.built.arch} by the order and shapes of its {len(shapes)} tensors, "
                "whose names are others; the stored batch-norm statistics confirm it"
            )
            return _finish(choice, how)
    return None


def _renamed(tensors: Tensors, entry: Entry) -> tuple[str, dict[str, torch.Tensor]] | None:
    """The tensors under the entry's names, when kind of tensor and shape agree all along."""
    shapes = shapes_of(tensors)
    try:
        expected = shapes_of(state(catalog.build_empty(entry.spec).model))
    except TsdistillError:
        return None
    theirs, ours = list(expected), list(shapes)
    if len(theirs) != len(ours) or any(
        a.rpartition(".")[2] != b.rpartition(".")[2] for a, b in zip(theirs, ours, strict=True)
    ):
        return None
    moved = {new: shapes[old] for new, old in zip(theirs, ours, strict=True)}
    classes = entry.classes_in(moved)
    open_places = {name for name, _, _ in entry.places}
    if classes is None or any(moved[name] != expected[name] for name in theirs if name not in open_places):
        return None
    return _specify(entry, classes), {new: tensors[old] for new, old in zip(theirs, ours, strict=True)}


def _confirmed(built: Built) -> bool:
    images = evidence.photographs(built.input) if built.input is not None else None
    found = evidence.distances(built.model, images) if images is not None else []
    return len(found) >= evidence.LAYERS and sum(found) / len(found) < _CONFIRMED


def _nearest(tensors: Tensors) -> str:
    """The architecture with the fewest tensors that differ, and what differs."""
    options = []
    for names in variants(tensors):
        shapes = shapes_of(names)
        for named in (True, False):
            for score, entry in shipped().nearest(shapes, _NOMINATED, named=named):
                if score > 0:
                    options.append(
                        (-score if named else 1.0 - score, twins.rank(entry.spec), entry, shapes, named)
                    )
    if not options:
        return f"the nearest has nothing in common with its {len(tensors)} tensors"
    options.sort(key=lambda option: option[:2])
    best = None
    for _, _, entry, shapes, named in options[:_NOMINATED]:
        classes = entry.classes_in(shapes)
        spec = _specify(entry, classes) if classes is not None else entry.spec
        try:
            expected = shapes_of(state(catalog.build_empty(spec).model))
        except TsdistillError:
            continue
        off = difference(shapes, expected, spec)
        if best is None or off.count < best[0]:
            kind = "the nearest" if named else "the nearest by shapes"
            best = (off.count, f"{kind} is {spec}, but {off.text}")
    return best[1] if best is not None else "none of the nearest can be built by the installed libraries"
