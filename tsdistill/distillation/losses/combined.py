"""Several losses as one: their weighted sum."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from tsdistill.distillation.losses.protocol import Batches, Loss, PlainLoss, Step
from tsdistill.errors import TsdistillError


@dataclass(frozen=True, eq=False)
class Term:
    """One loss of a sum.

    Attributes:
        name: what it is called in logs and messages, unique in the sum.
        weight: what it is multiplied by.
        loss: the loss.
        origin: who registered it, for messages.
    """

    name: str
    weight: float
    loss: Loss
    origin: str = "tsdistill"

    @property
    def looks_inside(self) -> bool:
        """Whether the loss gets to know the models before the first step: its ``attach`` is its own."""
        return getattr(type(self.loss), "attach", None) is not PlainLoss.attach


class Combined:
    """Σ weight · loss, itself a `Loss`.

    Attributes:
        terms: the losses.
        parts: by name, each loss of the last step before it is weighted (0-dim, detached).
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        if not terms:
            raise TsdistillError("there is no loss; give --loss NAME (loss=)")
        self.terms = tuple(terms)
        self.parts: dict[str, Tensor] = {}

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
            TsdistillError: a loss raises it, or returns something else than a 0-dim floating tensor; names
                the loss.
        """
        total: Tensor | None = None
        for term in self.terms:
            value = _checked(term, term.loss(step))
            self.parts[term.name] = value.detach()
            weighted = term.weight * value
            total = weighted if total is None else total + weighted
        assert total is not None
        return total

    def broken(self) -> str | None:
        """The first loss that was NaN or infinite at the last step, ``None`` without one."""
        return next((name for name, value in self.parts.items() if not torch.isfinite(value)), None)

    def attach(
        self, student: nn.Module, teacher: nn.Module | None, batches: Batches, generator: Generator
    ) -> None:
        """Attach every loss.

        Raises:
            TsdistillError: a loss needs a teacher and there is none, or refuses the models.
        """
        for term in self.terms:
            if teacher is None and term.loss.needs_teacher:
                raise TsdistillError(
                    f"the loss {term.name} needs a teacher; give --teacher, or --loss cross-entropy"
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


def _checked(term: Term, value: Any) -> Tensor:
    if isinstance(value, Tensor) and value.ndim == 0 and value.is_floating_point():
        return value
    if isinstance(value, Tensor):
        found = f"a tensor of shape {tuple(value.shape)} and type {str(value.dtype).removeprefix('torch.')}"
    else:
        found = f"a {type(value).__name__}"
    owner = "" if term.origin == "tsdistill" else f" ({term.origin})"
    raise TsdistillError(
        f"the loss {term.name}{owner} returns {found}; a loss returns a 0-dim floating tensor, the mean over "
        "the batch"
    )
