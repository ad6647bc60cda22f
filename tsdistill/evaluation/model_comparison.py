"""`compare`: measuring models side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from tsdistill.data.stream import Stream
from tsdistill.errors import TsdistillError
from tsdistill.evaluation.comparison import Comparison
from tsdistill.evaluation.evaluator import EVALUATE, Judging, as_stream, evaluate_all, judge_options
from tsdistill.evaluation.generation_speed import TOKENS_AT_ONCE, decode_timings, tokens_of
from tsdistill.evaluation.metric import metric_kind, traits_of
from tsdistill.evaluation.model_cost import file_size, macs, parameters
from tsdistill.evaluation.named_outputs import WHOLE, describe, named_outputs
from tsdistill.evaluation.output_layout import paired
from tsdistill.models.info import InputSpec
from tsdistill.models.origin import info_of
from tsdistill.models.replacements import without_words
from tsdistill.models.requirements import check_runnable
from tsdistill.options.data_options import DataOptions
from tsdistill.options.old_names import Move, grouped
from tsdistill.options.option_fields import written
from tsdistill.options.output_options import UNUSED
from tsdistill.options.pruning_options import JudgeOptions
from tsdistill.runtime.forward import forward, head, placement, to_model
from tsdistill.runtime.latency import WARM_UP, Timing, measure_pass, timings
from tsdistill.runtime.memory import peak_memory
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.runtime.nests import repeated
from tsdistill.runtime.progress import Progress, expect, tell
from tsdistill.runtime.unchanged import unchanged

COUNT, TIME, MEMORY = "counting", "timing, batch {}", "memory"

_COUNTED = 3.0
"""Cost of the counting stage in forward passes: one for the outputs, and one that the operation counter slows
down, estimated as two."""

_LEAST_SECONDS = 0.25
"""Seconds of timed passes per model, at least: fast models are timed more often than ``repeats`` says, so
that one interruption by the system does not shift the median."""

_REPEATS = 15
"""Timed passes per model by default: an odd number, whose median is one of the measured passes."""

_LARGER = 1.5
"""Ratio of file size to stored weights from which a note says that the file holds more than weights: between
1 (weights alone) and 2 (weights with one copy, such as a moving average)."""


@grouped(moved={"metrics": Move("judging", "metric")}, judging=JudgeOptions, inputs=DataOptions)
@unchanged
def compare(
    models: Sequence[nn.Module] | Mapping[str, nn.Module],
    data: Any = None,
    *,
    names: Sequence[str] | None = None,
    judging: Judging = JudgeOptions(),
    repeats: int = _REPEATS,
    files: Sequence[str | os.PathLike[str] | None] | None = None,
    brief: bool = False,
    inputs: DataOptions | Mapping[str, Any] = DataOptions(),
    seed: int = 0,
    progress: Progress | None = None,
) -> Comparison:
    """Costs and, where there are data, quality of models.

    Args:
        models: the first one is what the others are compared with; a mapping names them.
        data: a ``Stream`` or whatever ``open_data`` takes; ``None``: costs only.
        names: one per model; ``model 1`` and so on by default.
        judging: names of evaluation metrics, of one output ``"kl@scores"``, or `JudgeOptions` with them and
            with what the outputs hold (see `tsdistill.evaluation.output_layout.layouts`); by default the
            built-in metrics whose needs are met and that go with the outputs, every one of them, which may be
            none.
        repeats: timed forward passes per model, at least.
        files: where the models come from, for the size of those files; ``None`` for one that has none, which
            counts what `tsdistill.save` would store.
        brief: leave out file sizes, throughput and peak memory.
        inputs: how samples are read and how inputs look; ``batch_size`` also of throughput and peak memory.
            Without ``example_input``, the first sample of ``data`` is the example of models that do not say
            how inputs look.
        seed: of the part of the data.
        progress: called with the phase, the number of samples done, and their total.

    Raises:
        TsdistillError: there is no model, names or files do not go with the models, the models differ in
            their inputs or outputs, a forward pass fails or a metric does not fit.
    """
    judging, inputs = judge_options(judging, "compare"), DataOptions.of(inputs)
    if isinstance(models, nn.Module):
        raise TsdistillError("compare takes its models in one list: compare([dense, small], data)")
    batch_size = inputs.batch_size
    named = isinstance(models, Mapping) or names is not None
    if isinstance(models, Mapping):
        names, models = tuple(models), tuple(models.values())
    if not models:
        raise TsdistillError("there are no models to compare; give one or more")
    names = tuple(names) if names is not None else tuple(f"model {n}" for n in range(1, len(models) + 1))
    for model, name in zip(models, names, strict=False):
        check_runnable(model, name)
    for what, values in (("name", names), ("file", files)):
        if values is not None and len(values) != len(models):
            raise TsdistillError(f"{len(values)} {what}s for {len(models)} models; give one {what} per model")
    first = next((model for model in models if info_of(model).input is not None), models[0])
    notes = _check_inputs(models, names) if inputs.example_input is None else []
    stream = None if data is None else as_stream(first, data, inputs, seed, models)
    x = _example(first, inputs.example_input, stream)
    length = _length(x)
    if length:
        batch_size = min(batch_size, max(1, TOKENS_AT_ONCE // length))
    seen = 0 if stream is None else stream.samples
    expect(progress, comparison_stages(len(models), seen, batch_size, brief=brief))
    tell(progress, COUNT)
    notes += _check_outputs(models, names, x, judging.outputs)
    measure_pass(progress, first, x)
    tell(progress, COUNT)
    operations = tuple(macs(model, x) for model in models)
    sizes, held = ((), []) if brief else _file_sizes(models, names, files)
    notes += held
    replaced = zip(names, map(without_words, models), strict=True)
    notes += [f"{name}: {words}" for name, words in replaced if words]
    figures: list[dict[str, float]] = [{} for _ in models]
    described = ""
    if stream is not None:
        tell(progress, EVALUATE)
        reference = models[0] if len(models) > 1 else None
        figures = evaluate_all(
            models, stream, judging, reference, names=names if named else None, progress=progress
        )
        described = stream.description
        notes += stream.notes
        if not figures[0]:
            notes.append("no built-in metric goes with these outputs and data: costs only; name metrics")
    measured = _timed(models, x, batch_size, repeats, brief, progress)
    if length:
        speeds, untimed = _token_costs(models, names, x, length, measured)
        measured |= speeds
        notes += untimed
    return Comparison(
        names=names,
        params=tuple(map(parameters, models)),
        macs=operations,
        file_size=sizes,
        metrics=tuple(figures),
        data=described,
        device=_device(models),
        traits={name: traits_of(metric_kind(name)) for name in figures[0]},
        notes=tuple(notes),
        **measured,
    )


def comparison_stages(
    models: int, samples: int | None, batch_size: int = 32, *, brief: bool = False
) -> dict[str, float]:
    """Stage -> cost in forward passes of one sample, in order.

    Args:
        models: how many are compared.
        samples: how many each sees, 0 for costs only; nothing is expected where that is not known.
        batch_size: samples in the passes that are timed.
        brief: as in `compare`.
    """
    if samples is None:
        return {}
    passes = _REPEATS + WARM_UP
    stages = {COUNT: _COUNTED * models}
    if samples:
        stages[EVALUATE] = 1.0 * models * samples
    stages[TIME.format(1)] = 1.0 * models * passes
    if not brief:
        stages.update(
            {TIME.format(batch_size): 1.0 * models * passes * batch_size, MEMORY: 1.0 * models * batch_size}
        )
    return stages


def _example(model: nn.Module, stated: Any, stream: Stream | None) -> Any:
    """The example that is given, or the model's own; where it has none, and of text where there are data, the
    first sample of the data."""
    from tsdistill.models import example_input

    if stated is None and stream is not None and info_of(model).input is None:
        sample = head(next(iter(stream))[0], 1)
        if tokens_of(sample) is not None:
            return to_model(sample, model)
    try:
        return example_input(model, stated)
    except TsdistillError:
        if stream is None:
            raise
        return to_model(head(next(iter(stream))[0], 1), model)


def _length(x: Any) -> int:
    """Tokens in a sequence of the example; 0 where it is no text."""
    ids = tokens_of(x)
    return 0 if ids is None else ids.shape[1]


def _token_costs(
    models: Sequence[nn.Module], names: Sequence[str], x: Any, length: int, measured: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """What models of language cost besides, by the names of a comparison's fields; and notes.

    Args:
        models: the models.
        names: what notes call them.
        x: one sequence.
        length: its tokens.
        measured: what `_timed` gave.
    """
    costs: dict[str, Any] = {
        "length": length,
        "prefill": tuple(length / seconds for seconds in measured["latency"]),
    }
    alone, notes = decode_timings(models, x, names)
    costs["decode"] = tuple(1 / timing.seconds for timing in alone)
    if "throughput" not in measured:
        return costs, notes
    batch_size, peaks = measured["batch_size"], measured["peak_memory"]
    costs["batched_prefill"] = tuple(length * rate for rate in measured["throughput"])
    costs["run_memory"] = tuple(file_size(model) + peak for model, peak in zip(models, peaks, strict=True))
    together, more = decode_timings(models, repeated(x, batch_size), names) if alone else ([], [])
    costs["batched_decode"] = tuple(batch_size / timing.seconds for timing in together)
    return costs, [*notes, *more]


def _timed(
    models: Sequence[nn.Module], x: Any, batch_size: int, repeats: int, brief: bool, progress: Progress | None
) -> dict[str, Any]:
    """Latency and, unless ``brief``, throughput and peak memory, by the names of a comparison's fields."""
    tell(progress, TIME.format(1))
    alone = timings(models, x, repeats=repeats, min_seconds=_LEAST_SECONDS)
    measured: dict[str, Any] = {
        "latency": tuple(timing.seconds for timing in alone),
        "latency_spread": tuple(timing.spread for timing in alone),
    }
    if brief:
        return measured
    many = repeated(x, batch_size)
    tell(progress, TIME.format(batch_size))
    together = timings(models, many, repeats=repeats, min_seconds=_LEAST_SECONDS)
    tell(progress, MEMORY)
    return {
        **measured,
        "throughput": tuple(batch_size / timing.seconds for timing in together),
        "throughput_spread": tuple(_rate_spread(timing, batch_size) for timing in together),
        "peak_memory": tuple(peak_memory(model, many) for model in models),
        "batch_size": batch_size,
    }


