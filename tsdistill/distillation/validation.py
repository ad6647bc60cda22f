"""Measurements after every epoch: figures on held-out data and alignment, also for accelerate's trackers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import nn

from tsdistill.data import Stream
from tsdistill.distillation import batchnorm_modes
from tsdistill.distillation.alignment_tracker import AlignmentTracker
from tsdistill.distillation.checkpoints import Position
from tsdistill.distillation.losses import Batches
from tsdistill.errors import TsdistillError
from tsdistill.evaluation import evaluate
from tsdistill.evaluation.metric import metric_kind, traits_of
from tsdistill.options import JudgeOptions
from tsdistill.options.option_fields import written
from tsdistill.options.train_options import TrainOptions

if TYPE_CHECKING:
    from accelerate import Accelerator

SELECTION_METRICS = {
    "top1": 1, "perplexity": -1, "agreement": 1, "kl": -1, "mse": -1, "mae": -1, "output_mse": -1
}  # fmt: skip
"""Figures that say which epoch is best, the first that there is, and whether more is better. Those over all
outputs come before those of one (``kl@scores``)."""


@dataclass(eq=False)
class Validation:
    """Measurements of the student after every epoch.

    Where the teacher's weights are spread over the processes, all of them run the held-out samples; otherwise
    the first does.

    Attributes:
        accelerator: where it runs.
        options: of the training.
        outputs: what the user says of the outputs, by name, and which are left out.
        held_out: samples to judge on, ``None`` for none.
        reference: the teacher, to compare with.
        tracker: follows the alignment.
    """

    accelerator: Accelerator
    options: TrainOptions
    outputs: Mapping[str, str] = field(default_factory=dict)
    held_out: Stream | None = None
    reference: nn.Module | None = None
    tracker: AlignmentTracker | None = None

    @property
    def has_held_out_data(self) -> bool:
        """Whether there are held-out data."""
        return self.held_out is not None

    @property
    def notes(self) -> list[str]:
        """Lines for people on held-out samples that were left out."""
        return [] if self.held_out is None else [f"held-out data: {note}" for note in self.held_out.notes]

    def evaluate_held_out(self, model: nn.Module) -> dict[str, Any]:
        """``val/...`` figures of ``model`` in the processes that judge it, empty elsewhere."""
        if self.held_out is None or not (self.options.shard_teacher or self.accelerator.is_main_process):
            return {}
        return {f"val/{name}": value for name, value in self._figures(model, self.held_out).items()}

    def _figures(self, model: nn.Module, data: Any) -> Mapping[str, float]:
        judging = JudgeOptions(outputs=self.outputs, ignore_index=self.options.ignore_index)
        return evaluate(model, data, reference=self.reference, judging=judging)

    def divergence(self, model: nn.Module, samples: Batches | None = None) -> float | None:
        """How far the outputs of ``model`` are from the teacher's (see `batchnorm_modes.divergence`).

        Args:
            model: the student, or a copy of it.
            samples: what to judge on, ``None`` for the held-out data.
        """
        if samples is None:
            return batchnorm_modes.divergence(self.evaluate_held_out(model))
        try:
            return batchnorm_modes.divergence(self._figures(model, [(x, None) for x, _ in samples]))
        except TsdistillError:  # no metric compares such outputs
            return None

    def measure_epoch(self, model: nn.Module, position: Position) -> dict[str, Any]:
        """``val/...`` and ``alignment/...`` figures of ``model``; processes wait for each other."""
        line = self.evaluate_held_out(model)
        if self.tracker is not None:
            line.update(self.tracker.measure(f"epoch {position.epoch}"))
        if self.accelerator.num_processes > 1:
            self.accelerator.wait_for_everyone()
        return line

    def track(self, line: Mapping[str, Any], updates: int) -> None:
        """Hand an epoch's figures to accelerate's trackers."""
        if self.options.tracker is not None:
            numbers = {
                name: value
                for name, value in line.items()
                if isinstance(value, (int, float)) and not isinstance(value, bool)
            }
            self.accelerator.log(numbers, step=updates)

    def state(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {} if self.tracker is None else self.tracker.state_dict()

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        if self.tracker is not None and state:
            self.tracker.load_state_dict(state)


def figure_of(line: Mapping[str, Any]) -> tuple[str, float] | None:
    """The name and value that an epoch is judged by, more being better; ``None`` without held-out data."""
    figures = {name.removeprefix("val/"): value for name, value in line.items() if name.startswith("val/")}
    whole = [name for name in SELECTION_METRICS if name in figures]
    parts = [name for metric in SELECTION_METRICS for name in figures if name.partition("@")[0] == metric]
    for name in (*whole, *parts):
        if figures[name] is not None:
            return name, SELECTION_METRICS[name.partition("@")[0]] * float(figures[name])
    return None


def is_best(log: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the last epoch of a log is better than all before it."""
    return bool(log) and (best := best_of(log)) is not None and best[0] == log[-1]["epoch"]


def selection_metric(log: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    """The metric that epochs are judged by and the unit of its figures; ``None`` without held-out data."""
    selected = next((figure for line in log if (figure := figure_of(line)) is not None), None)
    return None if selected is None else (selected[0], traits_of(metric_kind(selected[0])).unit)


def described(name: str, value: float, unit: str) -> str:
    """``"top1 70.2 %"``."""
    return f"{name} {value:.4g}{' ' if unit else ''}{unit}"


def worsened(log: Sequence[Mapping[str, Any]]) -> str:
    """A warning where the last epoch is worse than the model was before training; empty otherwise."""
    if len(log) < 2 or log[0]["epoch"] != 0:
        return ""
    first, last, metric = figure_of(log[0]), figure_of(log[-1]), selection_metric(log)
    if first is None or last is None or metric is None or not last[1] < first[1]:
        return ""
    before, after = (described(metric[0], abs(figure), metric[1]) for _, figure in (first, last))
    return (
        f"warning: training made the model worse: {after} after epoch {log[-1]['epoch']}, {before} before "
        f"training; lower {written('lr')}, give more data, or keep best.safetensors"
    )


def best_of(log: Sequence[Mapping[str, Any]]) -> tuple[int, float] | None:
    """The first epoch with the best figure (0 is before training), and that figure as it was measured."""
    judged = [(line, figure) for line in log if (figure := figure_of(line)) is not None]
    if not judged:
        return None
    line, (name, _) = max(judged, key=lambda pair: (pair[1][1], -pair[0]["epoch"]))
    return int(line["epoch"]), float(line[f"val/{name}"])


def check_tracker(name: str | None) -> None:
    """Refuse a tracker that accelerate does not know or that is not installed.

    Raises:
        TsdistillError: it says which there are.
    """
    if name is None:
        return
    from accelerate.tracking import get_available_trackers
    from accelerate.utils import LoggerType

    installed = [str(each.value) for each in get_available_trackers()]
    if name not in installed:
        known = name in [str(each.value) for each in LoggerType]
        way = "install its package" if known else f"there are {', '.join(installed) or 'none'}"
        raise TsdistillError(f"the tracker {name!r} is not there; {way}")
