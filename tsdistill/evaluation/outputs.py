"""What a model's output is made of: class scores, values, or a structure that its own metric reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tsdistill.evaluation.forward import PREFERRED, tensors


def single(output: Any) -> Tensor | None:
    """The one tensor that stands for the whole output; ``None`` where none does.

    A floating tensor; ``logits``, ``out`` or the only floating tensor of a mapping or object; the first
    floating tensor of a sequence, unless the sequence is of mappings (a dictionary of boxes for each sample).
    """
    if isinstance(output, Tensor):
        return output if output.is_floating_point() else None
    if isinstance(output, Mapping):
        named = next((output[key] for key in PREFERRED if key in output), None)
        if named is not None:
            return single(named)
        floating = _floating(output)
        return floating[0] if len(floating) == 1 else None
    if isinstance(output, (tuple, list)):
        if output and all(isinstance(item, Mapping) for item in output):
            return None
        return next((found for item in output if (found := single(item)) is not None), None)
    named = next((getattr(output, name) for name in PREFERRED if hasattr(output, name)), None)
    return None if named is None else single(named)


def judged(output: Any) -> list[tuple[str, Tensor]]:
    """The tensor that stands for the whole output, or else all of its floating tensors; with names, those of
    a mapping's keys. A sequence of mappings, one for each sample, repeats them.
    """
    alone = single(output)
    if alone is not None:
        return [("", alone)]
    if isinstance(output, Mapping):
        return [(str(key), tensor) for key, value in output.items() for tensor in _floating(value)]
    if isinstance(output, (tuple, list)) and all(isinstance(item, Mapping) for item in output):
        return [pair for item in output for pair in judged(dict(item))]
    return [(str(place), tensor) for place, tensor in enumerate(_floating(output))]


def classes_last(output: Tensor) -> Tensor | None:
    """Scores ``(..., classes)``; ``None`` where there are no two classes to choose from.

    Classes lie on dimension 1 of ``(batch, classes)`` and of maps ``(batch, classes, height, width[,
    depth])``, on the last one of sequences ``(batch, length, classes)``.
    """
    if output.ndim in (4, 5):
        output = output.movedim(1, -1)
    return output if output.ndim in (2, 3, 4, 5) and output.shape[-1] >= 2 else None


def default_metrics(
    labelled: bool, reference: bool, *, output: Any = None, target: Any = None
) -> tuple[str, ...]:
    """The built-in metrics whose needs are met.

    Class scores: ``top1`` with labels (and ``top5`` from five classes on), ``agreement`` and ``kl`` with a
    reference. Values (a single output, or labels that are no class numbers): ``mse`` with labels,
    ``output_mse`` with a reference. Several tensors: ``output_mse``. A list of mappings, as detectors give
    it: none. Class numbers that are not one for each prediction (a folder's, beside maps) say nothing of the
    output: maps are taken for scores of each place all the same, sequences for values.

    Args:
        labelled: whether there are labels.
        reference: whether there is a model to compare with.
        output: of one batch, whole; without it class scores are assumed.
        target: of that batch.
    """
    if output is None:
        return (*(("top1",) if labelled else ()), *(("agreement", "kl") if reference else ()))
    alone = single(output)
    if alone is None:
        whole = isinstance(output, Mapping) and bool(_floating(output))
        return ("output_mse",) if reference and whole else ()
    labels = target if isinstance(target, Tensor) else None
    scores = classes_last(alone)
    if scores is None or (labels is not None and labels.is_floating_point()):
        return (*(("mse",) if labels is not None else ()), *(("output_mse",) if reference else ()))
    if labels is not None and labels.numel() != scores[..., 0].numel():
        if alone.ndim == 3:
            return ("output_mse",) if reference else ()
        labels = None
    top = () if labels is None else ("top1", "top5") if scores.shape[-1] >= 5 else ("top1",)
    return (*top, *(("agreement", "kl") if reference else ()))


def describe(output: Any) -> str:
    """An output in words, for messages: ``"a list of mappings"``, ``"a tensor of shape (4, 10)"``."""
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    if isinstance(output, (tuple, list)) and output and all(isinstance(item, Mapping) for item in output):
        return f"a {type(output).__name__} of mappings"
    return f"a {type(output).__name__}"


def _floating(output: Any) -> list[Tensor]:
    return [tensor for tensor in tensors(output) if tensor.is_floating_point()]