def _rate_spread(timing: Timing, batch_size: int) -> float:
    return batch_size / timing.seconds * (timing.spread / timing.seconds)


def _check_inputs(models: Sequence[nn.Module], names: Sequence[str]) -> list[str]:
    """Notes where inputs are prepared in different ways; refuses those of different sizes."""
    known = [(name, spec) for name, m in zip(names, models, strict=True) if (spec := info_of(m).input)]
    notes = []
    for name, spec in known[1:]:
        first, expected = known[0]
        if tuple(spec.size) != tuple(expected.size):
            raise TsdistillError(
                f"{first} reads inputs of {_size(expected)} and {name} of {_size(spec)}; compare models that "
                f"read the same, or say what they read with {written('input_size')}"
            )
        if (spec.mean, spec.std) != (expected.mean, expected.std):
            notes.append(f"{name} was made for inputs of another mean or std; it sees those of {first}")
    return notes


def _size(spec: InputSpec) -> str:
    return "x".join(map(str, spec.size))


def _check_outputs(
    models: Sequence[nn.Module], names: Sequence[str], x: Any, stated: Mapping[str, str]
) -> list[str]:
    """Notes on outputs that only some models give; refuses models whose outputs differ in shape, unused ones
    aside."""
    with evaluation_mode(*models, fast=True), torch.no_grad():
        all_outputs = [
            named_outputs(forward(model, x, name if name.startswith("model") else f"model {name}"))
            for model, name in zip(models, names, strict=True)
        ]
    notes = []
    for name, outputs in zip(names[1:], all_outputs[1:], strict=True):
        pairs = paired(all_outputs[0], outputs)
        for giver, lacking, alone in (
            (
                names[0],
                name,
                [each for each in all_outputs[0] if each not in pairs and stated.get(each) != UNUSED],
            ),
            (name, names[0], [each for each in outputs if each not in pairs.values()]),
        ):
            if alone:
                notes.append(f"{', '.join(alone)} of {giver} is not judged: {lacking} gives no such output")
        for first_name, other_name in pairs.items():
            one, other = all_outputs[0][first_name], outputs[other_name]
            if one.shape != other.shape and stated.get(first_name) != UNUSED:
                of = "" if first_name == WHOLE else f" as {first_name}"
                raise TsdistillError(
                    f"{names[0]} gives {describe(one)}{of} and {name} {describe(other)} for the same input; "
                    "compare models of one task, with the same classes"
                )
    return notes


def _file_sizes(
    models: Sequence[nn.Module], names: Sequence[str], files: Sequence[str | os.PathLike[str] | None] | None
) -> tuple[tuple[int, ...], list[str]]:
    """Bytes of each model's file, and notes on files that hold more than weights."""
    sizes, notes = [], []
    for model, name, file in zip(models, names, files or [None] * len(models), strict=True):
        stored = file_size(model)
        sizes.append(stored if file is None else file_size(file))
        if sizes[-1] > _LARGER * stored + 2**20:
            notes.append(
                f"the file of {name} holds more than its weights: {sizes[-1] / stored:.1f} times those"
            )
    return tuple(sizes), notes


def _device(models: Sequence[nn.Module]) -> str:
    """Where the models are, in words."""
    device, _ = placement(models[0])
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return (
        f"{device.type}, {threads} thread{'' if threads == 1 else 's'}"
        if device.type == "cpu"
        else str(device)
    )
