"""Figures of models in one pass over the data."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tsdistill import plugins
from tsdistill.data import Stream, open_data
from tsdistill.data.text.text_spec import input_spec
from tsdistill.errors import TsdistillError, cause_of
from tsdistill.evaluation.counted_positions import aligned_labels, counted, labels_for
from tsdistill.evaluation.default_metrics import default_metrics
from tsdistill.evaluation.metric import KIND, MODEL, OUTPUTS, POSITIONS, RAW, Metric, metric_kind, wants_of
from tsdistill.evaluation.model_run import Run
from tsdistill.evaluation.output_layout import Layout, class_output, layouts, paired
from tsdistill.evaluation.token_metrics import token_counts
from tsdistill.models.requirements import check_runnable
from tsdistill.options.data_options import DataOptions
from tsdistill.options.old_names import Move, grouped
from tsdistill.options.output_options import CLASSES, UNUSED
from tsdistill.options.pruning_options import JudgeOptions
from tsdistill.runtime.forward import placement
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.runtime.nests import arguments_of, by_name, count, moved, tensors
from tsdistill.runtime.progress import Progress, tell
from tsdistill.runtime.unchanged import unchanged

_LOG = logging.getLogger("tsdistill")

EVALUATE = "evaluating samples"

Judging = JudgeOptions | Mapping[str, Any] | str | type[Metric] | Sequence[str | type[Metric]]
"""What functions take as ``judging``: options, some of them by name, or metrics."""


@grouped(moved={"metrics": Move("judging", "metric")}, judging=JudgeOptions, inputs=DataOptions)
@unchanged
def evaluate(
    model: nn.Module,
    data: Any,
    judging: Judging = JudgeOptions(),
    reference: nn.Module | None = None,
    *,
    inputs: DataOptions | Mapping[str, Any] = DataOptions(),
    seed: int = 0,
) -> dict[str, float]:
    """Evaluate ``model`` on ``data``.

    Args:
        model: run in evaluation mode without gradients and left as it was.
        data: a ``Stream``, or whatever ``open_data`` takes (for the inputs that the model says it reads).
        judging: names of evaluation metrics, of one output ``"kl@scores"``, or `JudgeOptions` with them and
            with what the outputs hold (see `tsdistill.evaluation.output_layout.layouts`); by default the
            built-in metrics whose needs are met and that go with the outputs (see
            `tsdistill.evaluation.default_metrics`).
        reference: the model to compare with, such as the one before pruning.
        inputs: how samples are read and how inputs look (only when ``data`` is not a ``Stream``).
        seed: of the part of the data (likewise).

    Returns:
        Metric name -> figure. The built-in ones: percent for ``top1``, ``top5`` and ``agreement``, nats for
        ``kl``; ``perplexity`` and, in percent, ``next_token`` of models of language; ``mse``, ``mae`` and
        ``output_mse`` as `tsdistill.evaluation.value_metrics` says.

    Raises:
        TsdistillError: a metric is unknown, fails, lacks what it needs or does not fit the outputs; none goes
            with them; a forward pass fails or gives NaN or infinite values.
    """
    judging = judge_options(judging, "evaluate")
    check_runnable(model)
    if reference is not None:
        check_runnable(reference, "reference")
    others = () if reference is None else (reference,)
    stream = as_stream(model, data, DataOptions.of(inputs), seed, others)
    figures = evaluate_all([model], stream, judging, reference)[0]
    if stream is not data:
        for note in stream.notes:
            _LOG.warning("%s", note)
    if figures:
        return figures
    if not stream.labelled and reference is None:
        raise TsdistillError("nothing to evaluate: the data have no labels and there is no reference model")
    raise TsdistillError(
        "nothing to evaluate: no built-in metric goes with such outputs; name metrics of a plugin"
    )


def judge_options(judging: Judging, function: str) -> JudgeOptions:
    """The options of judging that a function takes, which judges by all samples that it is given.

    Args:
        judging: as the caller gives it.
        function: its name, for messages.

    Raises:
        TsdistillError: an option that does not exist, or ``judged``.
    """
    options = JudgeOptions.of(judging)
    options.refuse(f"{function}, which judges by all samples,", "judged")
    return options


def as_stream(
    model: nn.Module, data: Any, inputs: DataOptions, seed: int, others: Sequence[nn.Module] = ()
) -> Stream:
    """``data`` itself when it is a stream, else ``open_data`` of it for the inputs of ``model``.

    Args:
        model: the model whose inputs the samples become.
        data: a stream, or whatever ``open_data`` takes.
        inputs: how samples are read and preprocessed.
        seed: of the random choice of samples.
        others: models that see the same samples, whose tokenizer serves where ``model`` has none.

    Raises:
        TsdistillError: an augmentation is asked for, or anything that ``open_data`` raises.
    """
    if isinstance(data, Stream):
        return data
    inputs.refuse("an evaluation", "augment")
    spec, arguments = input_spec(model, inputs, *others), arguments_of(model, inputs.example_input)
    return open_data(data, spec, inputs.reading, seed=seed, arguments=arguments)


def evaluate_all(
    models: Sequence[nn.Module],
    stream: Stream,
    judging: JudgeOptions,
    reference: nn.Module | None,
    *,
    names: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> list[dict[str, float]]:
    """The figures of several models in one pass over the stream, each as ``evaluate`` gives them.

    Args:
        models: in the order of the result.
        stream: the samples.
        judging: the metrics, by default those that go with the first batch, which may be none; and what the
            outputs hold.
        reference: what the models are compared with; one of them or another.
        names: what messages call the models.
        progress: called with the number of samples done.
    """
    metrics = None if judging.metric is None else plugins.names_of(judging.metric)
    outputs, ignore_index = judging.outputs, judging.ignore_index
    have = {"labels": stream.labelled, "reference": reference is not None}
    kinds = None if metrics is None else _kinds(metrics, have)
    called = ["the model"] * len(models) if names is None else [f"the model {name}" for name in names]
    reference_index = next((n for n, model in enumerate(models) if model is reference), None)
    reference_name = "the reference" if names is None or reference_index is None else called[reference_index]
    running: list[dict[str, Metric]] = []
    selector: _OutputSelector | None = None
    done = 0
    others = [] if reference is None or any(model is reference for model in models) else [reference]
    with evaluation_mode(*models, *others, fast=True), torch.no_grad():
        for x, target in stream:
            named = by_name(models[0], x)
            target = aligned_labels(named, target, ignore_index)
            reference_run = None if reference is None else Run(reference, x, reference_name)
            if reference_run is not None:
                reference_run.whole()
            first = (
                reference_run if reference_run is not None and not others else Run(models[0], x, called[0])
            )
            runs = [
                first if m is first.model else Run(m, x, who) for m, who in zip(models, called, strict=True)
            ]
            if selector is None and first.structured:
                outputs = {**_alone(first, [*runs, reference_run or first]), **outputs}
            if kinds is None:
                chosen = default_metrics(
                    stream.labelled,
                    reference is not None,
                    output=first.whole(),
                    target=target,
                    outputs=outputs,
                    tokens=token_counts(models[0]),
                )
                kinds = _kinds(chosen, have)
            if not kinds:
                break
            selector = selector or _selector(kinds, first, outputs, target, ignore_index)
            running = running or [{name: kind() for name, kind in kinds.items()} for _ in models]
            for states in running:
                run = runs.pop(0)  # its outputs are free when the next model runs
                for name, metric in states.items():
                    _update(name, metric, selector, _Runs(run, reference_run, first), named, target)
            if all(wants_of(kind, name) == MODEL for name, kind in kinds.items()):
                break
            done += count(x)
            tell(progress, EVALUATE, done, stream.samples)
        for model, states in zip(models, running, strict=False):
            _give_model(model, states, reference)
    if not kinds:
        return [{} for _ in models]
    return [{name: _figure(name, metric) for name, metric in states.items()} for states in running]


def _alone(first: Run, runs: Sequence[Run]) -> dict[str, str]:
    """The outputs of the first model that another one does not give, as unused ones."""
    shared = [paired(first.named(), run.named()) for run in runs if run is not first]
    return {name: UNUSED for name in first.named() if not all(name in pairs for pairs in shared)}


def _selector(
    kinds: Mapping[str, Any], first: Run, outputs: Mapping[str, str], target: Any, ignore_index: int
) -> _OutputSelector:
    raw = all(wants_of(kind, name) in (RAW, MODEL) for name, kind in kinds.items())
    known = {} if raw else layouts(first.named(), outputs, target)
    return _OutputSelector(known, kinds, ignore_index)


def _kinds(names: Sequence[str], have: Mapping[str, bool]) -> dict[str, Any]:
    """The metrics' classes by name; refuses those whose needs are not met."""
    kinds = {name: metric_kind(name) for name in names}
    ways = {"labels": "give labelled data", "reference": "give a reference model"}
    for name, kind in kinds.items():
        wants_of(kind, name)
        for need in sorted(kind.needs):
            if not have.get(need, False):
                way = ways.get(need, "tsdistill gives only labels and reference")
                raise TsdistillError(f"the metric {name} needs {need}; {way} or leave the metric out")
    return kinds


