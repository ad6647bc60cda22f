"""From gradients to weights: timm's optimizers, schedules and moving average behind one object."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tsdistill.distillation.accelerator import StudentModule
from tsdistill.distillation.batchnorm_modes import freeze_statistics
from tsdistill.errors import TsdistillError, cause_of
from tsdistill.options.train_options import TrainOptions

if TYPE_CHECKING:
    from accelerate import Accelerator

_WARMUP_START = 0.01
"""Learning rate at the start of the warm-up, as a share of the full rate. A chosen value: small enough that
the first updates hardly move the weights, above 0 so that they do move."""


class OptimizerStep:
    """The student on its devices, with what changes its weights.

    Args:
        student: the model that is trained, moved to the device.
        extra: parameters of losses that are trained along.
        options: how.
        accelerator: where.
        batches: in an epoch, ``None`` when that is not known: the schedule then goes by epochs.

    Raises:
        TsdistillError: timm has no such optimizer or schedule.
    """

    def __init__(
        self,
        student: nn.Module,
        extra: Iterable[nn.Parameter],
        options: TrainOptions,
        accelerator: Accelerator,
        batches: int | None,
    ) -> None:
        self.student, self._options, self._accelerator = student, options, accelerator
        self.frozen = False
        self._extra = [parameter for parameter in extra if parameter.requires_grad]
        self.per_epoch = None if batches is None else -(-batches // options.accumulate)
        student.to(accelerator.device)
        optimizer = _optimizer(student, self._extra, options)
        self._schedule = _schedule(optimizer, options, self.per_epoch)
        self.model, self.optimizer = accelerator.prepare(StudentModule(student), optimizer)
        self.average = _average(student, options.ema)
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.optimizer.zero_grad()

    def train(self) -> None:
        """Put the student into train mode; frozen batch norms keep their statistics."""
        self.model.train()
        if self.frozen:
            freeze_statistics(self.student)

    @property
    def lr(self) -> float:
        """The learning rate of the next update."""
        return float(self.optimizer.param_groups[0]["lr"])

    def gradient_sync(self, last: bool) -> AbstractContextManager[Any]:
        """The context of a backward pass: gradients stay in this process unless it is the update's last."""
        return nullcontext() if last else self._accelerator.no_sync(self.model)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of ``loss`` (0-dim) to those that wait for the next update."""
        self._accelerator.backward(loss)

    def update(self, updates: int) -> None:
        """Change the weights; ``updates`` is how many there will have been."""
        if self._accelerator.num_processes > 1:
            for parameter in self._extra:
                if parameter.grad is not None:
                    parameter.grad = self._accelerator.reduce(parameter.grad, "mean")
        if self._options.clip is not None:
            self._accelerator.clip_grad_norm_(self._parameters, self._options.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update(self.student, step=updates)
        if self.per_epoch is not None and self._schedule is not None:
            self._schedule.step_update(updates)

    def begin_epoch(self, epoch: int) -> None:
        """Epoch ``epoch`` (from 0) begins: schedules that go by epochs take notice."""
        if self.per_epoch is None and self._schedule is not None:
            self._schedule.step(epoch)

    def result(self) -> nn.Module:
        """The model to judge and to keep: the moving average where there is one."""
        return self.student if self.average is None else self.average.module

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs, as plain data."""
        scaler = getattr(self._accelerator, "scaler", None)
        return {
            "student": self.student.state_dict(),
            "frozen_bn": self.frozen,
            "optimizer": _plain(self.optimizer.state_dict()),
            "average": None if self.average is None else self.average.module.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
        }

    def load(self, state: Mapping[str, Any], updates: int) -> None:
        """Take over what `state` gave after so many updates.

        Raises:
            TsdistillError: it is of another model.
        """
        self.frozen = bool(state["frozen_bn"])
        try:
            self.student.load_state_dict(state["student"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.average is not None:
                self.average.module.load_state_dict(state["average"])
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise TsdistillError(
                f"the checkpoint is of another student ({cause_of(error)}); give the one that the run "
                "began with"
            ) from error
        scaler = getattr(self._accelerator, "scaler", None)
        if scaler is not None and state.get("scaler"):
            scaler.load_state_dict(state["scaler"])
        if self.per_epoch is not None and self._schedule is not None:
            self._schedule.step_update(updates)


def _optimizer(student: nn.Module, extra: list[nn.Parameter], options: TrainOptions) -> torch.optim.Optimizer:
    from timm.optim import create_optimizer_v2, list_optimizers

    if not any(parameter.requires_grad for parameter in student.parameters()):
        raise TsdistillError("the model has no parameter to train; see that requires_grad is true")
    try:
        optimizer = create_optimizer_v2(
            student,
            opt=options.optimizer,
            lr=options.rate,
            weight_decay=options.weight_decay,
            momentum=options.momentum,
        )
    except (AssertionError, ValueError, KeyError, TypeError) as error:
        if options.optimizer.lower() in list_optimizers():
            raise TsdistillError(
                f"timm's optimizer {options.optimizer} cannot be used: {cause_of(error)}"
            ) from error
        raise TsdistillError(
            f"timm has no optimizer {options.optimizer!r}; {_nearest(options.optimizer, list_optimizers())}"
        ) from error
    if extra:
        optimizer.add_param_group({"params": extra, "weight_decay": options.weight_decay})
    return optimizer


def _nearest(name: str, known: Sequence[Any]) -> str:
    near = difflib.get_close_matches(name.lower(), [str(each) for each in known], n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else "give sgd, adamw, lamb or another of its"


def _schedule(optimizer: torch.optim.Optimizer, options: TrainOptions, per_epoch: int | None) -> Any:
    """timm's schedule over all updates, or over epochs when nobody knows how many updates these have."""
    if options.sched == "none":
        return None
    from timm.scheduler import create_scheduler_v2

    length = float(options.epochs)
    if options.steps is not None and per_epoch is not None:
        length = min(length, options.steps / per_epoch)
    known: dict[str, Any] = {"num_epochs": length, "warmup_epochs": options.warmup}
    if per_epoch:
        known.update(step_on_epochs=False, updates_per_epoch=per_epoch)
    try:
        schedule, _ = create_scheduler_v2(
            optimizer,
            sched=options.sched,
            warmup_lr=options.rate * _WARMUP_START if options.warmup else options.rate,
            min_lr=options.min_lr,
            **known,
        )
    except (AssertionError, ValueError, KeyError, TypeError) as error:
        raise TsdistillError(f"timm's schedule {options.sched!r} cannot be used: {error}") from error
    if schedule is None or options.sched == "plateau":
        raise TsdistillError(
            f"there is no schedule {options.sched!r} by updates; give cosine, poly, step, tanh or none"
        )
    if per_epoch:
        schedule.step_update(0)
    return schedule


def _average(student: nn.Module, decay: float) -> Any:
    if not decay:
        return None
    from timm.utils import ModelEmaV3

    return ModelEmaV3(student, decay=decay, use_warmup=True)


def _plain(value: Any) -> Any:
    """Numbers of NumPy and the like as Python's own, so that they are read back without unpickling code."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(each) for each in value)
    if isinstance(value, Tensor) or value is None or isinstance(value, (bool, int, float, str)):
        return value
    return value.item() if hasattr(value, "item") else value
