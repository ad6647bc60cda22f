"""The metrics that go with a model's outputs and with the labels of the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tsdistill.evaluation.counted_positions import labels_for
from tsdistill.evaluation.named_outputs import named_outputs
from tsdistill.evaluation.output_layout import Layout, layouts
from tsdistill.evaluation.token_metrics import scores_tokens
from tsdistill.options.output_options import CLASSES, UNUSED


def default_metrics(
    labelled: bool,
    reference: bool,
    *,
    output: Any = None,
    target: Any = None,
    outputs: Mapping[str, str] | None = None,
    tokens: frozenset[int] = frozenset(),
) -> tuple[str, ...]:
    """The built-in metrics whose needs are met.

    Class scores: ``top1`` with labels (and ``top5`` from five classes on), of tokens ``perplexity`` and
    ``next_token`` in their place; ``agreement`` and ``kl`` with a reference. Values (or labels that are no
    class numbers): ``mse`` with labels, ``output_mse`` with a reference. Of several outputs ``output_mse``
    over all of them comes first, then the metrics of each by its name, such as ``kl@scores``. A list of
    mappings, as detectors give it: none. Class numbers that are not one for each prediction (a folder's,
    beside maps) say nothing of the output: maps are taken for scores of each place all the same, sequences
    for values.

    Args:
        labelled: whether there are labels.
        reference: whether there is a model to compare with.
        output: of one batch, whole; without it class scores are assumed.
        target: of that batch; for several outputs a mapping from the name of an output to its labels.
        outputs: what the user says of them (see `tsdistill.evaluation.output_layout.layouts`).
        tokens: numbers of tokens that the model embeds (see `tsdistill.evaluation.token_metrics`).
    """
    if output is None:
        return (*(("top1",) if labelled else ()), *(("agreement", "kl") if reference else ()))
    tensors = named_outputs(output)
    known = layouts(tensors, outputs, target) if tensors else {}
    used = {name: tensors[name] for name, layout in known.items() if layout.kind != UNUSED}
    if len(used) == 1:
        name, tensor = next(iter(used.items()))
        stated = outputs is not None and name in outputs
        metrics = _of_one(tensor, known[name], target, reference, stated, tokens)
        return metrics if len(tensors) == 1 else tuple(f"{metric}@{name}" for metric in metrics)
    many = ("output_mse",) if used and reference else ()
    each = (
        f"{metric}@{name}"
        for name, tensor in used.items()
        for metric in _of_several(tensor, known[name], target, reference, tokens)
    )
    return (*many, *each)


def _of_one(
    tensor: Tensor, layout: Layout, target: Any, reference: bool, stated: bool, tokens: frozenset[int]
) -> tuple[str, ...]:
    labels = target.get(layout.name) if isinstance(target, Mapping) else target
    labels = labels if isinstance(labels, Tensor) else None
    if layout.kind != CLASSES or (labels is not None and labels.is_floating_point()):
        return (*(("mse",) if labels is not None else ()), *(("output_mse",) if reference else ()))
    scores = layout.rows(tensor)
    if labels is not None and labels.numel() != scores[..., 0].numel():
        if tensor.ndim == 3 and not stated:
            return ("output_mse",) if reference else ()
        labels = None
    return (*_top(labels, scores, tokens), *(("agreement", "kl") if reference else ()))


def _of_several(
    tensor: Tensor, layout: Layout, target: Any, reference: bool, tokens: frozenset[int]
) -> tuple[str, ...]:
    labels = labels_for(layout, tensor, target)
    if layout.kind == CLASSES:
        numbers = None if labels is None or labels.is_floating_point() else labels
        return (*_top(numbers, layout.rows(tensor), tokens), *(("agreement", "kl") if reference else ()))
    has_own_labels = labels is not None and isinstance(target, Mapping)
    return (*(("mse",) if has_own_labels else ()), *(("output_mse",) if reference else ()))


def _top(labels: Tensor | None, scores: Tensor, tokens: frozenset[int]) -> tuple[str, ...]:
    if labels is not None and scores_tokens(scores, tokens):
        return ("perplexity", "next_token")
    return () if labels is None else ("top1", "top5") if scores.shape[-1] >= 5 else ("top1",)