@dataclass(frozen=True, eq=False)
class _OutputSelector:
    """Chooses the tensors that each metric receives; built on the first batch.

    Attributes:
        layouts: of the outputs of the first model that ran, by name.
        kinds: the metrics' classes by name, ``"kl"`` or ``"kl@scores"``.
        ignore_index: the label that counts for nothing.
    """

    layouts: Mapping[str, Layout]
    kinds: Mapping[str, Any]
    ignore_index: int

    def metric_arguments(self, name: str, runs: _Runs, x: Any, target: Any) -> tuple[Any, Any, Any]:
        """Outputs, labels and the reference's outputs as the metric ``name`` wants them."""
        metric, _, output = name.partition("@")
        kind = self.kinds[name]
        wants = wants_of(kind, metric)
        device, _ = placement(runs.run.model)
        compared = "reference" in kind.needs
        if wants == RAW or (wants == OUTPUTS and not runs.first.structured):
            reference_outputs = runs.reference.sound() if runs.reference and compared else None
            return runs.run.sound(), _moved(target, device), _moved(reference_outputs, device)
        _check_labels(metric, kind, target)
        if wants == OUTPUTS:
            names = [output] if output else [n for n, known in self.layouts.items() if known.kind != UNUSED]
            both = [self._rows(runs, each, x, target, compared) for each in names]
            if len(names) > 1:
                both = [self._centred(each, *rows) for each, rows in zip(names, both, strict=True)]
            by_name = {each: rows[0] for each, rows in zip(names, both, strict=True)}
            reference = {each: rows[2] for each, rows in zip(names, both, strict=True)} if compared else None
            return by_name, None, reference
        if wants == POSITIONS:
            name = output or class_output(runs.first.named(), self.layouts)
            return self._rows(runs, name, x, target, compared)
        outputs = runs.run.tensor(runs.its(output) if output else None)
        labels = target.get(output) if isinstance(target, Mapping) else target
        reference_outputs = (
            runs.reference.tensor(runs.its(output, True) if output else None) if runs.reference else None
        )
        labels = labels if isinstance(labels, Tensor) else None
        return (
            outputs,
            _moved(labels, outputs.device),
            _moved(reference_outputs if compared else None, outputs.device),
        )

    def _centred(self, name: str, outputs: Any, labels: Any, reference_outputs: Any) -> tuple[Any, Any, Any]:
        """Class scores without their mean over the classes, which changes no probability; values as they
        are."""
        if self.layouts[name].kind != CLASSES:
            return outputs, labels, reference_outputs
        outputs, reference_outputs = (
            None if rows is None else rows.double() - rows.double().mean(-1, keepdim=True)
            for rows in (outputs, reference_outputs)
        )
        return outputs, labels, reference_outputs

    def _rows(self, runs: _Runs, name: str, x: Any, target: Any, compared: bool) -> tuple[Any, Any, Any]:
        """The positions of an output that count: of the model, of the labels, of the reference."""
        if name not in self.layouts:
            raise TsdistillError(f"the models have no output {name!r}; they give {', '.join(self.layouts)}")
        layout, tensor = self.layouts[name], runs.run.one(runs.its(name))
        kept = counted(layout, tensor, x, target, self.ignore_index)
        outputs = runs.run.rows(runs.its(name), layout, kept)
        reference_outputs = None
        if compared and runs.reference is not None:
            reference_tensor = runs.reference.one(runs.its(name, True))
            _check_same(name, tensor, reference_tensor)
            reference_outputs = _moved(
                runs.reference.rows(runs.its(name, True), layout, kept), outputs.device
            )
        labels = labels_for(layout, tensor, target)
        if labels is None:
            whole = target.get(name) if isinstance(target, Mapping) else target
            return (
                outputs,
                _moved(whole, outputs.device) if isinstance(whole, Tensor) else None,
                reference_outputs,
            )
        labels = _moved(labels, outputs.device)
        places = layout.rows(tensor).ndim - 1
        flat = labels.flatten(0, places - 1) if kept is None else labels[kept.to(outputs.device)]
        return outputs, flat, reference_outputs


