"""What a loss is given at every step, and what it has to offer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

from torch import Generator, Tensor, nn

from tsdistill.errors import TsdistillError
from tsdistill.evaluation.output_layout import Layout, layout_of
from tsdistill.options.output_options import IGNORED

Batches = Sequence[tuple[Any, Any]]
"""A few batches ``(x, y)`` on the device of the models, which may be gone through more than once."""

INPUT = ":input"

MAIN, CLASSES, ANY, FEATURES = "main", "classes", "any", "features"
"""What a loss reads, see ``PlainLoss.reads``."""


def input_of(module: str) -> str:
    """The name, among features, of the first input of a module; the bare name is that of its output."""
    return module + INPUT


@dataclass(frozen=True, eq=False)
class Step:
    """One batch of training, after both forwards.

    Attributes:
        x: the inputs, as both models got them.
        y: labels ``[N]`` (int64), one for each position of an output ``[N, length]``, or probabilities of the
            output's shape where labels were mixed or smoothed; for several outputs a mapping from the name of
            an output to its labels; ``None`` for data without labels.
        student_output: the student's output that the loss is for, with gradient: the main one, or the one
            that is named behind the loss (``mse@boxes``).
        teacher_output: the teacher's, without; ``None`` when there is no teacher.
        student: the student itself, not what devices or processes have wrapped around it.
        teacher: the teacher, ``None`` without one (or when its outputs come from a cache).
        epoch: epochs done, with fraction.
        student_features: by the names in ``Loss.student_taps``, what was seen there in the student's forward,
            with gradient.
        teacher_features: likewise of ``Loss.teacher_taps``, without gradient.
        student_outputs: every floating tensor of the student's output, by name.
        teacher_outputs: the teacher's by the student's names; empty without a teacher.
        layouts: what each output holds, and on which dimension its classes are.
        layout: that of ``student_output``; by its shape where none is given.
        ignore_index: the label that counts for nothing.
    """

    x: Any
    y: Tensor | None
    student_output: Tensor
    teacher_output: Tensor | None
    student: nn.Module
    teacher: nn.Module | None = None
    epoch: float = 0.0
    student_features: Mapping[str, Tensor] = field(default_factory=dict)
    teacher_features: Mapping[str, Tensor] = field(default_factory=dict)
    student_outputs: Mapping[str, Tensor] = field(default_factory=dict)
    teacher_outputs: Mapping[str, Tensor] = field(default_factory=dict)
    layouts: Mapping[str, Layout] = field(default_factory=dict)
    layout: Layout | None = None
    ignore_index: int = IGNORED

    @property
    def read_as(self) -> Layout:
        """The layout of ``student_output``."""
        return self.layout or layout_of(self.student_output)

    def of(self, name: str) -> Step:
        """The same step for one of several outputs.

        Raises:
            TsdistillError: the student's training forward gives no output of this name.
        """
        if name not in self.student_outputs:
            raise TsdistillError(
                f"the student gives no output {name!r} in training; it gives "
                f"{', '.join(self.student_outputs)}"
            )
        return replace(
            self,
            student_output=self.student_outputs[name],
            teacher_output=self.teacher_outputs.get(name),
            layout=self.layouts.get(name),
        )


@runtime_checkable
class Loss(Protocol):
    """A term of what training makes small; most derive from `PlainLoss`, which has all but ``__call__``.

    The order of calls is: ``attach`` once, with both models bare (before anything wraps them);
    ``load_state_dict`` where a run is resumed; ``renew`` at the start of every epoch (and every so many
    steps, where the options say so); ``__call__`` at every step. In a job of several processes all of them
    call ``attach`` and ``renew`` together, with the same batches.
    """

    @property
    def needs_teacher(self) -> bool:
        """Whether ``step.teacher_output`` has to be there."""
        ...

    @property
    def needs_labels(self) -> bool:
        """Whether ``step.y`` has to be there."""
        ...

    @property
    def student_taps(self) -> tuple[str, ...]:
        """Names of the student's features that the loss reads, known after ``attach``: the dotted name of a
        module for its output, ``input_of(name)`` for its first input."""
        ...

    @property
    def teacher_taps(self) -> tuple[str, ...]:
        """Likewise of the teacher; a loss that has any cannot work from cached teacher outputs."""
        ...

    def __call__(self, step: Step) -> Tensor:
        """The loss of one batch: a 0-dim tensor, the mean over its samples or counted positions."""
        ...

    def attach(
        self, student: nn.Module, teacher: nn.Module | None, batches: Batches, generator: Generator
    ) -> None:
        """Get to know the models: trace them, pair their groups, settle which features are wanted.

        Both models are left as they were.

        Args:
            student: the bare student.
            teacher: the bare teacher; ``None`` without one.
            batches: a few batches on the device of the models.
            generator: of everything random, on the CPU.
        """
        ...

    def renew(self, batches: Batches) -> None:
        """Renew what training makes stale, such as which node matches which."""
        ...

    def parameters(self) -> Iterable[nn.Parameter]:
        """Extra parameters to train along, known after ``attach``."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs: tensors, numbers, strings, and dicts and lists of these."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` of the same loss, attached to the same models, gave."""
        ...


class PlainLoss:
    """Everything of a `Loss` but the call itself, for losses that look at outputs and labels only.

    Attributes:
        reads: ``"main"``: the main output, or one that is named (the default); ``"classes"``: class scores,
            all outputs that hold some unless one is named; ``"any"``: every output unless one is named;
            ``"features"``: no output.
        compares_outputs: whether the student's output is compared with the teacher's, so that both have to
            be of one shape, which is seen to before the first step. ``None``: where it needs a teacher and
            reads outputs.
    """

    reads = MAIN
    compares_outputs: bool | None = None
    needs_teacher = True
    needs_labels = False
    student_taps: tuple[str, ...] = ()
    teacher_taps: tuple[str, ...] = ()

    def __call__(self, step: Step) -> Tensor:
        """The loss of one batch: a 0-dim tensor."""
        raise NotImplementedError

    def attach(
        self, student: nn.Module, teacher: nn.Module | None, batches: Batches, generator: Generator
    ) -> None:
        """Nothing to get to know."""

    def renew(self, batches: Batches) -> None:
        """Nothing gets stale."""

    def parameters(self) -> Iterable[nn.Parameter]:
        """None."""
        return ()

    def state_dict(self) -> dict[str, Any]:
        """Nothing to keep."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to take over."""
