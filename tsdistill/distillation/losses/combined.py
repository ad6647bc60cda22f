"""Several losses as one: their weighted sum."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor, nn

from tsdistill.distillation.losses.loss_protocol import (
    ANY,
    CLASSES,
    FEATURES,
    MAIN,
    Batches,
    Loss,
    PlainLoss,
    Step,
)
from tsdistill.distillation.output_pairs import TrainedOutputs
from tsdistill.errors import TsdistillError, cause_of
from tsdistill.options.option_fields import written


@dataclass(frozen=True, eq=False)
class Term:
    """One loss of a sum.

    Attributes:
        name: what it is called in logs and messages, unique in the sum.
        weight: what it is multiplied by.
        loss: the loss.
        origin: who registered it, for messages.
        output: the output that it is for; ``None`` for the main one, or for none.
    """

    name: str
    weight: float
    loss: Loss
    origin: str = "tsdistill"
    output: str | None = None

    @property
    def reads(self) -> str:
        """What the loss reads (see ``PlainLoss.reads``)."""
        return str(getattr(self.loss, "reads", MAIN))

    @property
    def compares_outputs(self) -> bool:
        """Whether the two models' outputs have to be of one shape (see ``PlainLoss.compares_outputs``)."""
        declared = getattr(self.loss, "compares_outputs", None)
        return self.loss.needs_teacher and self.reads != FEATURES if declared is None else bool(declared)

    @property
    def reads_features(self) -> bool:
        """Whether the loss gets to know the models before the first step: its ``attach`` is its own."""
        return getattr(type(self.loss), "attach", None) is not PlainLoss.attach


