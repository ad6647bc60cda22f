"""``tsdistill distill``: a student that learns what a teacher does."""

from __future__ import annotations

from typing import Any

import click

from tsdistill.cli import options, output, training_options, training_output
from tsdistill.errors import TsdistillError


@click.command(
    "distill", epilog=" ".join(options.MODEL_HELP.split()).replace("MODEL is", "STUDENT and TEACHER are")
)
@click.argument("student", metavar="[STUDENT]", required=False)
@click.option("--teacher", metavar="TEACHER", required=True, help="The model to learn from.")
@click.option("--teacher-arch", metavar="SPEC", help="Architecture of the teacher's file.")
@click.option(
    "--cache-teacher", is_flag=True, default=None, help="Keep its outputs on disk; for fixed samples."
)
@click.option(
    "--shard-teacher", is_flag=True, default=None, help="Spread its weights over the processes (FSDP)."
)
@training_options.training_options
def command(student: str | None, **given: Any) -> None:
    """Train STUDENT to do what TEACHER does on --data, and write it to the folder OUT.

    With --width the student begins afresh: STUDENT's architecture (without STUDENT, TEACHER's) at that width.

    No labels are needed unless a loss reads them. OUT holds model.safetensors, options.json, log.jsonl and
    checkpoints; with --val, best.safetensors. Several processes: `accelerate launch -m tsdistill distill
    ...`, or torchrun.
    """
    training_output.check(given)
    if student is None and given["width"] is None:
        raise TsdistillError("there is no STUDENT; name one, or give --width for TEACHER's architecture")
    flags = (*training_options.NAMES, "cache_teacher", "shard_teacher")
    how = training_options.resolved(given, flags=flags)
    import torch

    import tsdistill as tsd

    torch.manual_seed(how.seed)
    looks = training_options.loading(given)
    with output.working("loading the models"):
        teacher = tsd.load(given["teacher"], arch=given["teacher_arch"], **looks)
        learner = teacher if student is None else tsd.load(student, arch=given["arch"], **looks)
        learner, said = training_options.at_width(learner, given["width"], how.seed)
    identity = {"student": student, **training_options.files(given, "teacher", "width")}
    with training_output.showing(how.epochs) as (tell, report):
        result = tsd.distill(
            learner,
            teacher,
            **training_options.running(given, how),
            identity=identity,
            tell=tell,
            report=report,
        )
    training_output.tell_result(result, said, given["json_file"])
