"""Figures of one model in one pass over the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tsdistill import plugins
from tsdistill.data import Stream, open_data
from tsdistill.errors import TsdistillError
from tsdistill.evaluation.forward import at_rest, forward, main_output
from tsdistill.evaluation.metrics import Metric
from tsdistill.models.origin import info_of

KIND = "evaluation metric"


def default_metrics(labelled: bool, reference: bool) -> tuple[str, ...]:
    """``top1`` where there are labels, ``agreement`` and ``kl`` where there is a reference."""
    return (*(("top1",) if labelled else ()), *(("agreement", "kl") if reference else ()))


def evaluate(
    model: nn.Module,
    data: Any,
    metrics: Sequence[str] | None = None,
    reference: nn.Module | None = None,
    *,
    samples: int | None = None,
    batch_size: int = 32,
    seed: int = 0,
) -> dict[str, float]:
    """Evaluate ``model`` on ``data``.

    Args:
        model: run in evaluation mode without gradients and left as it was.
        data: a ``Stream``, or whatever ``open_data`` takes (for the inputs that the model says it reads).
        metrics: names of evaluation metrics; by default those whose needs are met.
        reference: the model to compare with, such as the one before pruning.
        samples: at most so many (only when ``data`` is not a ``Stream``).
        batch_size: samples per batch (likewise).
        seed: of the part of the data (likewise).

    Returns:
        Metric name -> figure. The built-in ones: percent for ``top1``, ``top5`` and ``agreement``, nats for
        ``kl``.

    Raises:
        TsdistillError: a metric is unknown, lacks what it needs or does not fit the outputs; a forward pass
            fails or gives NaN or infinite values.
    """
    stream = as_stream(model, data, samples, batch_size, seed)
    return evaluate_all([model], stream, metrics, reference)[0]


def as_stream(model: nn.Module, data: Any, samples: int | None, batch_size: int, seed: int) -> Stream:
    """``data`` itself when it is a stream, else ``open_data`` of it for the inputs of ``model``."""
    if isinstance(data, Stream):
        return data
    return open_data(data, info_of(model).input, samples=samples, batch_size=batch_size, seed=seed)


def evaluate_all(
    models: Sequence[nn.Module], stream: Stream, metrics: Sequence[str] | None, reference: nn.Module | None
) -> list[dict[str, float]]:
    """The figures of several models in one pass over the stream, each as ``evaluate`` gives them."""
    if isinstance(metrics, str):
        metrics = [metrics]
    names = tuple(metrics) if metrics is not None else default_metrics(stream.labelled, reference is not None)
    if not names:
        raise TsdistillError("nothing to evaluate: the data have no labels and there is no reference= model")
    classes = {name: plugins.get(KIND, name) for name in names}
    have = {"labels": stream.labelled, "reference": reference is not None}
    _check_needs(classes, have)
    running: list[Mapping[str, Metric]] = [{name: kind() for name, kind in classes.items()} for _ in models]
    compared = reference is not None and any("reference" in kind.needs for kind in classes.values())
    distinct = [model for model in models if model is not reference]
    every = (*distinct, *([reference] if reference is not None else []))
    with at_rest(*every, fast=True), torch.no_grad():
        for x, labels in stream:
            target = _outputs(reference, x, "the reference") if compared and reference is not None else None
            for model, states in zip(models, running, strict=True):
                same = target is not None and model is reference
                outputs = target if same and target is not None else _outputs(model, x, "the model")
                for metric in states.values():
                    metric.update(outputs, _on(labels, outputs), _on(target, outputs))
    return [{name: float(metric.compute()) for name, metric in states.items()} for states in running]


def _check_needs(classes: Mapping[str, Any], have: Mapping[str, bool]) -> None:
    ways = {"labels": "give labelled data", "reference": "give reference="}
    for name, kind in classes.items():
        for need in sorted(kind.needs):
            if not have.get(need, False):
                way = ways.get(need, "tsdistill gives only labels and reference")
                raise TsdistillError(f"the metric {name} needs {need}; {way} or leave the metric out")


def _outputs(model: nn.Module, x: Any, who: str) -> Tensor:
    output = main_output(forward(model, x, who.removeprefix("the ")))
    if not bool(torch.isfinite(output).all()):
        what = "NaN" if bool(torch.isnan(output).any()) else "infinite values"
        raise TsdistillError(
            f"{who} ({type(model).__name__}) gives {what} on the data; see that its weights are finite"
        )
    return output


def _on(tensor: Tensor | None, other: Tensor) -> Tensor | None:
    return None if tensor is None else tensor.to(other.device)