class Combined:
    """Σ weight · loss, itself a `Loss`.

    Attributes:
        terms: the losses.
        values: by name, each loss of the last step before it is weighted (0-dim, detached).
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        if not terms:
            raise TsdistillError(f"there is no loss; give {written('loss')}")
        names = [term.name for term in terms]
        duplicate = next((name for name in names if names.count(name) > 1), None)
        if duplicate:
            raise TsdistillError(f"the loss {duplicate} is given twice; give it once, with one weight")
        self.terms = tuple(terms)
        self.values: dict[str, Tensor] = {}

    @property
    def needs_teacher(self) -> bool:
        """Whether any loss does."""
        return any(term.loss.needs_teacher for term in self.terms)

    @property
    def needs_labels(self) -> bool:
        """Whether any loss does."""
        return any(term.loss.needs_labels for term in self.terms)

    @property
    def student_taps(self) -> tuple[str, ...]:
        """All features of the student that a loss reads, each once."""
        return tuple(dict.fromkeys(tap for term in self.terms for tap in term.loss.student_taps))

    @property
    def teacher_taps(self) -> tuple[str, ...]:
        """All features of the teacher that a loss reads, each once."""
        return tuple(dict.fromkeys(tap for term in self.terms for tap in term.loss.teacher_taps))

    @property
    def words(self) -> str:
        """The sum for people: ``"soft-targets + 0.5 node-alignment"``."""
        return " + ".join(
            term.name if term.weight == 1 else f"{term.weight:g} {term.name}" for term in self.terms
        )

    def __call__(self, step: Step) -> Tensor:
        """The weighted sum of one batch, 0-dim.

        Raises:
            TsdistillError: a loss raises (a plugin's anything), or returns something else than a 0-dim
                floating tensor; names the loss.
        """
        total: Tensor | None = None
        for term in self.terms:
            value = _checked(term, _value(term, step if term.output is None else step.of(term.output)))
            self.values[term.name] = value.detach()
            weighted = term.weight * value
            total = weighted if total is None else total + weighted
        assert total is not None
        return total

    def bound(self, outputs: TrainedOutputs, labelled: Sequence[str] = ()) -> Combined:
        """The same losses, each for the outputs that it goes with.

        A loss that names no output is for all that it can read: one of class scores for every output that
        holds some, one of values for every output; one that reads labels for those that have some.

        Args:
            outputs: of the student and the teacher.
            labelled: the outputs that the labels are for.

        Raises:
            TsdistillError: a loss names an output that there is not, there is none that it goes with, or the
                two models differ in it.
        """
        return Combined([each for term in self.terms for each in _bound(term, outputs, labelled)])

    def outputs_without_loss(self, outputs: TrainedOutputs) -> list[str]:
        """The outputs that no loss is for."""
        reached = {term.output or outputs.main for term in self.terms if term.reads != FEATURES}
        return [name for name in outputs.used if name not in reached]

    def non_finite_term(self) -> str | None:
        """The first loss that was NaN or infinite at the last step, ``None`` without one."""
        return next((name for name, value in self.values.items() if not torch.isfinite(value)), None)

    def attach(
        self, student: nn.Module, teacher: nn.Module | None, batches: Batches, generator: Generator
    ) -> None:
        """Attach every loss.

        Args:
            student: the bare student.
            teacher: the bare teacher; ``None`` without one.
            batches: a few batches on the device of the models.
            generator: of everything random, on the CPU.

        Raises:
            TsdistillError: a loss needs a teacher and there is none, or refuses the models.
        """
        for term in self.terms:
            if teacher is None and term.loss.needs_teacher:
                raise TsdistillError(
                    f"the loss {term.name} needs a teacher; give {written('teacher')}, or "
                    f"{written('loss', 'cross-entropy')}"
                )
            term.loss.attach(student, teacher, batches, generator)

    def renew(self, batches: Batches) -> None:
        """Renew every loss."""
        for term in self.terms:
            term.loss.renew(batches)

    def parameters(self) -> Iterable[nn.Parameter]:
        """The extra parameters of all losses."""
        for term in self.terms:
            yield from term.loss.parameters()

    def state_dict(self) -> dict[str, Any]:
        """The states of all losses by name."""
        return {term.name: term.loss.state_dict() for term in self.terms}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Hand every loss its own state.

        Raises:
            TsdistillError: the state is of other losses.
        """
        if set(state) != {term.name for term in self.terms}:
            raise TsdistillError(
                f"the state is of the losses {', '.join(sorted(state))}, not of {self.words}; resume with "
                "the losses that the run began with"
            )
        for term in self.terms:
            term.loss.load_state_dict(state[term.name])


def _bound(term: Term, outputs: TrainedOutputs, labelled: Sequence[str]) -> list[Term]:
    """The terms that one becomes, see `Combined.bound`."""
    if term.reads == FEATURES:
        if term.output is not None:
            raise TsdistillError(f"the loss {term.name} reads no output; leave @{term.output} out")
        return [term]
    if term.output is not None:
        outputs.check(term.name, term.output)
        names = [term.output]
    else:
        names = [outputs.main] if term.reads == MAIN else _default_outputs(term, outputs, labelled)
    for name in names:
        if term.reads == CLASSES:
            outputs.check_classes(term.name, name)
        if term.compares_outputs:
            outputs.check_same(name)
    if term.output is not None or term.reads == MAIN or len(outputs.layouts) == 1:
        return [term]
    return [
        replace(
            term,
            name=f"{term.name}@{name}",
            loss=term.loss if place == 0 else copy.deepcopy(term.loss),
            output=name,
        )
        for place, name in enumerate(names)
    ]


def _default_outputs(term: Term, outputs: TrainedOutputs, labelled: Sequence[str]) -> list[str]:
    """The outputs that a loss goes with that names none."""
    if len(outputs.layouts) == 1:
        return [outputs.main]
    if term.loss.needs_labels:
        if not labelled:
            raise TsdistillError(
                f"the loss {term.name} reads labels, and these name none of the outputs: {outputs.words}"
            )
        return list(labelled)
    if term.reads == ANY:
        return list(outputs.used)
    names = [name for name in outputs.used if outputs.layouts[name].kind == "classes"]
    if not names:
        raise TsdistillError(
            f"which of the outputs hold class scores is not plain ({outputs.words}); give "
            f"{written('loss', f'{term.name}@NAME')}, or say it with {written('outputs', 'NAME=classes')}"
        )
    return names


def _value(term: Term, step: Step) -> Any:
    """What a loss makes of a step; what one of a plugin raises names the plugin."""
    try:
        return term.loss(step)
    except TsdistillError:
        raise
    except Exception as error:
        if term.origin == "tsdistill":
            raise
        raise TsdistillError(
            f"the loss {term.name} ({term.origin}) fails: {cause_of(error)}; leave it out or mend it"
        ) from error


def _checked(term: Term, value: Any) -> Tensor:
    if isinstance(value, Tensor) and value.ndim == 0 and value.is_floating_point():
        return value
    if isinstance(value, Tensor):
        description = (
            f"a tensor of shape {tuple(value.shape)} and type {str(value.dtype).removeprefix('torch.')}"
        )
    else:
        description = f"a {type(value).__name__}"
    owner = "" if term.origin == "tsdistill" else f" ({term.origin})"
    raise TsdistillError(
        f"the loss {term.name}{owner} returns {description}; a loss returns a 0-dim floating "
        "tensor, the mean over the batch"
    )
