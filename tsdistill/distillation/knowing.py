"""What a caller asks for, and what is found out about models and data before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tsdistill.data.training import open_training
from tsdistill.distillation.losses import Combined
from tsdistill.distillation.options import Options
from tsdistill.distillation.results import Report, Tell
from tsdistill.errors import TsdistillError
from tsdistill.evaluation.forward import at_rest, count, forward, main_output, to_model
from tsdistill.models import info_of

_MANY, _FEW = 512, 32

Pairs = list[tuple[Any, Any]]


@dataclass(frozen=True, eq=False)
class Request:
    """What the caller gives (see `tsdistill.distillation.distill`)."""

    student: nn.Module
    teacher: nn.Module | None
    data: Any
    options: Options
    out: str | Path | None = None
    held_out: Any = None
    resume: bool = False
    arch: str | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)
    tell: Tell | None = None
    report: Report | None = None


def enough(loss: Combined, options: Options) -> int:
    """How many samples losses and augmentations want to get to know the models on."""
    plain = not any(term.looks_inside for term in loss.terms)
    return _FEW if plain and options.augment in ("none", "standard") else _MANY


def samples_of(request: Request, device: torch.device, wanted: int) -> Pairs:
    """The batches, the same for every process, on which losses get to know the models."""
    options = request.options
    size = min(options.batch_size, wanted)
    data = open_training(
        request.data,
        info_of(request.student).input,
        batch_size=size,
        seed=options.seed,
        samples=options.samples,
    )
    found: Pairs = []
    seen = 0
    for batch in data.batches(0):
        y = batch.y.to(device) if isinstance(batch.y, torch.Tensor) else batch.y
        found.append((to_model(batch.x, request.student), y))
        seen += count(batch.x)
        if seen >= wanted:
            break
    return found


def classes_of(student: nn.Module, teacher: nn.Module | None, loss: Combined, samples: Pairs) -> int | None:
    """The classes of the student's output; models that differ are refused where a loss compares outputs.

    Raises:
        TsdistillError: a forward fails, or the shapes of the outputs differ.
    """
    x = samples[0][0]
    with torch.no_grad(), at_rest(student):
        mine = tuple(main_output(forward(student, x, "student")).shape)
    if teacher is not None:
        with torch.no_grad(), at_rest(teacher):
            theirs = tuple(main_output(forward(teacher, x, "teacher")).shape)
        compares = any(term.loss.needs_teacher and not term.loss.teacher_taps for term in loss.terms)
        if compares and mine != theirs and _reads_outputs(loss):
            if len(mine) == len(theirs) == 2:
                raise TsdistillError(
                    f"the student has {mine[1]} classes and the teacher {theirs[1]}; give two models of "
                    f"the same classes (timm:NAME,num_classes={theirs[1]})"
                )
            raise TsdistillError(
                f"the student's output has shape {mine} and the teacher's {theirs}; give models of one task"
            )
    return mine[1] if len(mine) == 2 else None


def _reads_outputs(loss: Combined) -> bool:
    """Whether a term compares the outputs themselves, as far as its name tells."""
    return any(
        term.loss.needs_teacher and term.name.partition(":")[0] in ("soft-targets", "logits", "dkd")
        for term in loss.terms
    )
