"""A distillation loss for training loops of one's own: an ordinary module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from tsdistill.distillation.losses import Batches, Combined, Features, Step, parse
from tsdistill.distillation.losses.loss_protocol import Loss
from tsdistill.distillation.losses.loss_syntax import Description
from tsdistill.distillation.output_pairs import TrainedOutputs
from tsdistill.distillation.request import default_loss
from tsdistill.distillation.teacher_outputs import TeacherForward
from tsdistill.errors import TsdistillError
from tsdistill.evaluation.named_outputs import batch_outputs
from tsdistill.options.output_options import IGNORED
from tsdistill.runtime.forward import to_model
from tsdistill.runtime.seeds import mixed_seed

_WRAPPED = ("module", "_orig_mod")
"""Attributes under which ``DistributedDataParallel`` and ``torch.compile`` keep the model itself."""

_SEED = 7
"""Stream of the random numbers that losses draw when they get to know the models."""


class DistillationLoss(nn.Module):
    """What `distill` makes small, as a criterion: ``loss = criterion(x, student(x), y)``.

    The teacher runs inside, in evaluation mode and without gradients. It is no submodule: ``.to()``,
    ``parameters()`` and ``state_dict()`` of the criterion leave it alone. Parameters of losses (the
    projections of feature losses) are parameters of the criterion; hand them to the optimizer, too. For
    losses of features the student has hooks until `close`, or until the end of a ``with`` block. Either
    model may be wrapped (``DistributedDataParallel``, ``torch.compile``).

    Args:
        student: the model that is trained.
        teacher: the model that it learns from, on its device; ``None`` for losses of labels.
        loss: what is made small, as ``distill`` takes it: ``"soft-targets:T=4 + 0.5*node-alignment"``. By
            default soft targets for class scores, and the relative squared error for other outputs.
        samples: a batch of inputs, or a few batches ``(x, y)``, by which losses of features get to know both
            models; other losses need none.
        ignore_index: the label that counts for nothing.
        seed: of what losses draw when they get to know the models.

    Attributes:
        values: by name, each loss of the last call before it is weighted (0-dim, detached).
        epoch: epochs done, with fraction, for losses that change with it; the loop sets it.

    Raises:
        TsdistillError: a loss that does not exist, one that needs a teacher or samples that are not there, or
            one that refuses the models.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None,
        loss: Description | Loss | None = None,
        *,
        samples: Any = None,
        ignore_index: int = IGNORED,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.epoch = 0.0
        self._ignore_index = ignore_index
        self._named = None if loss is None else parse(loss)
        self._loss: Combined | None = None
        self._outputs: TrainedOutputs | None = None
        self._features: Features | None = None
        self._models: tuple[nn.Module, nn.Module | None] = (bare(student), teacher)  # no submodules
        taps: Sequence[str] = ()
        if self._named is not None and any(term.reads_features for term in self._named.terms):
            taps = self._attach(self._named, samples, seed)
        elif self._named is not None and self._named.needs_teacher and teacher is None:
            raise TsdistillError(f"the loss {self._named.words} needs a teacher; give one")
        self._teacher = None if teacher is None else TeacherForward(teacher, taps)

    def _attach(self, loss: Combined, samples: Any, seed: int) -> Sequence[str]:
        """Let losses get to know the models; gives the features that they read of the teacher."""
        student, teacher = self._models
        if samples is None:
            raise TsdistillError(
                f"the loss {loss.words} reads features and has to see both models at work; give samples, a "
                "batch of inputs"
            )
        batches = _batches(samples, student)
        modes = [(model, model.training) for model in (student, teacher) if model is not None]
        generator = torch.Generator().manual_seed(mixed_seed(seed, _SEED))
        try:
            loss.attach(student, teacher, batches, generator)
        finally:
            for model, training in modes:
                model.train(training)
        extra = list(loss.parameters())
        if extra:
            self.extra = nn.ParameterList(extra)
        if loss.student_taps:
            self._features = Features(student, loss.student_taps)
            self._features.open()
        return loss.teacher_taps

    @property
    def values(self) -> dict[str, Tensor]:
        """By name, each loss of the last call before it is weighted (0-dim, detached)."""
        return {} if self._loss is None else self._loss.values

    def forward(self, x: Any, output: Any, y: Tensor | None = None) -> Tensor:
        """The loss of a batch, 0-dim.

        Args:
            x: the inputs that the student got.
            output: what it gave for them.
            y: labels; ``None`` without any.

        Raises:
            TsdistillError: the teacher's forward fails, the outputs do not go with the losses, or labels are
                needed and not there.
        """
        student, teacher = self._models
        outputs = batch_outputs(output, "student")
        taught, teacher_features = ({}, {}) if self._teacher is None else self._teacher(x, None)
        if self._outputs is None or self._loss is None:
            self._bind(outputs, taught if teacher is not None else None, y)
        known, loss = self._outputs, self._loss
        assert known is not None
        assert loss is not None
        if y is None and loss.needs_labels:
            raise TsdistillError(f"the loss {loss.words} needs labels; give them behind the output")
        named, taught = known.student_outputs(outputs), known.teacher_outputs(taught)
        step = Step(
            x=x,
            y=y,
            student_output=named[known.main],
            teacher_output=taught.get(known.main),
            student=student,
            teacher=teacher,
            epoch=self.epoch,
            student_features={} if self._features is None else self._features.seen,
            teacher_features=teacher_features,
            student_outputs=named,
            teacher_outputs=taught,
            layouts=known.layouts,
            layout=known.layouts[known.main],
            ignore_index=self._ignore_index,
        )
        return loss(step)

    def _bind(self, outputs: Mapping[str, Tensor], taught: Mapping[str, Tensor] | None, y: Any) -> None:
        """Settle which loss is for which output, by the first batch."""
        known = TrainedOutputs.of(outputs, taught, None, y)
        labelled = [] if y is None else known.labelled(outputs, y)
        named = self._named or parse(dict.fromkeys(default_loss(known, taught is not None, labelled), 1.0))
        self._outputs, self._loss = known, named.bound(known, labelled)

    def renew(self, samples: Any) -> None:
        """Renew what training makes stale, such as which node matches which: at the start of an epoch.

        Args:
            samples: a batch of inputs, or a few batches ``(x, y)``.
        """
        loss = self._loss or self._named
        if loss is not None:
            student = self._models[0]
            training = student.training
            loss.renew(_batches(samples, student))
            student.train(training)

    def get_extra_state(self) -> dict[str, Any]:
        """The states of losses, as part of ``state_dict()``."""
        loss = self._loss or self._named
        return {} if loss is None else loss.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over what `get_extra_state` gave."""
        loss = self._loss or self._named
        if loss is not None and state:
            loss.load_state_dict(state)

    def close(self) -> None:
        """Take the hooks off the student."""
        if self._features is not None:
            self._features.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def bare(model: nn.Module) -> nn.Module:
    """The model itself, without what processes or the compiler have wrapped around it."""
    for name in _WRAPPED:
        children = dict(model.named_children())
        if set(children) == {name} and not list(model.parameters(recurse=False)):
            return bare(children[name])
    return model


def _batches(samples: Any, model: nn.Module) -> Batches:
    """A few batches, on the device of the model."""
    batches = list(samples) if isinstance(samples, list) else [(samples, None)]
    if not batches or not all(isinstance(each, tuple) and len(each) == 2 for each in batches):
        raise TsdistillError("samples take a batch of inputs, or a list of batches (x, y)")
    return [(to_model(x, model), y) for x, y in batches]
