"""``distill`` and ``train``: a student, a teacher or none, data, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from tsdistill.distillation.ensemble import as_teacher, members_of
from tsdistill.distillation.request import Request
from tsdistill.distillation.run_setup import run
from tsdistill.distillation.training_log import Report, TrainResult
from tsdistill.errors import TsdistillError
from tsdistill.options.old_names import Move, grouped
from tsdistill.options.train_options import TrainOptions
from tsdistill.runtime.progress import Progress, TrainingStatus


class _StatusListener:
    """The progress that a callback ``tell``, which takes a `TrainingStatus`, stands for."""

    def __init__(self, tell: Callable[[TrainingStatus], None]) -> None:
        self.training = tell

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Nothing: a training calls ``training``."""


class _OldTell(Move):
    """The old keyword ``tell``."""

    def written(self, _value: Any) -> str:
        """Where the description of the new argument is."""
        return "see tsdistill.runtime.progress.Progress"

    def __call__(self, arguments: dict[str, Any], value: Any) -> None:
        """Put the progress that it stands for among the arguments."""
        arguments[self.parameter] = None if value is None else _StatusListener(value)


_MOVED = {"tell": _OldTell("progress", "tell")}


@grouped(moved=_MOVED, options=TrainOptions)
def distill(
    student: nn.Module,
    teacher: nn.Module | Sequence[nn.Module],
    *,
    data: Any,
    teacher_weights: Sequence[float] | None = None,
    out: str | Path | None = None,
    options: TrainOptions | Mapping[str, Any] = TrainOptions(),
    held_out: Any = None,
    resume: bool = False,
    arch: str | None = None,
    identity: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    report: Report | None = None,
) -> TrainResult:
    """Train ``student`` to do what ``teacher`` does.

    Each update makes the weighted sum of losses small, the soft targets of Hinton et al. (2015) unless others
    are named. Random numbers depend on seed, epoch and batch alone, so a run that was killed and is resumed
    ends in the weights of one that was not, bit for bit on the CPU.

    Args:
        student: is trained in place.
        teacher: stays as it is. Of several in a list the outputs are averaged, class scores in probability
            (see `tsdistill.distillation.ensemble.Ensemble`); what looks at nodes looks at the first.
        data: what ``tsdistill.open_data`` takes; labels are needed only by losses that read them.
        teacher_weights: of several teachers, one each; without them all weigh the same.
        out: the run's folder (see `tsdistill.distillation.run_folder.RunFolder`); ``None``: nothing is kept.
        options: how the training goes (`TrainOptions`, or some of them by name):
            ``options={"epochs": 5, "loss": "soft-targets + 0.5*hints"}``.
        held_out: data to judge the student on after each epoch, likewise.
        resume: go on with the run in ``out``, or start afresh where there is none.
        arch: specification of the student's architecture, when the student does not know it and ``out`` is
            given.
        identity: what else makes the run what it is (file names), kept with the options; a resumed run has
            to have the same.
        progress: is called with every epoch as a stage and the batches of it that are done (see
            `tsdistill.runtime.progress.Progress`).
        report: is called with the log's line of every epoch.

    Raises:
        TsdistillError: models, data and options do not go together, the loss is no finite number, the disk
            is full, or a resumed run had other options.
        Interrupted: (a ``KeyboardInterrupt``) somebody asked to stop; ``resume=True`` goes on.
    """
    taught_by = as_teacher(teacher, teacher_weights)
    if any(student is each for each in members_of(taught_by)):
        raise TsdistillError("student and teacher are one object; give the teacher a copy (copy.deepcopy)")
    options = TrainOptions.of(options)
    return run(
        Request(
            student, taught_by, data, options, out, held_out, resume, arch, identity or {}, progress, report
        )
    )


@grouped(moved=_MOVED, options=TrainOptions)
def train(
    model: nn.Module,
    *,
    data: Any,
    out: str | Path | None = None,
    options: TrainOptions | Mapping[str, Any] = TrainOptions(),
    held_out: Any = None,
    resume: bool = False,
    arch: str | None = None,
    identity: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    report: Report | None = None,
) -> TrainResult:
    """Train ``model`` without a teacher, on the labels' cross-entropy unless another loss is named.

    Arguments, results and what is raised are those of `distill`.
    """
    options = TrainOptions.of(options)
    return run(
        Request(model, None, data, options, out, held_out, resume, arch, identity or {}, progress, report)
    )
