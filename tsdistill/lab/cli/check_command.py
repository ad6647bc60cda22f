"""``tsdistill lab check``: how far the theorems' conditions hold for a model and its teacher."""

from __future__ import annotations

from typing import Any

import click

from tsdistill.cli import output, progress_display, shared_options
from tsdistill.cli.command import Command, Option
from tsdistill.errors import TsdistillError


@click.command(
    "check",
    cls=Command,
    epilog=shared_options.EPILOG,
    examples=(
        ("tsdistill lab check student.pt --teacher teacher.pt --data x.npz", "how far the theory holds"),
        ("tsdistill lab check student.pt --teacher teacher.pt --data x.npz --points 16", "more samples"),
        ("tsdistill lab check student.pt --teacher teacher.pt --json -", "for machines"),
    ),
)
@click.argument("model", metavar="MODEL")
@shared_options.teacher_options
@shared_options.model_options
@shared_options.data_option()
@shared_options.sample_options
@click.option(
    "--points",
    cls=Option,
    section="Data",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    metavar="N",
    help="Samples moved onto the boundary of each of the teacher's lowest nodes.",
)
@shared_options.json_option("what was measured")
@progress_display.progress_options
def command(model: str, points: int, json_file: str | None, **params: Any) -> None:
    """Measure how far the theorems' conditions hold for MODEL and its teacher.

    Measures the gradient of Lemma 1 at each sample, how close the activations are to rectifiers, and which of
    the teacher's lowest nodes have a boundary that is crossed by the data and observed by student nodes. The
    result says how far the pruning candidates of `tsdistill analyze` can be trusted.
    """
    output.check(output.Output("--json", json_file))
    if not params["teacher"]:
        raise TsdistillError("lab check needs a teacher: give --teacher MODEL")
    from tsdistill.lab import check
    from tsdistill.models import info_of

    with progress_display.stage(f"reading {model}"):
        student, teacher = shared_options.load_models(model, params)
    assert teacher is not None
    with progress_display.progress() as tell:
        conditions = check(
            student,
            teacher,
            params["data"],
            points=points,
            inputs=shared_options.data_values(params),
            seed=params["seed"],
            progress=tell,
        )
    if json_file:
        from tsdistill.lab.figures.outcome_files import to_plain

        output.write_json(json_file, to_plain({"format": 1, "kind": "lab check", **conditions.to_dict()}))
    if json_file != output.STDOUT:
        from tsdistill.lab.figures.terminal_tables import conditions_report

        console = output.console()
        for shown in conditions_report(conditions, (*info_of(student).notes, *info_of(teacher).notes)):
            console.print(shown)
