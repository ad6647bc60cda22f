"""``tsdistill distill``: a student that learns what a teacher does."""

from __future__ import annotations

from typing import Any

import click

from tsdistill.cli import progress_display, shared_options, training_options, training_output
from tsdistill.cli.command import Command, option
from tsdistill.errors import TsdistillError
from tsdistill.options import TrainOptions


@click.command(
    "distill",
    cls=Command,
    of_file=TrainOptions,
    epilog=shared_options.EPILOG.replace("MODEL is", "STUDENT and TEACHER are"),
    examples=(
        (
            "tsdistill distill small.safetensors --teacher weights.pt --data photos/ -o run/",
            "soft targets, no labels",
        ),
        (
            "tsdistill distill --width 0.5 --teacher weights.pt --data photos/ -o run/",
            "a slim student, afresh",
        ),
        (
            "tsdistill distill s.pt --teacher t.pt --data photos/ --config run.yaml -o run/",
            "options in a file",
        ),
    ),
)
@click.argument("student", metavar="[STUDENT]", required=False)
@option(
    "Teacher",
    "--teacher",
    "teachers",
    metavar="TEACHER",
    required=True,
    multiple=True,
    help="The model to learn from; again for several, whose outputs are averaged.",
)
@option(
    "Teacher",
    "--teacher-arch",
    "teacher_archs",
    metavar="SPEC",
    multiple=True,
    help="Architecture of the teacher's file; of several one for all, or one each.",
)
@option(
    "Teacher",
    "--teacher-weight",
    "teacher_weights",
    type=click.FloatRange(min=0),
    metavar="X",
    multiple=True,
    help="Of several teachers, one each; all the same without it.",
)
@training_options.teacher_options
@training_options.training_options
@progress_display.progress_options
def command(student: str | None, **params: Any) -> None:
    """Train STUDENT to do what TEACHER does on --data, and write it to the folder OUT.

    With --width the student begins afresh: STUDENT's architecture (without STUDENT, the first TEACHER's) at
    that width.

    No labels are needed unless a loss reads them. OUT holds model.safetensors, options.json, log.jsonl and
    checkpoints; with --val, best.safetensors. Several processes: `accelerate launch -m tsdistill distill
    ...`, or torchrun.
    """
    training_output.check(params)
    teachers, archs, shares = params["teachers"], params["teacher_archs"], params["teacher_weights"]
    if len(archs) > 1 and len(archs) != len(teachers):
        raise TsdistillError(
            f"{len(archs)} --teacher-arch for {len(teachers)} --teacher; give one for all, or one each"
        )
    if shares and (len(teachers) < 2 or len(shares) != len(teachers)):
        raise TsdistillError(
            f"{len(shares)} --teacher-weight for {len(teachers)} --teacher; give several and one weight each"
        )
    if student is None and params["width"] is None:
        raise TsdistillError("there is no STUDENT; name one, or give --width for TEACHER's architecture")
    options = training_options.resolved(params)
    import torch

    import tsdistill as tsd

    torch.manual_seed(options.seed)
    preprocessing = training_options.load_arguments(params)
    with progress_display.stage("reading the models"):
        each = archs if len(archs) == len(teachers) else [*(archs or (None,))] * len(teachers)
        loaded = [
            tsd.load(name, arch=arch, **preprocessing) for name, arch in zip(teachers, each, strict=True)
        ]
        learner = loaded[0] if student is None else tsd.load(student, arch=params["arch"], **preprocessing)
        learner, message = training_options.at_width(learner, params["width"], options.seed)
    named = {"teacher": teachers[0] if len(teachers) == 1 else list(teachers)}
    identity = {"student": student, **named, **training_options.files(params, "width")}
    with training_output.training_display(options.epochs, options.steps) as (progress, report):
        result = tsd.distill(
            learner,
            loaded,
            teacher_weights=shares or None,
            **training_options.train_arguments(params, options),
            identity=identity,
            progress=progress,
            report=report,
        )
    training_output.show_result(result, message, params["json_file"])
