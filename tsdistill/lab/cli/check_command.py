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
def command(model: str, points: int, json_file: str | None, **given: Any) -> None:
    """Measure how far the theorems' conditions hold for MODEL and the teacher that it has learnt from.

    The gradient of Lemma 1 at each sample, how much of a rectifier the activations are, and which of the
    teacher's lowest nodes have a boundary that samples see and student nodes observe: how much the
    candidates for pruning that `tsdistill analyze` names can be trusted.
    """
    output.check(output.Output("--json", json_file))
    if not given["teacher"]:
        raise TsdistillError("there is no teacher to learn from; name one with --teacher MODEL")
    from tsdistill.lab import check
    from tsdistill.models import info_of

    with progress_display.working(f"reading {model}"):
        student, teacher = options.load_models(model, given)
    assert teacher is not None
    how = options.reading(given)
    if how["samples"] is None:
        del how["samples"]
    with progress_display.progress() as tell:
        found = check(student, teacher, given["data"], points=points, progress=tell, **how)
    if json_file:
        from tsdistill.lab.figures.outcome_files import plain

        output.write_json(json_file, plain({"format": 1, "kind": "lab check", **found.to_dict()}))
    if json_file != output.STDOUT:
        from tsdistill.lab.figures.terminal_tables import conditions_shown

        console = output.console()
        for shown in conditions_shown(found, (*info_of(student).notes, *info_of(teacher).notes)):
            console.print(shown)
