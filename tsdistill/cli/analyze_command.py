"""``tsdistill analyze``: which nodes carry what the model has learnt."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tsdistill.cli import output, progress_display, several_processes, shared_options, terminal
from tsdistill.cli.command import Command, option
from tsdistill.errors import TsdistillError

if TYPE_CHECKING:
    from rich.console import Console
    from torch import nn

    from tsdistill.alignment import AlignmentHistory, AlignmentReport, GroupReport
    from tsdistill.runtime.progress import Progress

PICTURES = (".png", ".svg", ".pdf")
FAILED = 1
"""Exit code when the report is there but a metric is not in it."""


@click.command(
    "analyze",
    cls=Command,
    epilog=shared_options.EPILOG,
    examples=(
        ("tsdistill analyze weights.pt --data photos/", "what carries the output, and what could go"),
        ("tsdistill analyze student.pt --teacher teacher.pt --data x.npz --report page.html", "two models"),
        ("tsdistill analyze ckpt-*.pt --teacher teacher.pt --data x.npz --json -", "how a training went"),
    ),
)
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@shared_options.teacher_options
@shared_options.model_options
@shared_options.data_options
@shared_options.alignment_options
@option("Output", "--nodes", multiple=True, metavar="GROUP", help="Show every node of this group.")
@option("Output", "--all-nodes", is_flag=True, help="Show every node of every group.")
@option(
    "Output",
    "--cuts/--no-cuts",
    default=True,
    show_default=True,
    help="Predict what cuts to 0.9, 0.75, 0.5 and 0.25 of the MACs would do to the output.",
)
@option("Output", "--report", "page", metavar="FILE.html", help="Write the report as a page for a browser.")
@option("Output", "--plots", metavar="DIR", help="Draw every figure into this folder (.png and .svg).")
@option("Output", "--curve", metavar="FILE", help="Draw the L-shaped curve (.png, .svg, .pdf).")
@shared_options.json_option("the report")
@progress_display.progress_options
def command(models: tuple[str, ...], **params: Any) -> None:
    """Lay a teacher's nodes beside those of MODEL and show which have learnt which, and what can go.

    Without --teacher MODEL is its own teacher: a node's best match is then looked for among the other nodes.

    Several MODELs are checkpoints of one training, taken in the natural order of their names (ckpt-2 before
    ckpt-10): the report then shows how every teacher node was learnt, and the last of them in full. Without
    --teacher the last is the teacher.
    """
    _check(params, len(models) > 1)
    with several_processes.joined(params) as leader:
        report, history, notes = _analyze(models, params)
        if not leader:
            return
        groups = _chosen(report, params["nodes"], params["all_nodes"])
        _write(report, history, params)
        if params["json_file"] != output.STDOUT:
            _show(output.console(), report, history, groups, notes)
        _end(report)


def _analyze(
    models: tuple[str, ...], params: dict[str, Any]
) -> tuple[AlignmentReport, AlignmentHistory | None, tuple[str, ...]]:
    """The report, how it came about when there are several checkpoints, and what loading had to say."""
    import tsdistill as tsd

    analysis = shared_options.analysis_values(params)
    history: AlignmentHistory | None = None
    notes: tuple[str, ...] = ()
    if len(models) > 1:
        in_order = sorted(models, key=natural)
        arguments = shared_options.load_arguments(params)
        with progress_display.progress() as callback:
            history = tsd.analyze_training(
                in_order,
                params["teacher"],
                params["data"],
                arch=params["arch"],
                teacher_arch=params["teacher_arch"],
                analysis=analysis,
                inputs=replace(shared_options.data_values(params), **arguments["inputs"].to_dict()),
                trust=arguments["trust"],
                device=arguments["device"],
                seed=params["seed"],
                progress=callback,
            )
        report = history.final
    else:
        with progress_display.stage(f"reading {models[0]}"):
            student, teacher = shared_options.load_models(models[0], params)
        notes = tsd.info_of(student).notes
        with progress_display.progress() as callback:
            if params["cuts"]:
                from tsdistill.pruning.cut_prediction import prediction_stages
                from tsdistill.runtime.progress import expect

                expect(callback, prediction_stages())
            report = tsd.analyze(
                student,
                teacher,
                params["data"],
                analysis=replace(analysis, for_pruning=params["cuts"]),
                inputs=shared_options.data_values(params, student),
                seed=params["seed"],
                progress=callback,
            )
            if params["cuts"]:
                report = _with_cuts(report, student, models[0], params, callback)
    report = _counted(report, params["samples"])
    return report, replace(history, final=report) if history else None, notes


def _with_cuts(
    report: AlignmentReport, model: nn.Module, name: str, params: dict[str, Any], callback: Progress | None
) -> AlignmentReport:
    """The report with what cuts would cost, or with a note where that cannot be said."""
    import tsdistill as tsd
    from tsdistill.cli.command_text import prune_command

    try:
        cuts = tsd.predict_cuts(
            model,
            params["data"],
            report=report,
            inputs=shared_options.data_values(params, model),
            seed=params["seed"],
            progress=callback,
        )
    except TsdistillError as error:
        return replace(report, notes=(*report.notes, f"what cuts would cost cannot be predicted: {error}"))
    return replace(report, cuts=replace(cuts, command=prune_command(name, params)))


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts names as people do: numbers in them by their value."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part]


def _check(params: dict[str, Any], several: bool) -> None:
    """Refuse what cannot work, before anything is loaded.

    Raises:
        TsdistillError: an output that cannot be written, or options that do not go together.
    """
    curve, page, plots = params["curve"], params["page"], params["plots"]
    output.check(
        output.Output("--json", params["json_file"]),
        output.Output("--curve", curve),
        output.Output("--report", None if page == output.STDOUT else page),
        output.Output("--plots", plots, _plots() if plots else ()),
    )
    check_picture("--curve", curve)
    if page == output.STDOUT:
        raise TsdistillError("--report - : a page goes to a file; name one that ends in .html")
    if params["pairs"] and not (params["teacher"] or several):
        raise TsdistillError("--pair goes with --teacher; say which model the other group is in")


def check_picture(option: str, file: str | None) -> None:
    """Refuse a file that is no picture.

    Raises:
        TsdistillError: names the option and the suffixes there are.
    """
    if file and Path(file).suffix.lower() not in PICTURES:
        raise TsdistillError(f"{option} {file}: a picture ends in {', '.join(PICTURES)}; name another")


def _plots() -> tuple[str, ...]:
    from tsdistill.report.plots import FILES

    return FILES


def _counted(report: AlignmentReport, asked: int | None) -> AlignmentReport:
    """The report with a note when there were fewer samples than the user asked for."""
    if asked is None or report.samples >= asked:
        return report
    note = f"--samples {asked}: the data have no more than {report.samples}"
    return replace(report, notes=(*report.notes, note))


def _chosen(report: AlignmentReport, named: tuple[str, ...], every: bool) -> list[GroupReport]:
    known = report.by_name
    for name in named:
        if name not in known:
            raise TsdistillError(f"--nodes {name}: there is no such group; groups are {', '.join(known)}")
    return list(report.groups) if every else [known[name] for name in named]


def _write(report: AlignmentReport, history: AlignmentHistory | None, params: dict[str, Any]) -> None:
    """Write the files that are asked for."""
    if curve := params["curve"]:
        from tsdistill.report.curve_figure import save_l_curve

        with progress_display.stage(f"drawing {curve}"):
            save_l_curve(report, curve)
    if plots := params["plots"]:
        from tsdistill.report.plots import save_plots

        with progress_display.stage(f"drawing into {plots}"):
            save_plots(report, plots, history=history)
    if page := params["page"]:
        from tsdistill.report.page import save_page

        with progress_display.stage(f"writing {page}"):
            save_page(report, page, history=history)
    if params["json_file"]:
        output.write_json(params["json_file"], (history or report).to_dict())


def _show(
    console: Console,
    report: AlignmentReport,
    history: AlignmentHistory | None,
    groups: list[GroupReport],
    notes: tuple[str, ...],
) -> None:
    from tsdistill.report.branch_table import branches_table
    from tsdistill.report.cut_table import cuts_table
    from tsdistill.report.report_text import header_lines, timing_line
    from tsdistill.report.tables import curve_table, groups_table, nodes_table

    for line in header_lines(report, (*notes, *(history.notes if history else ()))):
        console.print(line)
    if history:
        from tsdistill.report.history_table import history_table

        console.print()
        console.print(history_table(history))
    console.print()
    console.print(groups_table(report))
    if report.branches:
        console.print()
        console.print(branches_table(report.branches, report.params, report.macs))
    if report.cuts:
        console.print()
        console.print(cuts_table(report.cuts))
    for group in groups:
        console.print()
        console.print(curve_table(report, group))
        console.print(nodes_table(report, group))
    console.print()
    console.print(timing_line(report))


def _end(report: AlignmentReport) -> None:
    """Name every metric that raised, and where it comes from; leave with exit code 1 when one did."""
    if not report.failed:
        return
    from tsdistill import plugins

    for name, message in report.failed.items():
        where = plugins.origin("alignment metric", name)
        terminal.complain(f"the metric {name} ({where}) failed and is left out: {message}")
    raise click.exceptions.Exit(FAILED)