class _Runs:
    """The runs that a metric looks at: the model's, the reference's, and the first, whose names are used."""

    def __init__(self, model: Run, reference: Run | None, first: Run) -> None:
        self.run, self.reference, self.first = model, reference, first
        self._names: dict[bool, Mapping[str, str]] = {}

    def its(self, name: str, reference: bool = False) -> str:
        """What the model (or the reference) calls the output that the first one calls ``name``."""
        run = self.reference if reference and self.reference is not None else self.run
        if run is self.first:
            return name
        if reference not in self._names:
            self._names[reference] = paired(self.first.named(), run.named())
        return self._names[reference].get(name, name)


def _check_labels(name: str, kind: Any, target: Any) -> None:
    if target is None or isinstance(target, (Tensor, Mapping)) or "labels" not in kind.needs:
        return
    raise TsdistillError(
        f"the metric {name} needs labels in one tensor, but targets are a {type(target).__name__}; leave it "
        'out or use one that wants "raw"'
    )


def _check_same(name: str, model_output: Tensor, reference_output: Tensor) -> None:
    if model_output.shape != reference_output.shape:
        raise TsdistillError(
            f"the output {name} of the model has the shape {tuple(model_output.shape)} and that of the "
            f"reference {tuple(reference_output.shape)}; compare models of one task, with the same classes"
        )


def _update(name: str, metric: Any, selector: _OutputSelector, runs: _Runs, x: Any, target: Any) -> None:
    if wants_of(type(metric), name) != MODEL:
        _call(name, metric, *selector.metric_arguments(name, runs, x, target))


def _give_model(model: nn.Module, states: Mapping[str, Metric], reference: nn.Module | None) -> None:
    """Hand the model to the metrics that want it whole, with what stands behind ``@`` in their names."""
    for name, metric in states.items():
        if wants_of(type(metric), name) == MODEL:
            _call(name, metric, model, name.partition("@")[2], reference)


def _call(name: str, metric: Metric, *arguments: Any) -> None:
    try:
        metric.update(*arguments)
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
    registered = name if isinstance(name, plugins.NamedObject) else name.partition("@")[0]
    origin = plugins.origin(KIND, registered)
    return TsdistillError(f"the metric {name} ({origin}) fails: {cause_of(error)}; leave it out or mend it")


def _moved(value: Any, device: torch.device) -> Any:
    """``value`` with its tensors on ``device``; itself, whatever its class, where they are there already."""
    return value if all(tensor.device == device for tensor in tensors(value)) else moved(value, device)
