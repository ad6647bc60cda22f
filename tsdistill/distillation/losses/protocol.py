"""What a loss is given at every step, and what it has to offer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from torch import Generator, Tensor, nn

Batches = Sequence[tuple[Any, Any]]
"""A few batches ``(x, y)`` on the device of the models, which may be gone through more than once."""

INPUT = ":input"


def input_of(module: str) -> str:
    """The name, among features, of the first input of a module; the bare name is that of its output."""
    return module + INPUT


@dataclass(frozen=True, eq=False)
class Step:
    """One batch of training, after both forwards.

    Attributes:
        x: the inputs, as both models got them.
        y: labels ``[N]`` (int64), or probabilities ``[N, classes]`` where labels were mixed or smoothed;
            ``None`` for data without labels.
        student_output: the student's main output ``[N, classes]``, with gradient.
        teacher_output: the teacher's, without; ``None`` when there is no teacher.
        student: the student itself, not what devices or processes have wrapped around it.
        teacher: the teacher, ``None`` without one (or when its outputs come from a cache).
        epoch: epochs done, with fraction.
        student_features: by the names in ``Loss.student_taps``, what was seen there in the student's forward,
            with gradient.
        teacher_features: likewise of ``Loss.teacher_taps``, without gradient.
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
        """The loss of one batch: a 0-dim tensor, the mean over its samples."""
        ...

    def attach(
        self, student: nn.Module, teacher: nn.Module | None, batches: Batches, generator: Generator
    ) -> None:
        """Get to know the models: trace them, pair their groups, settle which features are wanted.

        Both models are left as they were. ``generator`` (on the CPU) is for everything random.
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
    """Everything of a `Loss` but the call itself, for losses that look at outputs and labels only."""

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
