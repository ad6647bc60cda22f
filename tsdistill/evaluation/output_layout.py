"""What an output holds, class scores or values, and on which dimension its classes are.

Losses, metrics, `compare` and the cache of teacher outputs all ask here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tsdistill.errors import TsdistillError
from tsdistill.evaluation.named_outputs import main_name
from tsdistill.options.output_options import CLASSES, VALUES

_CLASS_WORDS = frozenset(
    {"logits", "logit", "scores", "score", "cls", "class", "classes", "classification", "out", "aux"}
)
"""Words in a name that say that an output holds class scores; ``out`` and ``aux`` are torchvision's."""

_VALUE_WORDS = frozenset({"hidden", "pooler", "embeds", "embedding", "embeddings", "box", "boxes", "bbox"})
"""Words in a name that say that an output holds values, even where it is the only one."""


_ROUNDING = 1e-2
"""Largest difference of a sum of probabilities from 1, absolute: half precision rounds each value to 3
decimal digits."""


@dataclass(frozen=True)
class Layout:
    """How one output is read.

    Attributes:
        name: of the output.
        kind: ``"classes"`` (scores, one of which is the largest), ``"values"``, or ``"unused"``.
        axis: the dimension of the classes, or of the features of a position; ``None`` where every value is a
            position of its own. All other dimensions are positions, the batch among them.
    """

    name: str
    kind: str
    axis: int | None

    def rows(self, tensor: Tensor) -> Tensor:
        """``tensor`` with its positions first and the classes or features last: ``[*positions, classes]``."""
        return tensor.unsqueeze(-1) if self.axis is None else tensor.movedim(self.axis, -1)

    def positions(self, tensor: Tensor) -> tuple[int, ...]:
        """The sizes of all dimensions but that of the classes."""
        return tuple(self.rows(tensor).shape[:-1])


def layout_of(tensor: Tensor, name: str = "output", kind: str | None = None) -> Layout:
    """The layout of an output by its shape.

    Classes (or features) lie on dimension 1 of ``(batch, classes)`` and of maps ``(batch, classes, height,
    width[, depth])``, on the last one of sequences ``(batch, length, classes)``. Every value is a position of
    its own in all other shapes.

    Args:
        tensor: the output.
        name: its name.
        kind: what it holds; ``None``: classes where there are two or more to choose from and the name does
            not speak of values.
    """
    axis = {2: 1, 3: 2, 4: 1, 5: 1}.get(tensor.ndim)
    if kind is None:
        several = axis is not None and tensor.shape[axis] >= 2
        kind = CLASSES if several and not _words(name) & _VALUE_WORDS else VALUES
    return Layout(name, kind, axis)


def layouts(
    outputs: Mapping[str, Tensor], stated: Mapping[str, str] | None = None, target: Any = None
) -> dict[str, Layout]:
    """The layout of each output, by name.

    An output that is the only one holds class scores where its shape has classes, unless its labels are
    values: neither class numbers nor probabilities. Of several outputs those hold class scores whose name
    says so (``logits``, ``scores``, ...) and the only one whose positions the class numbers of ``target``
    fit. All others hold values: the squared error of scores still teaches them, while a divergence of values
    leaves their offset free.

    Args:
        outputs: by name (see `tsdistill.evaluation.named_outputs.named_outputs`).
        stated: by name what the user says: ``"classes"``, ``"classes:DIM"``, ``"values"`` or ``"unused"``.
        target: of the same batch, where there are labels.

    Raises:
        TsdistillError: ``stated`` names an output that there is not, or a dimension that it has not.
    """
    stated = dict(stated or {})
    unknown = next((name for name in stated if name not in outputs), None)
    if unknown is not None:
        raise TsdistillError(
            f"outputs: the model has no output {unknown!r}; it gives {', '.join(outputs) or 'no tensor'}"
        )
    by_name = {name: _guessed(outputs, name) for name in outputs}
    labels = target if isinstance(target, Tensor) else None
    if len(outputs) == 1 and labels is not None and _are_values(labels, *outputs.values()):
        by_name = {name: layout_of(tensor, name, VALUES) for name, tensor in outputs.items()}
    elif len(outputs) > 1 and labels is not None and not labels.is_floating_point():
        fitting = [name for name, tensor in outputs.items() if _fits(labels, tensor, by_name[name])]
        if len(fitting) == 1:
            by_name[fitting[0]] = layout_of(outputs[fitting[0]], fitting[0], CLASSES)
    by_name.update({name: _stated(outputs[name], name, text) for name, text in stated.items()})
    return by_name


def class_output(outputs: Mapping[str, Tensor], known: Mapping[str, Layout]) -> str:
    """The output that labels number and that metrics of classes judge where none is named: the main one if it
    holds class scores, else the first that does, else the main one."""
    main = main_name(outputs)
    if known[main].kind == CLASSES:
        return main
    return next((name for name, layout in known.items() if layout.kind == CLASSES), main)


def paired(outputs: Mapping[str, Any], other_outputs: Mapping[str, Any]) -> dict[str, str]:
    """The output of the other model that goes with each of ``mine``: that of the same name; without common
    names that at the same place; the main ones in any case where either model has one output only."""
    common = {name: name for name in outputs if name in other_outputs}
    if common:
        return common
    if len(outputs) == len(other_outputs):
        return dict(zip(outputs, other_outputs, strict=True))
    return {main_name(outputs): main_name(other_outputs)} if outputs and other_outputs else {}


def _guessed(outputs: Mapping[str, Tensor], name: str) -> Layout:
    tensor = outputs[name]
    if len(outputs) == 1:
        return layout_of(tensor, name)
    others = [other.shape[:2] for other in outputs.values() if other.ndim == 3]
    if tensor.ndim == 2 and tensor.shape in others:
        return Layout(name, VALUES, None)  # one value for each box or token
    spoken = bool(_words(name) & _CLASS_WORDS)
    return layout_of(tensor, name, None if spoken else VALUES)


def _stated(tensor: Tensor, name: str, text: str) -> Layout:
    kind, _, dim = text.partition(":")
    if not dim:
        return layout_of(tensor, name, kind)
    axis = int(dim)
    if not -tensor.ndim <= axis < tensor.ndim:
        raise TsdistillError(f"outputs: {name}={text}: the output has the dimensions 0 to {tensor.ndim - 1}")
    return Layout(name, kind, axis % tensor.ndim)


def _fits(labels: Tensor, tensor: Tensor, layout: Layout) -> bool:
    """Whether labels may be class numbers of an output: one for each position, all below its classes."""
    rows = layout.rows(tensor)
    if layout.axis is None or rows.shape[-1] < 2 or tuple(labels.shape) != tuple(rows.shape[:-1]):
        return False
    return bool(labels.numel()) and int(labels.max()) < rows.shape[-1]


def probabilities(rows: Tensor) -> bool:
    """Whether ``rows [*positions, classes]`` are probabilities, as far as half precision can tell."""
    if not rows.numel():
        return True
    return float(rows.min()) >= -_ROUNDING and bool(((rows.double().sum(-1) - 1).abs() < _ROUNDING).all())


def _are_values(labels: Tensor, tensor: Tensor) -> bool:
    if not labels.is_floating_point():
        return False
    layout = layout_of(tensor)
    same = labels.shape == tensor.shape and layout.kind == CLASSES
    return not (same and probabilities(layout.rows(labels)))


def _words(name: str) -> set[str]:
    """The words of a name: ``pred_boxes`` and ``predBoxes`` have ``pred`` and ``boxes``."""
    return set(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ").replace(".", " ").lower().split())
