"""Which architecture bare weights belong to, from their names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.models.files import size_guard
from tsdistill.models.files.checkpoint import variants
from tsdistill.models.files.stored_weights import (
    Shapes,
    change_tensors,
    check_finite,
    check_types,
    difference,
    fill,
    place,
    shapes_of,
    state,
    unify,
)
from tsdistill.models.info import ModelInfo
from tsdistill.models.input_spec import with_channels
from tsdistill.models.recognition import ambiguous, batchnorm_evidence
from tsdistill.models.recognition.architecture_index import Entry, shipped
from tsdistill.models.recognition.inferred_options import Adapted, adapt, similar
from tsdistill.models.sources import catalog
from tsdistill.models.sources.specs import Built, in_catalog, join, parse
from tsdistill.models.widths import sync_widths
from tsdistill.options.option_fields import written

Tensors = Mapping[str, torch.Tensor]

_MAX_NEAREST = 4
"""Architectures with the most in common that are built, on the ``meta`` device, to compare tensor by tensor:
a sketch only estimates the order, so that one is not enough.
"""

_MAX_ADAPTED = 12
"""Architectures with the same names whose options are inferred: each takes several builds on ``meta``."""

_MAX_AMBIGUOUS = 8
"""Architectures with the same tensors that are filled and run to choose among them: this bounds time and
memory.
"""

_MIN_COMMON = 0.5
"""Estimated share of shapes that weights under other names must have in common with an architecture: below
one half, its tensors cannot agree in order, and the build would be for nothing.
"""

_MAX_DISTANCE = 0.03
"""Largest mean of `batchnorm_evidence.distances` (0 to 1) that confirms a recognition by order and shapes
alone: it must be close to 0, because no name supports it.
"""


def fit(arch: str, tensors: Tensors, path: Path) -> tuple[nn.Module, ModelInfo]:
    """Build ``arch`` and put the weights of a file into it, with or without the prefixes of wrappers.

    The numbers of classes and of input channels and the image size follow the file unless ``arch`` says them.

    Args:
        arch: specification of the architecture.
        tensors: the weights by name.
        path: the file, for messages.

    Raises:
        TsdistillError: the weights are not those of this architecture; says what differs.
    """
    choices = [dict(names) for names in variants(tensors)]
    if in_catalog(arch):
        for names in choices:
            adapted = adapt(arch, shapes_of(names))
            if adapted is not None:
                built = _filled(adapted, names, path)
                note = f"{arch} was built with {', '.join(adapted.changed)} to fit the file"
                notes = (note,) if adapted.changed else ()
                return _copied(built.model), ModelInfo(arch=built.arch, input=built.input, notes=notes)
        fill(catalog.build_empty(arch).model, choices, arch, path)  # says what differs
    built = catalog.build(arch, weights=False)
    fill(built.model, choices, built.arch, path)
    return _copied(unify(built.model)), ModelInfo(arch=built.arch, input=built.input)


def candidates(tensors: Tensors) -> list[str]:
    """Specifications of all architectures that weights may belong to by names and shapes, best first.

    When none has exactly these shapes, those that do with other input channels or another image size.
    """
    for names in variants(tensors):
        matching = _candidates(shapes_of(names))
        if matching:
            return [adapted.spec for adapted in matching]
    return []


def recognise(tensors: Tensors, path: Path) -> tuple[nn.Module, ModelInfo]:
    """Build the architecture of timm or torchvision whose names and shapes these are, and fill it.

    When no architecture has these names, but one has the shapes in this order, it is taken if the batch norms
    of the filled model confirm it.

    Raises:
        TsdistillError: no architecture fits (the message names the nearest and what differs), or several
            do and nothing decides among them.
    """
    for names in variants(tensors):
        built = _fill(_candidates(shapes_of(names)), names, path)
        if built:
            check_finite(built[0].model, str(path))
            choice = ambiguous.choose(built, path)
            count = len(shapes_of(names))
            note = f"recognised as {choice.built.arch} by the names and shapes of its {count} tensors"
            return _finish(choice, note)
    by_order = _by_order(tensors, path)
    if by_order is not None:
        return by_order
    raise TsdistillError(
        f"{path} fits no architecture that is known: {_nearest(tensors)}; give {written('arch')}"
    )


def _candidates(shapes: Shapes) -> list[Adapted]:
    exact = [Adapted(_specify(entry, classes)) for entry, classes in shipped().matches(shapes)]
    if exact:
        return sorted(set(exact), key=lambda each: ambiguous.rank(each.spec))
    by_spec: dict[str, Adapted] = {}
    for spec in similar(shapes, _MAX_ADAPTED):
        try:
            adapted = adapt(spec, shapes)
        except TsdistillError:
            continue
        if adapted is not None:
            by_spec.setdefault(adapted.spec, adapted)
    whole = [each for each in by_spec.values() if each.stem is None]
    return sorted(whole or by_spec.values(), key=lambda each: ambiguous.rank(each.spec))[:_MAX_AMBIGUOUS]


def _specify(entry: Entry, classes: int) -> str:
    """The specification of an entry with this number of classes."""
    if entry.classes is None or classes == entry.classes:
        return entry.spec
    source, _, rest = entry.spec.partition(":")
    name, options = parse(rest, entry.spec)
    return join(source, name, {**options, "num_classes": classes})


def _fill(specs: list[Adapted], tensors: Tensors, path: Path) -> list[Built]:
    """The architectures that the installed libraries build with exactly these tensors, filled."""
    filled = []
    for adapted in specs:
        try:
            built = catalog.build(adapted.spec, weights=False) if not adapted.changed else None
        except TsdistillError:
            continue
        if built is not None:
            off = difference(shapes_of(tensors), shapes_of(state(built.model)), adapted.spec)
            if off.count > (adapted.stem is not None):
                continue
        filled.append(_filled(adapted, tensors, path, built))
    return filled


def _filled(adapted: Adapted, tensors: Tensors, path: Path, built: Built | None = None) -> Built:
    """The architecture with the tensors in place, still mapped from the file."""
    if adapted.changed:
        size_guard.check_spec(adapted.spec, tensors, path)
    built = built or catalog.build(adapted.spec, weights=False)
    check_types(state(built.model), tensors, path)
    place(built.model, tensors)
    unify(built.model)
    if adapted.stem is None:
        return built
    sync_widths(built.model)
    return replace(built, input=with_channels(built.input, adapted.channels))


def _copied(model: nn.Module) -> nn.Module:
    """``model`` with copies of its tensors, one after another, so that it no longer needs the file."""
    return change_tensors(model, torch.Tensor.clone)


def _finish(choice: ambiguous.Choice, note: str) -> tuple[nn.Module, ModelInfo]:
    built = choice.built
    model = _copied(built.model)
    return model, ModelInfo(arch=built.arch, input=built.input, notes=(note, *choice.notes))


def _by_order(tensors: Tensors, path: Path) -> tuple[nn.Module, ModelInfo] | None:
    """Names aside: the architectures with the same shapes in the same order, if batch norms confirm one."""
    for names in variants(tensors):
        shapes = shapes_of(names)
        filled: list[Built] = []
        for score, entry in shipped().nearest(shapes, 2 * _MAX_NEAREST, named=False):
            renamed = _renamed(names, entry) if score >= _MIN_COMMON else None
            if renamed is not None:
                spec, tensors_by_name = renamed
                filled += _fill([Adapted(spec)], tensors_by_name, path)
        confirmed = [built for built in filled if _confirmed(built)]
        if confirmed:
            choice = ambiguous.choose(confirmed, path)
            note = (
                f"recognised as {choice.built.arch} by the order and shapes of its {len(shapes)} tensors, "
                "whose names are others; the stored batch-norm statistics confirm it"
            )
            return _finish(choice, note)
    return None


def _renamed(tensors: Tensors, entry: Entry) -> tuple[str, dict[str, torch.Tensor]] | None:
    """The tensors under the entry's names, when kind of tensor and shape agree all along."""
    shapes = shapes_of(tensors)
    try:
        expected = shapes_of(state(catalog.build_empty(entry.spec).model))
    except TsdistillError:
        return None
    new_names, old_names = list(expected), list(shapes)
    if len(new_names) != len(old_names) or any(
        a.rpartition(".")[2] != b.rpartition(".")[2] for a, b in zip(new_names, old_names, strict=True)
    ):
        return None
    renamed = {new: shapes[old] for new, old in zip(new_names, old_names, strict=True)}
    classes = entry.classes_in(renamed)
    open_places = {name for name, _, _ in entry.places}
    if classes is None or any(
        renamed[name] != expected[name] for name in new_names if name not in open_places
    ):
        return None
    return _specify(entry, classes), {
        new: tensors[old] for new, old in zip(new_names, old_names, strict=True)
    }


def _confirmed(built: Built) -> bool:
    images = batchnorm_evidence.photographs(built.input) if built.input is not None else None
    distances = batchnorm_evidence.distances(built.model, images) if images is not None else []
    return len(distances) >= batchnorm_evidence.MIN_LAYERS and sum(distances) / len(distances) < _MAX_DISTANCE


def _nearest(tensors: Tensors) -> str:
    """The architecture with the fewest tensors that differ, and what differs."""
    options = []
    for names in variants(tensors):
        shapes = shapes_of(names)
        for named in (True, False):
            for score, entry in shipped().nearest(shapes, _MAX_NEAREST, named=named):
                if score > 0:
                    options.append(
                        (-score if named else 1.0 - score, ambiguous.rank(entry.spec), entry, shapes, named)
                    )
    if not options:
        return f"the nearest has nothing in common with its {len(tensors)} tensors"
    options.sort(key=lambda option: option[:2])
    best = None
    for _, _, entry, shapes, named in options[:_MAX_NEAREST]:
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
