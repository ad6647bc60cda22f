"""Figures of models in one pass over the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from tsdistill import plugins
from tsdistill.data import Stream, open_data
from tsdistill.errors import TsdistillError
from tsdistill.evaluation.forward import at_rest, count, forward, main_output, placement, tensors
from tsdistill.evaluation.metric import KIND, RAW, Metric, wants_of
from tsdistill.evaluation.outputs import default_metrics
from tsdistill.models.origin import info_of

Tell = Callable[[str, int, int | None], None]
"""Is told the phase, how many samples are done, and of how many (``None`` when nobody knows)."""


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
        metrics: names of evaluation metrics; by default the built-in ones whose needs are met and that go
            with the outputs (see `tsdistill.evaluation.default_metrics`).
        reference: the model to compare with, such as the one before pruning.
        samples: at most so many (only when ``data`` is not a ``Stream``).
        batch_size: samples per batch (likewise).
        seed: of the part of the data (likewise).

    Returns:
        Metric name -> figure. The built-in ones: percent for ``top1``, ``top5`` and ``agreement``, nats for
        ``kl``; ``mse``, ``mae`` and ``output_mse`` as `tsdistill.evaluation.regression` says.

    Raises:
        TsdistillError: a metric is unknown, fails, lacks what it needs or does not fit the outputs; none goes
            with them; a forward pass fails or gives NaN or infinite values.
    """
    stream = as_stream(model, data, samples, batch_size, seed)
    figures = evaluate_all([model], stream, metrics, reference)[0]
    if figures:
        return figures
    if not stream.labelled and reference is None:
        raise TsdistillError("nothing to evaluate: the data have no labels and there is no reference= model")
    raise TsdistillError(
        "nothing to evaluate: no built-in metric goes with such outputs; name metrics of a plugin"
    )


def as_stream(model: nn.Module, data: Any, samples: int | None, batch_size: int, seed: int) -> Stream:
    """``data`` itself when it is a stream, else ``open_data`` of it for the inputs of ``model``."""
    if isinstance(data, Stream):
        return data
    return open_data(data, info_of(model).input, samples=samples, batch_size=batch_size, seed=seed)


def evaluate_all(
    models: Sequence[nn.Module],
    stream: Stream,
    metrics: Sequence[str] | None,
    reference: nn.Module | None,
    *,
    names: Sequence[str] | None = None,
    progress: Tell | None = None,
) -> list[dict[str, float]]:
    """The figures of several models in one pass over the stream, each as ``evaluate`` gives them.

    Args:
        models: in the order of the result.
        stream: the samples.
        metrics: names; ``None`` for those that go with the first batch, which may be none.
        reference: what the models are compared with; one of them or another.
        names: what messages call the models.
        progress: is told how many samples are done.
    """
    if isinstance(metrics, str):
        metrics = [metrics]
    have = {"labels": stream.labelled, "reference": reference is not None}
    kinds = None if metrics is None else _kinds(metrics, have)
    called = ["the model"] * len(models) if names is None else [f"the model {name}" for name in names]
    its_place = next((n for n, model in enumerate(models) if model is reference), None)
    their_name = "the reference" if names is None or its_place is None else called[its_place]
    running: list[dict[str, Metric]] = []
    done = 0
    others = [] if reference is None or any(model is reference for model in models) else [reference]
    with at_rest(*models, *others, fast=True), torch.no_grad():
        for x, target in stream:
            theirs = None if reference is None else _Run(reference, x, their_name)
            first = theirs or _Run(models[0], x, called[0])
            if kinds is None:
                chosen = default_metrics(
                    stream.labelled, reference is not None, output=first.whole(), target=target
                )
                kinds = _kinds(chosen, have)
            if not kinds:
                break
            running = running or [{name: kind() for name, kind in kinds.items()} for _ in models]
            compared = any("reference" in kind.needs for kind in kinds.values())
            for model, who, states in zip(models, called, running, strict=True):
                run = first if model is first.model else _Run(model, x, who)
                for name, metric in states.items():
                    _update(name, metric, run, target, theirs if compared else None)
            done += count(x)
            if progress is not None:
                progress("evaluating", done, stream.samples)
    if not kinds:
        return [{} for _ in models]
    return [{name: _figure(name, metric) for name, metric in states.items()} for states in running]


