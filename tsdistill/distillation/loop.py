"""The training loop: epochs, updates, and checkpoints from which a run is resumed."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from itertools import islice
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from tsdistill.data.training_batch import TrainingBatch
from tsdistill.distillation import batchnorm_modes, signals
from tsdistill.distillation.batch_preparation import refuse_one_class
from tsdistill.distillation.checkpoints import WAY_OUT, Position
from tsdistill.distillation.loop_state import LoopContext
from tsdistill.distillation.losses import Features, Step
from tsdistill.distillation.running_means import RunningMeans
from tsdistill.errors import TsdistillError
from tsdistill.models.layers.layer_kind import batch_norms
from tsdistill.runtime.nests import by_name, count
from tsdistill.runtime.progress import TrainingStatus, tell_training
from tsdistill.runtime.seeds import mixed_seed
from tsdistill.untrusted import read_guard

_STEP_SEED = 6
"""Stream number of the random numbers that models draw in a training step (dropout); unlike those of
augmentation (5) and of losses (7), so that no two streams are equal."""

_STATUS_SECONDS = 0.5
"""Seconds between two reports of the status: a terminal is redrawn twice a second, and reading the loss from
a GPU, which waits for it, stays rare."""


class TrainingLoop:
    """A training under way.

    Attributes:
        position: how far it is; at the boundary of an update where a state is kept.
        log: lines of the epochs that are done.
        skipped: how many times a sample could not be read.
        notes: lines for people.
    """

    def __init__(self, context: LoopContext) -> None:
        self._context = context
        self._options = context.request.options
        self.position = Position()
        self.log: list[dict[str, Any]] = []
        self.skipped = 0
        self.notes: list[str] = []
        self._means = RunningMeans()
        self._finite_check = signals.FiniteLossCheck()
        self._student = context.optimizer_step.student
        self._features = (
            Features(self._student, context.loss.student_taps) if context.loss.student_taps else None
        )
        self._reported_at = 0.0

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            TsdistillError: it is not one of such a training; nothing can go on after that.
        """
        with read_guard("the checkpoint of the run", WAY_OUT):
            self.position = Position(**state["position"])
            self.log = [dict(line) for line in state["log"]]
            self.skipped = int(state["skipped"])
            self.notes = list(state["notes"])
            self._means = RunningMeans(**state["tally"])
            self._context.loss.load_state_dict(state["loss"])
            self._context.optimizer_step.load(state, self.position.updates)
            self._context.validation.load(state["following"])

    def state(self) -> dict[str, Any]:
        """The state of a checkpoint, as plain data."""
        return {
            "position": dict(vars(self.position)),
            "log": self.log,
            "skipped": self.skipped,
            "notes": list(self.notes),
            "tally": self._means.state(),
            "loss": self._context.loss.state_dict(),
            "following": self._context.validation.state(),
            **self._context.optimizer_step.state(),
        }

    def run(self) -> None:
        """Train to the end.

        Raises:
            TsdistillError: the loss is no number, the data or a plugin fail, the disk is full.
            Interrupted: somebody asked to stop; the state is on disk.
        """
        with signals.StopRequest() as stop:
            self._stop = stop
            if not self.log and self.position == Position():
                self._begin()
            while self.position.epoch < self._options.epochs and not self._steps_done():
                self._epoch(self.position.epoch)

    def _begin(self) -> None:
        """Evaluate the student before training: epoch 0 of the log, where there are held-out data."""
        context = self._context
        figures = context.validation.evaluate_held_out(context.optimizer_step.result())
        context.optimizer_step.frozen = self._freezes_batchnorm(figures)
        if not context.validation.has_held_out_data:
            return
        line: dict[str, Any] = {"epoch": 0, "lr": context.optimizer_step.lr, "updates": 0}
        line.update(figures)
        self.log.append(line)
        context.writer.close_epoch(self.state(), self.log, 0)
        context.validation.track(line, 0)
        if context.request.report is not None:
            context.request.report(line)

    def _freezes_batchnorm(self, figures: Mapping[str, Any]) -> bool:
        """Whether batch norms keep their statistics, all processes agreeing.

        Args:
            figures: ``val/...`` of the student as it is, as far as they are there.
        """
        context, wanted = self._context, self._options.freeze_bn
        student = self._student
        if (
            wanted != "auto"
            or context.teacher_forward.teacher is None
            or not batchnorm_modes.has_trained_statistics(student)
        ):
            return wanted == "yes" and bool(batch_norms(student))
        measure: Callable[[nn.Module], float | None] = context.validation.divergence
        if context.validation.has_held_out_data:
            before = batchnorm_modes.divergence(figures)
        else:
            measure = partial(context.validation.divergence, samples=context.samples)
            before = measure(student)
        after = batchnorm_modes.divergence_after_pass(student, self._probe_inputs(), measure)
        frozen = batchnorm_modes.exceeds_tolerance(before, after)
        if frozen:
            self.notes.append(
                "batch norms keep their statistics: a pass over the training data in train mode alone takes "
                f"the divergence from the teacher from {before:.3g} to {after:.3g} (otherwise: freeze_bn=no)"
            )
        return self._from_first_process(frozen)

    def _probe_inputs(self) -> Iterator[Any]:
        """The inputs of the first batches, as they are trained on."""
        context = self._context
        preparation = copy.deepcopy(context.preparation)
        for batch in islice(context.data.batches(0), batchnorm_modes.PROBE_BATCHES):
            torch.manual_seed(
                mixed_seed(self._options.seed, 0, batch.number, context.accelerator.process_index, _STEP_SEED)
            )
            yield preparation(batch, 0, context.accelerator.device)[0]

    def _from_first_process(self, value: bool) -> bool:
        """The value of the first process."""
        if self._context.accelerator.num_processes == 1:
            return value
        from accelerate.utils import broadcast_object_list

        return bool(broadcast_object_list([value])[0])

    def _steps_done(self) -> bool:
        return self._options.steps is not None and self.position.updates >= self._options.steps

    def _epoch(self, epoch: int) -> None:
        context, options = self._context, self._options
        start = self.position.batch
        context.optimizer_step.begin_epoch(epoch)
        if not start:
            context.loss.renew(context.samples)
            self._means = RunningMeans()
        context.optimizer_step.train()
        self._means.start_clock()
        for batch, last in self._batches(epoch, start):
            ends = last or (batch.number + 1) % options.accumulate == 0
            with context.optimizer_step.gradient_sync(ends):
                loss, seen = self._forward(batch, epoch)
                group = self._batches_in_update(batch.number, last)
                context.optimizer_step.backward(loss * (batch.weight / group))
            self._means.add(loss, seen, self._dealt_samples(batch), context.loss.values)
            if ends:
                self._update(epoch, batch.number)
            self._report_status(epoch, batch.number)
            if self._steps_done():
                break
        self._check_losses(epoch)
        self._check_weights(epoch, self.position.batch - 1)
        refuse_one_class(
            context.preparation.one_class if epoch == 0 and not start else None, context.data.name
        )
        self.position = Position(epoch + 1, 0, self.position.updates)
        self._end_epoch(epoch)

    def _batches_in_update(self, number: int, last: bool) -> int:
        """How many batches make up the update that a batch is part of."""
        size, length = self._options.accumulate, self._context.data.length
        first = number - number % size
        if length is not None:
            return min(size, length - first)
        return number - first + 1 if last else size

    def _dealt_samples(self, batch: TrainingBatch) -> float:
        """Samples that were dealt to this process, as the mean over processes is weighted by."""
        return batch.weight * self._context.data.batch_size / self._context.accelerator.num_processes

    def _batches(self, epoch: int, start: int) -> Iterator[tuple[TrainingBatch, bool]]:
        """The batches of an epoch and whether each is the last; all processes end together."""
        data, many = self._context.data, self._context.accelerator.num_processes > 1
        source = data.batches(epoch, start)
        agree = many and data.numbers is None
        now = self._batch_of_all(next(source, None), agree)
        while now is not None:
            if data.numbers is not None:
                yield now, now.number + 1 == data.length
                now = next(source, None)
            else:
                coming = self._batch_of_all(next(source, None), agree)
                yield now, coming is None
                now = coming

    def _batch_of_all(self, batch: TrainingBatch | None, agree: bool) -> TrainingBatch | None:
        """The batch, ``None`` where any process has none."""
        if not agree:
            return batch
        accelerator = self._context.accelerator
        present = torch.tensor(float(batch is not None), device=accelerator.device)
        return batch if float(accelerator.reduce(present, "sum")) == accelerator.num_processes else None

    def _forward(self, batch: TrainingBatch, epoch: int) -> tuple[Tensor, int]:
        """The loss of a batch, 0-dim, and how many samples were seen.

        Raises:
            TsdistillError: a forward fails, or the loss is no finite number.
        """
        context, accelerator = self._context, self._context.accelerator
        torch.manual_seed(
            mixed_seed(self._options.seed, epoch, batch.number, accelerator.process_index, _STEP_SEED)
        )
        x, y = context.preparation(batch, epoch, accelerator.device)
        teacher_outputs, teacher_features = context.teacher_forward(x, batch.index)
        student_features: Mapping[str, Tensor] = {}
        with self._features or nullcontext():
            outputs = context.outputs.student_outputs(context.optimizer_step.model(x))
        if self._features is not None:
            student_features = self._features.seen
        known, main = context.outputs, context.outputs.main
        teacher_outputs = known.teacher_outputs(teacher_outputs)
        done = epoch + batch.number / context.data.length if context.data.length else float(epoch)
        step = Step(
            x=x,
            y=y,
            student_output=outputs[main],
            teacher_output=teacher_outputs.get(main),
            student=self._student,
            teacher=context.teacher_forward.teacher,
            epoch=done,
            student_features=student_features,
            teacher_features=teacher_features,
            student_outputs=outputs,
            teacher_outputs=teacher_outputs,
            layouts=known.layouts,
            layout=known.layouts[main],
            ignore_index=self._options.ignore_index,
        )
        if batch.skipped:
            self.skipped += batch.skipped
            self._means.skip(batch.skipped, batch.complaint)
        loss = context.loss(step)
        bad_batch = self._finite_check.add(batch.number, loss.detach())
        if bad_batch is not None:
            fault = self._teacher_fault(step) if bad_batch == batch.number else None
            self._stop_at_bad_loss(epoch, bad_batch, fault)
        return loss, count(x)

    def _teacher_fault(self, step: Step) -> str | None:
        """The teacher's output that is not finite, in words."""
        x = by_name(self._student, step.x)
        outputs = self._context.outputs
        return outputs.non_finite_teacher_output(
            step.student_outputs, step.teacher_outputs, x, step.y, step.ignore_index
        )

    def _check_losses(self, epoch: int) -> None:
        bad_batch = self._finite_check.check()
        if bad_batch is not None:
            self._stop_at_bad_loss(epoch, bad_batch)

    def _stop_at_bad_loss(self, epoch: int, batch: int, teacher: str | None = None) -> None:
        """Keep the last good state and stop.

        Args:
            epoch: the present one, from 0.
            batch: the number of the batch whose loss is no finite number.
            teacher: what the teacher gives that is not finite, where that is the cause.
        """
        sound = signals.all_finite(self._student)
        if teacher is not None:
            self._stop_at(
                f"the teacher gives {teacher}", epoch, batch, sound, "see that its weights are finite"
            )
        name = self._context.loss.non_finite_term()
        what = f"the loss (of {name})" if name else "the loss"
        self._stop_at(f"{what} is no finite number", epoch, batch, sound)

    def _check_weights(self, epoch: int, batch: int) -> None:
        """Stop where a weight is not finite, so that no such state is written."""
        if not signals.all_finite(self._student):
            self._stop_at("a weight is no finite number", epoch, batch, False)

    def _stop_at(
        self, what: str, epoch: int, batch: int, sound: bool, way_out: str = "lower --lr, or give --clip 1"
    ) -> NoReturn:
        updates = self.position.updates
        kept = self._context.writer.keep_last_finite(self.load, sound)
        raise TsdistillError(
            f"{what} at batch {batch + 1} of epoch {epoch + 1}, after {updates} updates; {kept}{way_out}"
        )

    def _update(self, epoch: int, number: int) -> None:
        options, writer = self._options, self._context.writer
        updates = self.position.updates + 1
        self._context.optimizer_step.update(updates)
        self.position = Position(epoch, number + 1, updates)
        if options.renew_steps and updates % options.renew_steps == 0:
            self._context.loss.renew(self._context.samples)
            self._context.optimizer_step.train()
        if self._stop.requested:
            self._write_checkpoint(epoch, number)
            raise signals.Interrupted(f"after {updates} updates{writer.resume_hint}")
        if writer.due(updates) and number + 1 != self._context.data.length:
            self._write_checkpoint(epoch, number)
            self._means.start_clock()

    def _write_checkpoint(self, epoch: int, number: int) -> None:
        """Write the state once losses and weights are known to be finite."""
        self._check_losses(epoch)
        self._check_weights(epoch, number)
        self._means.stop_clock()
        self._context.writer.write(self.state(), self.position.updates)

    def _report_status(self, epoch: int, number: int) -> None:
        progress = self._context.request.progress
        if progress is None or time.monotonic() - self._reported_at < _STATUS_SECONDS:
            return
        self._reported_at = time.monotonic()
        length, rate = self._context.data.length, self._means.rate * self._context.accelerator.num_processes
        left = None
        if length and rate:
            batches = (self._options.epochs - epoch) * length - number - 1
            if self._options.steps is not None:
                most = (self._options.steps - self.position.updates) * self._options.accumulate
                batches = min(batches, most)
            left = batches * self._context.data.batch_size / rate
        epochs, updates = self._options.epochs, self.position.updates
        status = TrainingStatus(epoch, epochs, number + 1, length, updates, self._means.loss, rate, left)
        tell_training(progress, status)

    def _end_epoch(self, epoch: int) -> None:
        """Log a finished epoch, evaluate the model, write its state."""
        context = self._context
        self._means.stop_clock()
        line = {"epoch": epoch + 1, **self._means.line(context.accelerator), "lr": context.optimizer_step.lr}
        line["updates"] = self.position.updates
        line.update(context.validation.measure_epoch(context.optimizer_step.result(), self.position))
        context.optimizer_step.train()
        self.log.append(line)
        context.writer.close_epoch(self.state(), self.log, self.position.updates)
        context.validation.track(line, self.position.updates)
        if context.request.report is not None:
            context.request.report(line)
