"""``tsdistill lab check``: how far the theorems' conditions hold for a model and its teacher."""

from __future__ import annotations

from typing import Any

import click

from tsdistill.cli import options, output, progress_display
from tsdistill.errors import TsdistillError


@click.command("check", epilog=" ".join(options.MODEL_HELP.split()))
@click.argument("model", metavar="MODEL")
@options.teacher_options
@options.model_options
@click.option("--data", metavar="SPEC", help=" ".join(options.DATA_HELP.split()))
@options.sample_options
@click.option(
    "--points",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    metavar="N",
    help="Samples moved onto the boundary of each of the teacher's lowest nodes.",
)
@click.option("--json", "json_file", metavar="FILE|-", help="Write what was measured as JSON; - for stdout.")
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

    with progress_display.working(f"reading {model}"):
        student, teacher = options.load_models(model, params)
    assert teacher is not None
    reading = options.reading(params)
    if reading["samples"] is None:
        del reading["samples"]
    with progress_display.progress() as tell:
        conditions = check(student, teacher, params["data"], points=points, progress=tell, **reading)
    if json_file:
        from tsdistill.lab.figures.outcome_files import to_plain

        output.write_json(json_file, to_plain({"format": 1, "kind": "lab check", **conditions.to_dict()}))
    if json_file != output.STDOUT:
        from tsdistill.lab.figures.terminal_tables import conditions_report

        console = output.console()
        for shown in conditions_report(conditions, (*info_of(student).notes, *info_of(teacher).notes)):
            console.print(shown)