def _kinds(names: Sequence[str], have: Mapping[str, bool]) -> dict[str, Any]:
    """The metrics' classes by name; refuses those whose needs are not met."""
    kinds = {name: plugins.get(KIND, name) for name in names}
    ways = {"labels": "give labelled data", "reference": "give reference="}
    for name, kind in kinds.items():
        wants_of(kind, name)
        for need in sorted(kind.needs):
            if not have.get(need, False):
                way = ways.get(need, "tsdistill gives only labels and reference")
                raise TsdistillError(f"the metric {name} needs {need}; {way} or leave the metric out")
    return kinds


class _Run:
    """One model on one batch, run when its output is first asked for."""

    def __init__(self, model: nn.Module, x: Any, who: str) -> None:
        self.model = model
        self._x, self._who = x, who
        self._ran = False
        self._output: Any = None
        self._main: Tensor | None = None

    def whole(self) -> Any:
        """The output as the model gives it."""
        if not self._ran:
            self._output = forward(self.model, self._x, self._who.removeprefix("the "))
            self._ran = True
        return self._output

    def sound(self) -> Any:
        """The output as the model gives it; refuses NaN."""
        if any(bool(torch.isnan(t).any()) for t in tensors(self.whole()) if t.is_floating_point()):
            self._refuse("NaN")
        return self._output

    def main(self) -> Tensor:
        """The tensor that the output is judged by; refuses infinite values too."""
        if self._main is None:
            self._main = main_output(self.whole())
            if not bool(torch.isfinite(self._main).all()):
                self._refuse("NaN" if bool(torch.isnan(self._main).any()) else "infinite values")
        return self._main

    def _refuse(self, what: str) -> None:
        kind = type(self.model).__name__
        raise TsdistillError(
            f"{self._who} ({kind}) gives {what} on the data; see that its weights are finite"
        )


def _update(name: str, metric: Any, mine: _Run, target: Any, theirs: _Run | None) -> None:
    device, _ = placement(mine.model)
    if wants_of(metric, name) == RAW:
        given = mine.sound(), _moved(target, device), _moved(theirs.sound(), device) if theirs else None
    else:
        labels = target if isinstance(target, Tensor) else None
        if labels is None and target is not None and "labels" in metric.needs:
            kind = type(target).__name__
            raise TsdistillError(
                f"the metric {name} needs labels in one tensor, but targets are a {kind}; leave it out or "
                'use one that wants "raw"'
            )
        output = mine.main()
        given = (
            output,
            _moved(labels, output.device),
            _moved(theirs.main(), output.device) if theirs else None,
        )
    try:
        metric.update(*given)
    except TsdistillError:
        raise
    except Exception as error:  # a plugin's metric may raise anything
        raise _failed(name, error) from error


def _figure(name: str, metric: Any) -> float:
    try:
        return float(metric.compute())
    except TsdistillError:
        raise
    except Exception as error:  # a plugin's metric may raise anything
        raise _failed(name, error) from error


def _failed(name: str, error: Exception) -> TsdistillError:
    cause = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return TsdistillError(
        f"the metric {name} ({plugins.origin(KIND, name)}) fails: {cause}; leave it out or mend it"
    )


def _moved(value: Any, device: torch.device) -> Any:
    """``value`` with its tensors on ``device``."""
    if all(tensor.device == device for tensor in tensors(value)):
        return value
    return pytree.tree_map_only(Tensor, lambda tensor: tensor.to(device), value)
