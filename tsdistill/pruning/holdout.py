"""Samples to judge a pruned model on: ones that pruning did not see, where there are some."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from torch import nn

from tsdistill.data import Stream
from tsdistill.data.text.text_spec import TextSpec, input_spec
from tsdistill.evaluation.evaluator import evaluate_all
from tsdistill.evaluation.metric import metric_kind, traits_of
from tsdistill.options.data_options import DataOptions, InputOptions
from tsdistill.options.pruning_options import JUDGED, JudgeOptions
from tsdistill.runtime.progress import Progress
from tsdistill.statistics.prepared_data import prepare

SEQUENCES = 32
"""At most so many sequences of text judge, each at every token: 16,384 tokens at the default length."""


def judges(model: nn.Module, most: int) -> int:
    """How many samples judge ``model``: ``most``, of text at most `SEQUENCES`."""
    return min(most, SEQUENCES) if isinstance(input_spec(model, InputOptions()), TextSpec) else most


def split(
    opened: Callable[[int | None], Stream], samples: int | None, most: int, *, fixed: bool
) -> tuple[int | None, Stream, str]:
    """How many samples pruning may see, others to judge its result on, and what to call those.

    Args:
        opened: opens at most so many samples.
        samples: how many pruning asks for, ``None`` for all.
        most: at most so many judge.
        fixed: ``samples`` is what the user wants; otherwise a fifth of data that would be used up is left
            out. Where nothing is left, the same samples judge.
    """
    seen = opened(samples)
    other = seen.held_out(most)
    if other is None and not fixed and (seen.samples or 0) > 2:
        samples = (seen.samples or 0) - max(1, min(most, (seen.samples or 0) // 5))
        seen = opened(samples)
        other = seen.held_out(most)
    if other is None:
        return samples, seen, "the samples that pruning saw (none are left)"
    return samples, other, "held-out samples"


def split_data(
    model: nn.Module, data: Any, inputs: DataOptions, seed: int, most: int = JUDGED
) -> tuple[DataOptions, Stream, str]:
    """`split` of what ``prune_result`` takes as ``data``: its options with the samples that pruning sees."""
    plain = replace(inputs, augment="none")

    def opened(number: int | None) -> Stream:
        return prepare(model, data, replace(plain, samples=number), seed=seed).stream

    most = judges(model, most)
    samples, other, kind = split(opened, inputs.samples, most, fixed=inputs.samples is not None)
    return replace(inputs, samples=samples), other, kind


def repeatable(data: Any) -> Any:
    """``data`` that can be opened several times: the batches of an iterator as a list."""
    return list(data) if isinstance(data, Iterator) else data


class HoldoutEvaluator:
    """The figure of one metric on a stream, and how much worse than the dense model's it is.

    Attributes:
        metric: its name.
        unit: behind the figure, such as ``"%"``.
        dense: the dense model's figure.
        progress: is called with how many samples are judged.
    """

    def __init__(
        self,
        dense: nn.Module,
        stream: Stream,
        judging: JudgeOptions = JudgeOptions(),
        progress: Progress | None = None,
    ) -> None:
        """Evaluate ``dense``; without a metric, by the first that goes with the data and outputs.

        Raises:
            TsdistillError: several metrics are named, none goes with them, or the one that is named does not.
        """
        self._model, self._stream, self.progress = dense, stream, progress
        self._judging = replace(judging, metric=judging.one_metric())
        figures = self._figures(dense)
        self.metric, self.dense = next(iter(figures.items()))
        self._judging = replace(judging, metric=self.metric)
        traits = traits_of(metric_kind(self.metric))
        self.unit, self.higher_is_better = traits.unit, traits.higher_is_better

    def figure(self, model: nn.Module) -> float:
        """The metric of ``model``."""
        return self._figures(model)[self.metric]

    def drop(self, figure: float) -> float:
        """How much worse than the dense model's a figure is (below 0: better)."""
        return self.dense - figure if self.higher_is_better else figure - self.dense

    def words(self, figure: float) -> str:
        """A figure with its unit."""
        return f"{figure:.4g}{' ' if self.unit else ''}{self.unit}"

    def _figures(self, model: nn.Module) -> dict[str, float]:
        return evaluate_all([model], self._stream, self._judging, self._model, progress=self.progress)[0]
